package smtpkit

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"strings"
	"time"
)

// A Client is an SMTP client that sends messages of any length in constant memory.
type Client struct {
	Conn   net.Conn
	within time.Duration
	in     *bufio.Reader
	out    *bufio.Writer
}

// Dial connects and sends EHLO. The whole session must end within the given time.
func Dial(address string, within time.Duration) (*Client, error) {
	conn, err := net.DialTimeout("tcp", address, 10*time.Second)
	if err != nil {
		return nil, err
	}
	_ = conn.SetDeadline(time.Now().Add(within))
	c := &Client{Conn: conn, within: within, in: bufio.NewReaderSize(conn, 1<<10), out: bufio.NewWriterSize(conn, 32<<10)}
	if err = c.expect('2'); err == nil {
		err = c.Command('2', "EHLO client.example")
	}
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return c, nil
}

// Command sends a command and reads the reply, whose code must begin with class.
func (c *Client) Command(class byte, command string) error {
	_, _ = c.out.WriteString(command)
	_, _ = c.out.WriteString("\r\n")
	if err := c.out.Flush(); err != nil {
		return err
	}
	return c.expect(class)
}

func (c *Client) expect(class byte) error {
	for {
		line, err := c.in.ReadSlice('\n')
		if err != nil {
			return err
		}
		if len(line) < 4 || line[0] != class {
			return fmt.Errorf("reply: %s", strings.TrimSpace(string(line)))
		}
		if line[3] == ' ' {
			return nil
		}
	}
}

// Begin begins a transaction and waits for the reply to DATA.
func (c *Client) Begin(from, to string) error {
	if err := c.Command('2', "MAIL FROM:<"+from+">"); err != nil {
		return err
	}
	if err := c.Command('2', "RCPT TO:<"+to+">"); err != nil {
		return err
	}
	return c.Command('3', "DATA")
}

// BeginPipelined is Begin with all commands in one piece (PIPELINING).
func (c *Client) BeginPipelined(from, to string) error {
	for _, command := range []string{"MAIL FROM:<" + from + ">", "RCPT TO:<" + to + ">", "DATA"} {
		_, _ = c.out.WriteString(command)
		_, _ = c.out.WriteString("\r\n")
	}
	if err := c.out.Flush(); err != nil {
		return err
	}
	for _, class := range []byte("223") {
		if err := c.expect(class); err != nil {
			return err
		}
	}
	return nil
}

// Write writes whole lines of a message, with CRLF.
func (c *Client) Write(p []byte) (n int, err error) {
	for n < len(p) {
		line := p[n:]
		if i := bytes.IndexByte(line, '\n'); i >= 0 {
			line = line[:i+1]
		}
		if line[0] == '.' {
			_ = c.out.WriteByte('.')
		}
		m, err := c.out.Write(line)
		n += m
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// Flush sends what is buffered.
func (c *Client) Flush() error { return c.out.Flush() }

// End ends a message and reads the reply.
func (c *Client) End() error { return c.Command('2', ".") }

// Send sends a whole message.
func (c *Client) Send(from, to string, message io.WriterTo) error {
	return c.send(c.Begin, from, to, message)
}

// SendPipelined sends a whole message, with the commands before it in one piece.
func (c *Client) SendPipelined(from, to string, message io.WriterTo) error {
	return c.send(c.BeginPipelined, from, to, message)
}

func (c *Client) send(begin func(from, to string) error, from, to string, message io.WriterTo) error {
	if err := begin(from, to); err != nil {
		return err
	}
	if _, err := message.WriteTo(c); err != nil {
		return err
	}
	return c.End()
}

// SendAndRedial sends a whole message, ends the session and begins a new one.
func (c *Client) SendAndRedial(from, to string, message io.WriterTo) error {
	if err := c.Send(from, to, message); err != nil {
		return err
	}
	if err := c.Quit(); err != nil {
		return err
	}
	fresh, err := Dial(c.Conn.RemoteAddr().String(), c.within)
	if err == nil {
		*c = *fresh
	}
	return err
}

// Quit ends the session.
func (c *Client) Quit() error {
	err := c.Command('2', "QUIT")
	_ = c.Conn.Close()
	return err
}
