package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"net/url"
	"strings"
	"time"
)

// A body is what a client gets from one URL, in one response or, when it breaks, in several.
type body struct {
	asked   *url.URL
	started time.Time
	// From the start to the first byte; 0 before.
	firstByte time.Duration
	size, got int64
	// The hex digest that it must have; empty if that is not to be verified.
	want     string
	digest   hash.Hash
	verified bool
}

func newBody(asked *url.URL, verify bool) *body {
	b := &body{asked: asked, started: time.Now()}
	if verify {
		if _, want, found := strings.Cut(asked.Path, "sha256:"); found {
			b.want, b.digest = want, sha256.New()
		}
	}
	return b
}

// Receive reads a response that is to have all bytes which are still missing.
func (b *body) receive(on *conn) error {
	if err := b.expect(on); err != nil {
		return err
	}
	// The first bytes are read normally, to measure when they arrive.
	if on.from == on.to && on.length > 0 {
		if err := on.fill(); err != nil {
			return err
		}
	}
	if b.firstByte == 0 {
		b.firstByte = time.Since(b.started)
	}
	read, err := b.read(on)
	b.got += read
	if err != nil {
		return err
	}
	if on.from != on.to {
		b.got = 0
		return fmt.Errorf("more than the announced %d bytes", on.length)
	}
	return b.compare()
}

// Expect checks that the response has what is missing, or everything once more.
func (b *body) expect(on *conn) error {
	switch {
	case on.status != 200 && (on.status != 206 || b.got == 0):
		return fmt.Errorf("status %d", on.status)
	case on.length < 0:
		return fmt.Errorf("no Content-Length")
	case on.status == 200:
		b.size, b.got = on.length, 0
		if b.digest != nil {
			b.digest.Reset()
		}
	case on.start != b.got || on.length != b.size-b.got:
		return fmt.Errorf("%d bytes from %d in place of %d from %d", on.length, on.start, b.size-b.got, b.got)
	}
	return nil
}

func (b *body) read(on *conn) (int64, error) {
	if b.digest == nil {
		return on.discard(on.length)
	}
	return on.copyTo(b.digest, on.length)
}

func (b *body) compare() error {
	if b.digest == nil {
		return nil
	}
	if got := hex.EncodeToString(b.digest.Sum(nil)); got != b.want {
		b.got = 0
		return fmt.Errorf("the body is sha256:%s", got)
	}
	b.verified = true
	return nil
}
