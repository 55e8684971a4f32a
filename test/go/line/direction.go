package main

import (
	"net"
	"time"
)

const (
	pieceBytes = 64 << 10
	// In flight in one direction. A gigabyte per second with a delay of 25 ms is 25 MB.
	maxPieces = 1024
	// How many pieces a limited line holds beyond those on their way, and again in each of its socket buffers.
	sparePieces = 4
	// On a busy machine timers are late, and so is the server. A line that they hold up for less than this is not idle.
	timerLate  = 50 * time.Millisecond
	serverLate = 5 * time.Millisecond
)

type piece struct {
	bytes []byte
	due   time.Time
}

// A direction of a connection. It reads no faster than its limits allow, and holds little more than is on its way, so
// that a sender whose receiver goes away has not sent much in vain.
type direction struct {
	from, to *net.TCPConn
	delay    time.Duration
	limits   []*limit
	// After so many bytes both ends are reset; 0: never.
	cutAfter int
	pieces   chan piece
	free     chan []byte
}

func newDirection(from, to *net.TCPConn, delay time.Duration, limits ...*limit) *direction {
	d := &direction{from: from, to: to, delay: delay}
	inFlight := maxPieces
	for _, limit := range limits {
		if limit.rate > 0 {
			d.limits = append(d.limits, limit)
			inFlight = min(inFlight, sparePieces+limit.pieces(delay))
		}
	}
	if d.limits != nil {
		from.SetReadBuffer(sparePieces * pieceBytes)
		to.SetWriteBuffer(sparePieces * pieceBytes)
	}
	d.pieces, d.free = make(chan piece, inFlight), make(chan []byte, inFlight)
	return d
}

// Pass copies until the input has ended, and then closes the output.
func (d *direction) pass() {
	cut := false
	go func() {
		defer close(d.pieces)
		cut = d.read()
	}()
	d.write()
	if cut {
		reset(d.to)
		reset(d.from)
	} else {
		d.to.CloseWrite()
	}
}

// Read puts pieces on the line until the input has ended, or it is to be cut, which it returns.
func (d *direction) read() (cut bool) {
	var sent time.Time
	for passed := 0; ; {
		bytes, asked := d.buffer(), time.Now()
		count, err := d.from.Read(bytes)
		passed += count
		if cut = d.cutAfter > 0 && passed >= d.cutAfter; cut {
			count -= passed - d.cutAfter
		}
		if count > 0 {
			sent = d.send(count, sent, asked)
			time.Sleep(time.Until(sent))
			d.pieces <- piece{bytes[:count], sent.Add(d.delay)}
		}
		if cut || err != nil {
			return cut
		}
	}
}

// Send returns when a piece is on the line that was asked for at a time, after the one before was sent.
func (d *direction) send(count int, before, asked time.Time) time.Time {
	now := time.Now()
	if len(d.limits) == 0 {
		return now
	}
	at := now
	if asked.Sub(before) < timerLate && now.Sub(asked) < serverLate {
		at = before
	}
	sent := at
	for _, limit := range d.limits {
		if end := limit.take(count, at); end.After(sent) {
			sent = end
		}
	}
	return sent
}

func (d *direction) write() {
	for each := range d.pieces {
		time.Sleep(time.Until(each.due))
		if _, err := d.to.Write(each.bytes); err != nil {
			d.from.Close()
			// Keeps the reader from blocking.
			for range d.pieces {
			}
			return
		}
		select {
		case d.free <- each.bytes[:pieceBytes]:
		default:
		}
	}
}

func (d *direction) buffer() []byte {
	select {
	case bytes := <-d.free:
		return bytes
	default:
		return make([]byte, pieceBytes)
	}
}

func reset(conn *net.TCPConn) {
	conn.SetLinger(0)
	conn.Close()
}
