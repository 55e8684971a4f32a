// A line to a server that is far away: connections are passed on to it, and every byte comes out of the line half a
// round trip after it went in, in either direction, however many are under way.
//
//	delay -to HOST:PORT -round-trip 50ms
//
// It prints the address that it listens on, and runs until it is ended.
package main

import (
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"time"
)

// What may be under way in one direction: a gigabyte a second at half of 50 ms is 25 MB.
const (
	pieceBytes   = 64 * 1024
	piecesAtOnce = 1024
)

type piece struct {
	bytes []byte
	due   time.Time
}

func main() {
	to := flag.String("to", "", "the server")
	roundTrip := flag.Duration("round-trip", 0, "how long there and back takes")
	flag.Parse()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(listener.Addr())
	for {
		near, err := listener.Accept()
		if err != nil {
			return
		}
		go connect(near, *to, *roundTrip)
	}
}

func connect(near net.Conn, to string, roundTrip time.Duration) {
	// The handshake goes there and back as well.
	time.Sleep(roundTrip)
	far, err := net.Dial("tcp", to)
	if err != nil {
		near.Close()
		return
	}
	go pass(near, far, roundTrip/2)
	pass(far, near, roundTrip/2)
}

// pass closes the way on when the way in has ended.
func pass(from, to net.Conn, delay time.Duration) {
	free := make(chan []byte, piecesAtOnce)
	line := make(chan piece, piecesAtOnce)
	go func() {
		defer close(line)
		for {
			var bytes []byte
			select {
			case bytes = <-free:
			default:
				bytes = make([]byte, pieceBytes)
			}
			count, err := from.Read(bytes[:pieceBytes])
			if count > 0 {
				line <- piece{bytes[:count], time.Now().Add(delay)}
			}
			if err != nil {
				return
			}
		}
	}()
	for each := range line {
		time.Sleep(time.Until(each.due))
		if _, err := to.Write(each.bytes); err != nil {
			from.Close()
			// So that the reader is not left waiting for room.
			for range line {
			}
			break
		}
		select {
		case free <- each.bytes:
		default:
		}
	}
	if half, ok := to.(interface{ CloseWrite() error }); ok {
		half.CloseWrite()
	}
	io.Copy(io.Discard, from)
}
