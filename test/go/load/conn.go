package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"strconv"
)

const maxHeadBytes = 16 << 10

// A conn is a connection and the response that is being read from it.
type conn struct {
	*net.TCPConn
	host string
	// buffer[from:to] has been read from the connection and not consumed.
	buffer   []byte
	from, to int
	// For bodies whose bytes are needed.
	scratch []byte

	status int
	// Content-Length; -1 if absent.
	length int64
	// The first byte of Content-Range; -1 if absent.
	start    int64
	location string
	close    bool
}

func (c *conn) fill() error {
	if c.from == c.to {
		c.from, c.to = 0, 0
	}
	if c.to == len(c.buffer) {
		return fmt.Errorf("the head is larger than %d bytes", maxHeadBytes)
	}
	n, err := c.Read(c.buffer[c.to:])
	c.to += n
	if n == 0 && err != nil {
		return fmt.Errorf("the connection broke: %w", err)
	}
	return nil
}

func (c *conn) readHead() error {
	end := -1
	for end < 0 {
		if err := c.fill(); err != nil {
			return err
		}
		end = bytes.Index(c.buffer[c.from:c.to], []byte("\r\n\r\n"))
	}
	status, fields, _ := bytes.Cut(c.buffer[c.from:c.from+end], []byte("\r\n"))
	c.from += end + len("\r\n\r\n")
	if !bytes.HasPrefix(status, []byte("HTTP/1.1 ")) || len(status) < len("HTTP/1.1 200") {
		return fmt.Errorf("invalid status line %q", status)
	}
	c.status, _ = strconv.Atoi(string(status[9:12]))
	c.length, c.start, c.location, c.close = -1, -1, "", false
	for field := range bytes.SplitSeq(fields, []byte("\r\n")) {
		name, value, _ := bytes.Cut(field, []byte(":"))
		value = bytes.TrimSpace(value)
		switch {
		case bytes.EqualFold(name, []byte("content-length")):
			length, err := strconv.ParseInt(string(value), 10, 64)
			if err != nil || length < 0 {
				return fmt.Errorf("invalid Content-Length %q", value)
			}
			c.length = length
		case bytes.EqualFold(name, []byte("content-range")):
			if _, err := fmt.Sscanf(string(value), "bytes %d-", &c.start); err != nil {
				return fmt.Errorf("invalid Content-Range %q", value)
			}
		case bytes.EqualFold(name, []byte("location")):
			c.location = string(value)
		case bytes.EqualFold(name, []byte("connection")):
			c.close = bytes.EqualFold(value, []byte("close"))
		}
	}
	return nil
}

// Buffered consumes up to length bytes that have been read already.
func (c *conn) buffered(length int64) []byte {
	had := c.buffer[c.from:min(c.to, c.from+int(min(length, maxHeadBytes)))]
	c.from += len(had)
	return had
}

// Discard consumes the next length bytes. It returns how many it has consumed, all of them unless it fails.
func (c *conn) discard(length int64) (int64, error) {
	had := int64(len(c.buffered(length)))
	if had == length {
		return had, nil
	}
	read, err := c.discardUnread(length - had)
	return had + read, err
}

// CopyTo writes the next length bytes to `to`. It returns how many it has consumed, all of them unless it fails.
func (c *conn) copyTo(to io.Writer, length int64) (int64, error) {
	had := c.buffered(length)
	read := int64(len(had))
	_, err := to.Write(had)
	if c.scratch == nil {
		c.scratch = make([]byte, 256<<10)
	}
	for read < length && err == nil {
		var n int
		n, err = c.Read(c.scratch[:min(length-read, int64(len(c.scratch)))])
		read += int64(n)
		to.Write(c.scratch[:n])
	}
	if read < length {
		return read, broken(length-read, err)
	}
	return read, nil
}

func broken(missing int64, err error) error {
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("the connection broke with %d bytes missing: %w", missing, err)
}
