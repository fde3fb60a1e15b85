// Package deadline has connections whose deadlines are cheap to move.
package deadline

import (
	"errors"
	"net"
	"os"
	"sync"
	"time"
)

// A Conn sets the deadlines of its connection only when it has to, since each call moves
// a timer, and a message makes dozens of calls. A deadline that moves to a later time is
// only noted; when the old one passes, the wait goes on until the new one. No wait
// becomes shorter or longer.
type Conn struct {
	net.Conn
	read, write timer
}

// New returns a Conn on conn, whose deadlines must not be set in any other way.
func New(conn net.Conn) *Conn {
	c := &Conn{Conn: conn}
	c.read.apply, c.write.apply = conn.SetReadDeadline, conn.SetWriteDeadline
	return c
}

// Read reads until the read deadline.
func (c *Conn) Read(p []byte) (int, error) {
	for {
		n, err := c.Conn.Read(p)
		if n > 0 || err == nil || !c.read.extended(err) {
			return n, err
		}
	}
}

// Write writes until the write deadline.
func (c *Conn) Write(p []byte) (int, error) {
	written := 0
	for {
		n, err := c.Conn.Write(p[written:])
		if written += n; err == nil || !c.write.extended(err) {
			return written, err
		}
	}
}

// SetReadDeadline sets the read deadline; the zero time is none.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.read.set(t) }

// SetWriteDeadline sets the write deadline; the zero time is none.
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.write.set(t) }

// SetDeadline sets both.
func (c *Conn) SetDeadline(t time.Time) error {
	if err := c.read.set(t); err != nil {
		return err
	}
	return c.write.set(t)
}

// A timer is one of a connection's two deadlines.
type timer struct {
	apply func(time.Time) error

	mu      sync.Mutex
	wanted  time.Time
	applied time.Time
}

// set notes a deadline, and applies it unless it only puts off the one before.
func (d *timer) set(t time.Time) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.wanted = t
	if d.applied.Equal(t) || !d.applied.IsZero() && (t.IsZero() || t.After(d.applied)) {
		return nil
	}
	d.applied = t
	return d.apply(t)
}

// extended reports whether err comes from a deadline that was put off, and if so puts off
// the connection's own.
func (d *timer) extended(err error) bool {
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.applied.Equal(d.wanted) || !d.wanted.IsZero() && !d.wanted.After(time.Now()) {
		return false
	}
	d.applied = d.wanted
	return d.apply(d.wanted) == nil
}
