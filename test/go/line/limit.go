package main

import (
	"sync"
	"time"
)

// A limit is a rate at which bytes pass. Whoever has bytes takes the next time that is free, and waits for its end
// before taking another: with pieces of one size, all get the same.
type limit struct {
	// In bytes per second; 0: no limit.
	rate  int
	mutex sync.Mutex
	// When all that was taken has passed.
	end time.Time
}

// Pieces returns how many pass in this time, at most.
func (l *limit) pieces(in time.Duration) int {
	return 1 + int(in.Seconds()*float64(l.rate)/pieceBytes)
}

// Take returns when bytes have passed that were there at a time.
func (l *limit) take(count int, at time.Time) time.Time {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	if l.end.Before(at) {
		l.end = at
	}
	l.end = l.end.Add(time.Duration(count) * time.Second / time.Duration(l.rate))
	return l.end
}
