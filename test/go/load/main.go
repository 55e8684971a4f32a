// Load makes parallel GETs over plain HTTP/1.1 and discards the bodies as cheaply as possible, so that it measures the
// server. Each client has connections of its own and requests the URLs in order, one at a time. Clients that share the
// URLs pull an image as one program does: the first URL is its manifest, which is requested alone, and then each takes
// the next one. It prints one line of JSON; on any error it exits with status 1 and a message.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"iter"
	"net/url"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// The command line.
type options struct {
	clients, requests int
	shared            bool
	headers           []string
	verify            bool
	retries           int
	timeout           time.Duration
}

type quantiles struct {
	P50 float64 `json:"p50"`
	P90 float64 `json:"p90"`
	P99 float64 `json:"p99"`
	Max float64 `json:"max"`
}

type result struct {
	WallMs float64 `json:"wallMs"`
	// Of the requested bodies, without those of redirects.
	Bytes    int64 `json:"bytes"`
	Requests int   `json:"requests"`
	// From the request to the first byte of the requested body.
	FirstByteMs quantiles `json:"firstByteMs"`
	TotalMs     quantiles `json:"totalMs"`
	// User and system time of this process while it measured.
	CPUMs      float64 `json:"cpuMs"`
	GOMAXPROCS int     `json:"gomaxprocs"`
	// How many digests were compared.
	Verified int `json:"verified"`
	// How many requests were made because one before had failed.
	Retried int `json:"retried"`
	// How many clients failed.
	Errors int `json:"errors"`
}

func main() {
	var ask options
	flag.IntVar(&ask.clients, "clients", 1, "number of clients")
	rounds := flag.Int("rounds", 1, "how often each client requests all URLs")
	flag.IntVar(&ask.requests, "requests", 0, "number of GETs per client, in place of rounds")
	flag.BoolVar(&ask.shared, "shared", false, "request the first URL once, then each other one by one of the clients")
	flag.IntVar(&ask.retries, "retries", 0, "how often what is missing of a body is requested again")
	flag.BoolVar(&ask.verify, "verify", false, "compare the bodies with the sha256 digests at the ends of their URLs")
	flag.DurationVar(&ask.timeout, "timeout", 10*time.Minute, "lifetime of a connection")
	flag.Func("H", "a header as `Name: value`, may be repeated", func(text string) error {
		if !strings.Contains(text, ":") {
			return fmt.Errorf("not of the form Name: value")
		}
		ask.headers = append(ask.headers, text)
		return nil
	})
	flag.Parse()
	if ask.requests == 0 {
		ask.requests = *rounds * flag.NArg()
	}
	if ask.clients < 1 || ask.requests < 1 || flag.NArg() == 0 {
		fail(fmt.Errorf("usage: load [-clients N] [-rounds R | -requests M | -shared] [-retries N] [-verify] URL…"))
	}
	var urls []*url.URL
	for _, text := range flag.Args() {
		at, err := url.Parse(text)
		if err != nil || at.Scheme != "http" || at.Host == "" {
			fail(fmt.Errorf("not an http URL: %s", text))
		}
		urls = append(urls, at)
	}
	measured, err := run(ask, urls)
	line, _ := json.Marshal(measured)
	fmt.Println(string(line))
	if err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "load:", err)
	os.Exit(1)
}

// Run returns the results and the first error of all clients.
func run(ask options, urls []*url.URL) (result, error) {
	all := make([]*client, ask.clients)
	errs := make([]error, ask.clients)
	for i := range all {
		all[i] = newClient(ask, ask.requests)
		defer all[i].close()
		// Connected before the clock starts: the time to accept connections is not to be measured.
		if _, err := all[i].connect(urls[0].Host); err != nil {
			return result{Errors: 1}, err
		}
	}
	next := inOrder(urls, ask.requests)
	if ask.shared {
		next = taken(urls[1:])
	}
	var done sync.WaitGroup
	start := make(chan struct{})
	for i, one := range all {
		done.Add(1)
		go func() {
			defer done.Done()
			<-start
			for asked := range next {
				if errs[i] = one.get(asked); errs[i] != nil {
					return
				}
			}
		}()
	}
	cpu, started := cpuTime(), time.Now()
	if ask.shared {
		if err := all[0].get(urls[0]); err != nil {
			return result{Errors: 1}, err
		}
	}
	close(start)
	done.Wait()
	wall, cpu := time.Since(started), cpuTime()-cpu

	sum := result{WallMs: ms(wall), CPUMs: ms(cpu), GOMAXPROCS: runtime.GOMAXPROCS(0)}
	var firstBytes, totals []time.Duration
	var first error
	for i, one := range all {
		sum.Bytes += one.bytes
		sum.Requests += len(one.totals)
		sum.Verified += one.verified
		sum.Retried += one.retried
		firstBytes = append(firstBytes, one.firstBytes...)
		totals = append(totals, one.totals...)
		if errs[i] != nil {
			sum.Errors++
			if first == nil {
				first = errs[i]
			}
		}
	}
	sum.FirstByteMs, sum.TotalMs = quantilesOf(firstBytes), quantilesOf(totals)
	return sum, first
}

// InOrder gives everybody who ranges over it all URLs in turn, so many in all.
func inOrder(urls []*url.URL, requests int) iter.Seq[*url.URL] {
	return func(yield func(*url.URL) bool) {
		for n := 0; n < requests && yield(urls[n%len(urls)]); n++ {
		}
	}
}

// Taken gives each URL to one of those who range over it.
func taken(urls []*url.URL) iter.Seq[*url.URL] {
	var count atomic.Int64
	return func(yield func(*url.URL) bool) {
		for {
			n := int(count.Add(1)) - 1
			if n >= len(urls) || !yield(urls[n]) {
				return
			}
		}
	}
}

func quantilesOf(values []time.Duration) quantiles {
	if len(values) == 0 {
		return quantiles{}
	}
	slices.Sort(values)
	at := func(percent int) float64 { return ms(values[(percent*len(values)+99)/100-1]) }
	return quantiles{P50: at(50), P90: at(90), P99: at(99), Max: at(100)}
}

func cpuTime() time.Duration {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		fail(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

func ms(d time.Duration) float64 {
	return float64(d.Microseconds()) / 1000
}
