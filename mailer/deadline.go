package mailer

import (
	"errors"
	"net"
	"os"
	"sync"
	"time"
)

// A patientConn sets a deadline of its connection when it has to, and not each
// time it is told one: each is a timer moved, and a message has dozens. A
// deadline that is put off is noted only; where the old one passes meanwhile,
// the wait goes on until the new one. What is waited for is not a moment
// shorter or longer for that.
type patientConn struct {
	net.Conn
	read, write deadline
}

func newPatientConn(conn net.Conn) *patientConn {
	c := &patientConn{Conn: conn}
	c.read.apply, c.write.apply = conn.SetReadDeadline, conn.SetWriteDeadline
	return c
}

func (c *patientConn) Read(p []byte) (int, error) {
	for {
		n, err := c.Conn.Read(p)
		if n > 0 || err == nil || !c.read.extended(err) {
			return n, err
		}
	}
}

func (c *patientConn) Write(p []byte) (int, error) {
	written := 0
	for {
		n, err := c.Conn.Write(p[written:])
		if written += n; err == nil || !c.write.extended(err) {
			return written, err
		}
	}
}

func (c *patientConn) SetReadDeadline(t time.Time) error  { return c.read.set(t) }
func (c *patientConn) SetWriteDeadline(t time.Time) error { return c.write.set(t) }

func (c *patientConn) SetDeadline(t time.Time) error {
	if err := c.read.set(t); err != nil {
		return err
	}
	return c.write.set(t)
}

// A deadline is one of a connection's two; the zero time is none.
type deadline struct {
	apply func(time.Time) error

	mu      sync.Mutex
	wanted  time.Time
	applied time.Time
}

// set notes a deadline, and applies one that is not put off.
func (d *deadline) set(t time.Time) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.wanted = t
	if d.applied.Equal(t) || !d.applied.IsZero() && (t.IsZero() || t.After(d.applied)) {
		return nil
	}
	d.applied = t
	return d.apply(t)
}

// extended reports whether err comes from a deadline that was put off, and puts
// the connection's own off then.
func (d *deadline) extended(err error) bool {
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
