//go:build linux && (amd64 || arm64)

package main

import (
	"io"
	"syscall"
)

const discardBytes = 1 << 20

// DiscardUnread lets the kernel discard the bytes: with MSG_TRUNC, recv(2) copies nothing (tcp(7)).
func (c *conn) discardUnread(length int64) (int64, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	var read int64
	var failed error
	err = raw.Read(func(fd uintptr) (done bool) {
		for read < length {
			want := uintptr(min(length-read, discardBytes))
			n, _, errno := syscall.Syscall6(syscall.SYS_RECVFROM, fd, 0, want, syscall.MSG_TRUNC, 0, 0)
			switch {
			case errno == syscall.EAGAIN:
				return false
			case errno == syscall.EINTR:
				continue
			case errno != 0:
				failed = errno
			case n == 0:
				failed = io.ErrUnexpectedEOF
			}
			if failed != nil {
				return true
			}
			read += int64(n)
		}
		return true
	})
	if err == nil {
		err = failed
	}
	if err != nil {
		return read, broken(length-read, err)
	}
	return read, nil
}
