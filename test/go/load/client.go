package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"
)

const maxRedirects = 5

// A client makes one request at a time.
type client struct {
	options
	// By host and port.
	conns              map[string]*conn
	request            []byte
	bytes              int64
	firstBytes, totals []time.Duration
	verified           int
}

func newClient(ask options, requests int) *client {
	return &client{
		options:    ask,
		conns:      map[string]*conn{},
		firstBytes: make([]time.Duration, 0, requests),
		totals:     make([]time.Duration, 0, requests),
	}
}

// Get follows redirects as registry clients do: with all headers except Authorization.
func (c *client) get(asked *url.URL) error {
	started := time.Now()
	for hop, at := 0, asked; hop <= maxRedirects; hop++ {
		on, err := c.ask(at, hop > 0)
		if err != nil {
			return fmt.Errorf("%s: %w", at, err)
		}
		if on.status != 307 {
			if err := c.receive(on, asked, started); err != nil {
				return fmt.Errorf("%s: %w", at, err)
			}
			return nil
		}
		if at, err = at.Parse(on.location); err != nil || at.Scheme != "http" {
			return fmt.Errorf("%s redirects to %q", asked, on.location)
		}
		// Chunked bodies of redirects are not supported: the connection is closed instead.
		if on.length < 0 || on.close {
			c.drop(on)
		} else if err := on.discard(on.length); err != nil {
			return fmt.Errorf("%s: %w", asked, err)
		}
	}
	return fmt.Errorf("%s: too many redirects", asked)
}

// Ask sends a request, and reads the head of the response.
func (c *client) ask(at *url.URL, redirected bool) (*conn, error) {
	on, err := c.connect(at.Host)
	if err != nil {
		return nil, err
	}
	c.request = fmt.Appendf(c.request[:0], "GET %s HTTP/1.1\r\nHost: %s\r\n", at.RequestURI(), at.Host)
	for _, header := range c.headers {
		name, _, _ := strings.Cut(header, ":")
		if !redirected || !strings.EqualFold(strings.TrimSpace(name), "authorization") {
			c.request = append(append(c.request, header...), "\r\n"...)
		}
	}
	if _, err := on.Write(append(c.request, "\r\n"...)); err != nil {
		return nil, err
	}
	return on, on.readHead()
}

// Receive reads the requested body.
func (c *client) receive(on *conn, asked *url.URL, started time.Time) error {
	if on.status != 200 {
		return fmt.Errorf("status %d", on.status)
	}
	if on.length < 0 {
		return fmt.Errorf("no Content-Length")
	}
	// The first bytes are read normally, to measure when they arrive.
	if on.from == on.to && on.length > 0 {
		if err := on.fill(); err != nil {
			return err
		}
	}
	firstByte := time.Since(started)
	read := on.discard
	if c.verify {
		read = func(length int64) error { return c.compare(on, asked, length) }
	}
	if err := read(on.length); err != nil {
		return err
	}
	if on.from != on.to {
		return fmt.Errorf("more than the announced %d bytes", on.length)
	}
	c.totals = append(c.totals, time.Since(started))
	c.firstBytes = append(c.firstBytes, firstByte)
	c.bytes += on.length
	if on.close {
		c.drop(on)
	}
	return nil
}

// Compare reads a body and compares its digest with the one at the end of its URL, if any.
func (c *client) compare(on *conn, asked *url.URL, length int64) error {
	digest := sha256.New()
	if err := on.copyTo(digest, length); err != nil {
		return err
	}
	_, want, found := strings.Cut(asked.Path, "sha256:")
	if !found {
		return nil
	}
	if got := hex.EncodeToString(digest.Sum(nil)); got != want {
		return fmt.Errorf("the body is sha256:%s", got)
	}
	c.verified++
	return nil
}

func (c *client) connect(host string) (*conn, error) {
	if on, found := c.conns[host]; found {
		return on, nil
	}
	dialled, err := net.Dial("tcp", host)
	if err != nil {
		return nil, err
	}
	on := &conn{TCPConn: dialled.(*net.TCPConn), host: host, buffer: make([]byte, maxHeadBytes)}
	c.conns[host] = on
	// Set once, because setting it per request has a cost.
	return on, on.SetDeadline(time.Now().Add(c.timeout))
}

func (c *client) drop(on *conn) {
	on.Close()
	delete(c.conns, on.host)
}

func (c *client) close() {
	for _, on := range c.conns {
		on.Close()
	}
}
