package main

import (
	"os"

	"golang.org/x/sys/unix"
)

// unread returns the number of unread bytes in a pipe.
func unread(pipe *os.File) int {
	c, err := pipe.SyscallConn()
	if err != nil {
		return -1
	}
	n := -1
	if err := c.Control(func(fd uintptr) { n, err = unix.IoctlGetInt(int(fd), unix.TIOCINQ) }); err != nil {
		return -1
	}
	return n
}
