// Delay is a TCP proxy that simulates a distant server: every byte arrives half a round trip after it was sent, in
// either direction, without limiting throughput.
//
//	delay -to HOST:PORT -round-trip 50ms
//
// It prints the address that it listens on, and runs until it is killed.
package main

import (
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"time"
)

// The limit of bytes in flight in one direction. A gigabyte per second with a delay of 25 ms is 25 MB.
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
	roundTrip := flag.Duration("round-trip", 0, "the round-trip time")
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
	// The handshake takes a round trip as well.
	time.Sleep(roundTrip)
	far, err := net.Dial("tcp", to)
	if err != nil {
		near.Close()
		return
	}
	go pass(near, far, roundTrip/2)
	pass(far, near, roundTrip/2)
}

// pass copies one direction, and closes its end when the input has ended.
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
			// Keeps the reader from blocking.
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
