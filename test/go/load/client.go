package main

import (
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
	verified, retried  int
}

func newClient(ask options, requests int) *client {
	return &client{
		options:    ask,
		conns:      map[string]*conn{},
		firstBytes: make([]time.Duration, 0, requests),
		totals:     make([]time.Duration, 0, requests),
	}
}

// Get requests a body, and what is missing of it again when it breaks, as often as the options allow.
func (c *client) get(asked *url.URL) error {
	wanted := newBody(asked, c.verify)
	err := c.follow(wanted)
	for left := c.retries; err != nil && left > 0; left-- {
		c.retried++
		err = c.follow(wanted)
	}
	if err != nil {
		return err
	}
	c.totals = append(c.totals, time.Since(wanted.started))
	c.firstBytes = append(c.firstBytes, wanted.firstByte)
	c.bytes += wanted.got
	if wanted.verified {
		c.verified++
	}
	return nil
}

// Follow follows redirects as registry clients do: with all headers except Authorization.
func (c *client) follow(wanted *body) error {
	asked := wanted.asked
	for hop, at := 0, asked; hop <= maxRedirects; hop++ {
		on, err := c.ask(at, hop > 0, wanted.got)
		if err != nil {
			return fmt.Errorf("%s: %w", at, err)
		}
		if on.status != 307 {
			if err := wanted.receive(on); err != nil {
				c.drop(on)
				return fmt.Errorf("%s: %w", at, err)
			}
			if on.close {
				c.drop(on)
			}
			return nil
		}
		if at, err = at.Parse(on.location); err != nil || at.Scheme != "http" {
			return fmt.Errorf("%s redirects to %q", asked, on.location)
		}
		// Chunked bodies of redirects are not supported: the connection is closed instead.
		if on.length < 0 || on.close {
			c.drop(on)
		} else if _, err := on.discard(on.length); err != nil {
			c.drop(on)
			return fmt.Errorf("%s: %w", asked, err)
		}
	}
	return fmt.Errorf("%s: too many redirects", asked)
}

// Ask sends a request for the bytes from here on, and reads the head of the response.
func (c *client) ask(at *url.URL, redirected bool, from int64) (*conn, error) {
	c.request = fmt.Appendf(c.request[:0], "GET %s HTTP/1.1\r\nHost: %s\r\n", at.RequestURI(), at.Host)
	if from > 0 {
		c.request = fmt.Appendf(c.request, "Range: bytes=%d-\r\n", from)
	}
	for _, header := range c.headers {
		name, _, _ := strings.Cut(header, ":")
		if !redirected || !strings.EqualFold(strings.TrimSpace(name), "authorization") {
			c.request = append(append(c.request, header...), "\r\n"...)
		}
	}
	c.request = append(c.request, "\r\n"...)
	_, open := c.conns[at.Host]
	on, err := c.send(at.Host)
	if err != nil && open {
		// Servers close connections that are idle for long.
		on, err = c.send(at.Host)
	}
	return on, err
}

func (c *client) send(host string) (*conn, error) {
	on, err := c.connect(host)
	if err != nil {
		return nil, err
	}
	if _, err = on.Write(c.request); err == nil {
		err = on.readHead()
	}
	if err != nil {
		c.drop(on)
		return nil, err
	}
	return on, nil
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
