// Line is a TCP proxy that simulates the line to a distant server: every byte arrives half a round trip after it was
// sent, in either direction. What the server sends may be limited, and some connections may be cut.
//
//	line -to HOST:PORT [-port PORT] -round-trip 50ms [-rate BYTES] [-total BYTES] [-cut SHARE [-seed N]]
//
// It prints the address that it listens on, and runs until it is killed.
package main

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"time"
)

// What the server sends on a connection is cut within so many bytes, or within the next as many, and so on.
const stretchBytes = 64 << 20

// The command line.
type options struct {
	to        string
	port      int
	roundTrip time.Duration
	// In bytes per second; 0: no limit.
	rate, total int
	cut         float64
	seed        uint64
}

func main() {
	var ask options
	flag.StringVar(&ask.to, "to", "", "the server")
	flag.IntVar(&ask.port, "port", 0, "the port to listen on; 0: any free one")
	flag.DurationVar(&ask.roundTrip, "round-trip", 0, "the round-trip time")
	flag.IntVar(&ask.rate, "rate", 0, "the bytes per second that the server sends on one connection; 0: no limit")
	flag.IntVar(&ask.total, "total", 0, "the bytes per second of all connections, which share them; 0: no limit")
	flag.Float64Var(&ask.cut, "cut", 0, "the share of connections that are reset in each 64 MiB that they pass on")
	flag.Uint64Var(&ask.seed, "seed", 0, "decides which connections are cut, and where")
	flag.Parse()
	listener, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: ask.port})
	if err != nil {
		fmt.Fprintln(os.Stderr, "line:", err)
		os.Exit(1)
	}
	fmt.Println(listener.Addr())
	serve(listener, ask)
}

func serve(listener *net.TCPListener, ask options) {
	random := rand.New(rand.NewPCG(ask.seed, 0))
	total := &limit{rate: ask.total}
	for {
		near, err := listener.AcceptTCP()
		if err != nil {
			return
		}
		// In the order of connections, so that the same ones are cut at the same bytes each time.
		go connect(near, ask, total, drawCut(random, ask.cut))
	}
}

// DrawCut returns after how many bytes a connection is cut; 0: never.
func drawCut(random *rand.Rand, share float64) int {
	if share == 0 {
		return 0
	}
	survived := 0
	for random.Float64() >= share {
		survived += stretchBytes
	}
	return survived + 1 + random.IntN(stretchBytes)
}

func connect(near *net.TCPConn, ask options, total *limit, cutAfter int) {
	defer near.Close()
	// The handshake takes a round trip as well.
	time.Sleep(ask.roundTrip)
	dialled, err := net.Dial("tcp", ask.to)
	if err != nil {
		return
	}
	far := dialled.(*net.TCPConn)
	defer far.Close()
	up := newDirection(near, far, ask.roundTrip/2)
	down := newDirection(far, near, ask.roundTrip/2, &limit{rate: ask.rate}, total)
	down.cutAfter = cutAfter
	var both sync.WaitGroup
	both.Add(2)
	for _, each := range []*direction{up, down} {
		go func() {
			defer both.Done()
			each.pass()
		}()
	}
	both.Wait()
}
