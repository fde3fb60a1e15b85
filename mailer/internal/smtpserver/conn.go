package smtpserver

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime/debug"
	"sync"
	"time"

	"github.com/emersion/go-smtp"
	"github.com/qkdmail/qkdmail/mailer/internal/contract"
	"github.com/qkdmail/qkdmail/mailer/internal/deadline"
)

// A Conn is the connection of a client. It is the [contract.Client] of a session.
type Conn struct {
	server   *Server
	settings Settings
	raw      *deadline.Conn // the client's connection
	conn     net.Conn       // the same, or TLS on it
	in       input          // of conn
	out      replies

	session  contract.Session // nil until the client has introduced itself
	hello    string
	extended bool     // it said EHLO or LHLO
	mail     bool     // a transaction is under way
	rcpts    []string // accepted in it
	authed   bool
	refused  int // commands refused in a row, here or by authentication
	data     dataState
	xforward map[string]string

	mu       sync.Mutex
	waiting  bool // for a command: the connection may be ended
	stopping bool // the server is stopping
	gone     bool // closed, or about to be
}

var _ contract.Client = (*Conn)(nil)

// maxRefused is how many commands in a row the server refuses without a session before
// it hangs up.
const maxRefused = 10

func newConn(s *Server, conn net.Conn, settings Settings) *Conn {
	raw := deadline.New(conn)
	return &Conn{server: s, settings: settings, raw: raw, conn: raw, in: newInput(raw)}
}

// RemoteAddr returns the client's address.
func (c *Conn) RemoteAddr() net.Addr { return c.raw.RemoteAddr() }

// Hello returns the name that the client has introduced itself with.
func (c *Conn) Hello() string { return c.hello }

// Extended reports whether it did so with EHLO or LHLO.
func (c *Conn) Extended() bool { return c.extended }

// TLS reports whether the connection is in TLS.
func (c *Conn) TLS() bool {
	_, ok := c.conn.(*tls.Conn)
	return ok
}

// XForward returns the value of an attribute that a trusted client has set with
// XFORWARD, "" for none.
func (c *Conn) XForward(name string) string { return c.xforward[name] }

// Close sends the replies that are held, and closes the connection.
func (c *Conn) Close() error {
	_ = c.Flush()
	c.mu.Lock()
	c.gone = true
	c.mu.Unlock()
	return c.conn.Close() // with TLS's close_notify
}

// stop ends the connection if it is between two commands, or as soon as it is: a message
// under way is finished first.
func (c *Conn) stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stopping = true
	if c.waiting {
		_ = c.raw.SetReadDeadline(time.Unix(1, 0))
	}
}

// wait notes whether the connection waits for a command, and reports whether it goes on.
func (c *Conn) wait(waiting bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiting = waiting
	return !c.stopping
}

// serve carries out the client's commands until either side hangs up.
func (c *Conn) serve() {
	defer c.end()
	protocol := "ESMTP"
	if c.server.LMTP {
		protocol = "LMTP"
	}
	c.reply(220, smtp.NoEnhancedCode, c.server.Hostname+" "+protocol+" qkdmail")
	for !c.isGone() {
		if !c.wait(true) {
			c.hangUp(421, smtp.EnhancedCode{4, 3, 2}, "The relay is stopping, try again later")
			return
		}
		line, err := c.readCommand()
		goesOn := c.wait(false)
		switch {
		case err == nil:
			c.carryOut(string(line))
		case !goesOn:
			// the next turn says so
		case errors.Is(err, errLongCommand):
			c.refuse(500, smtp.EnhancedCode{5, 5, 2}, "Command too long")
		case errors.Is(err, os.ErrDeadlineExceeded):
			c.hangUp(421, smtp.EnhancedCode{4, 4, 2}, "Nothing came for too long")
			return
		default:
			return
		}
	}
}

func (c *Conn) isGone() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.gone
}

// end ends the session and the connection.
func (c *Conn) end() {
	c.logout()
	_ = c.Close()
	c.server.leave(c)
}

func (c *Conn) logout() {
	if s := c.session; s != nil {
		c.session = nil
		c.protect(func() { _ = s.Logout() })
	}
}

// protect keeps a panic in a session from ending the process.
func (c *Conn) protect(f func()) {
	defer func() {
		if p := recover(); p != nil {
			c.server.Logger.Error("panic in a session", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			c.hangUp(421, smtp.EnhancedCode{4, 3, 0}, "Internal error, try again later")
		}
	}()
	f()
}

// readCommand reads a command. Before it waits for one it sends the replies that are
// held.
func (c *Conn) readCommand() ([]byte, error) {
	if !c.in.hasLine() {
		if err := c.Flush(); err != nil {
			return nil, err
		}
	}
	if err := c.patience(); err != nil {
		return nil, err
	}
	return c.in.line()
}

// patience sets how long to wait for a command: not at all after stop, whose deadline
// must stay.
func (c *Conn) patience() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.gone:
		return net.ErrClosed
	case c.stopping:
		return os.ErrDeadlineExceeded
	case c.settings.Idle > 0:
		return c.conn.SetReadDeadline(time.Now().Add(c.settings.Idle))
	}
	return c.conn.SetReadDeadline(time.Time{})
}
