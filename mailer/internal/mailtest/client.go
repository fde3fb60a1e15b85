package mailtest

import (
	"bufio"
	"crypto/tls"
	"encoding/base64"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/qkdmail/qkdmail/mailer/relay/config"
)

// A Client is a raw client of a relay.
type Client struct {
	Conn net.Conn
	In   *bufio.Reader

	t testing.TB
}

// Dial connects and reads nothing.
func Dial(t testing.TB, addr net.Addr) *Client {
	t.Helper()
	conn, err := net.Dial(addr.Network(), addr.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	c := &Client{t: t, Conn: conn, In: bufio.NewReader(conn)}
	_ = conn.SetDeadline(time.Now().Add(Patience))
	return c
}

// Connect dials and says hello.
func Connect(t testing.TB, r *Relay) *Client {
	t.Helper()
	c := Dial(t, r.Addr)
	c.Want("220", c.Reply())
	hello := "EHLO"
	if r.Config.Listeners[0].Protocol == config.LMTP {
		hello = "LHLO"
	}
	c.Want("250", c.Cmd(hello+" client.example"))
	return c
}

// Reply reads a reply, "" where the connection has ended.
func (c *Client) Reply() string {
	var b strings.Builder
	for {
		line, err := c.In.ReadString('\n')
		b.WriteString(line)
		if err != nil {
			return b.String()
		}
		if len(line) < 4 || line[3] != '-' {
			return strings.TrimSuffix(b.String(), "\r\n")
		}
	}
}

// Send sends bytes as they are.
func (c *Client) Send(raw string) {
	_, _ = c.Conn.Write([]byte(raw)) // what the other side makes of it shows in the reply
}

// Cmd sends a line and returns the reply.
func (c *Client) Cmd(line string) string {
	c.Send(line + "\r\n")
	return c.Reply()
}

// Want ends the test unless a reply begins with prefix, and returns the reply.
func (c *Client) Want(prefix, reply string) string {
	c.t.Helper()
	if !strings.HasPrefix(reply, prefix) {
		c.t.Fatalf("reply %q, want %q", reply, prefix)
	}
	return reply
}

// Begin sends the envelope and DATA.
func (c *Client) Begin(from string, to ...string) {
	c.t.Helper()
	c.Want("250", c.Cmd("MAIL FROM:<"+from+">"))
	for _, rcpt := range to {
		c.Want("250", c.Cmd("RCPT TO:<"+rcpt+">"))
	}
	c.Want("354", c.Cmd("DATA"))
}

// Mail sends a message and returns the reply to it. It must end with CRLF.
func (c *Client) Mail(message, from string, to ...string) string {
	c.t.Helper()
	c.Begin(from, to...)
	c.Send(Stuffed(message))
	return c.Reply()
}

// Stuffed returns a message as DATA carries it.
func Stuffed(message string) string {
	if strings.HasPrefix(message, ".") {
		message = "." + message
	}
	return strings.ReplaceAll(message, "\r\n.", "\r\n..") + ".\r\n"
}

// Closed waits for the relay to close the connection.
func (c *Client) Closed() {
	c.t.Helper()
	for {
		if _, err := c.In.ReadByte(); err != nil {
			if ne, ok := err.(net.Error); ok && ne.Timeout() {
				c.t.Fatal("the connection stays open")
			}
			return
		}
	}
}

// StartTLS switches to TLS.
func (c *Client) StartTLS() {
	c.t.Helper()
	c.Want("220", c.Cmd("STARTTLS"))
	conn := tls.Client(c.Conn, &tls.Config{InsecureSkipVerify: true})
	if err := conn.Handshake(); err != nil {
		c.t.Fatal(err)
	}
	c.Conn, c.In = conn, bufio.NewReader(conn)
}

// Attempt sends a message from alice to bob, and returns the reply that ended the attempt.
func (c *Client) Attempt(message string) string {
	for _, line := range []string{"MAIL FROM:<alice@a.example>", "RCPT TO:<bob@b.example>"} {
		if reply := c.Cmd(line); !strings.HasPrefix(reply, "250") {
			return reply
		}
	}
	if reply := c.Cmd("DATA"); !strings.HasPrefix(reply, "354") {
		return reply
	}
	c.Send(Stuffed(message))
	return c.Reply()
}

// Replies sends a message and returns the reply for each recipient.
func (c *Client) Replies(message string, to ...string) string {
	c.t.Helper()
	c.Begin("alice@a.example", to...)
	c.Send(Stuffed(message))
	var all []string
	for range to {
		reply := c.Reply()
		all = append(all, reply[:min(len(reply), 3)])
	}
	return strings.Join(all, " ")
}

// AuthPlain returns the response of AUTH PLAIN.
func AuthPlain(user, password string) string {
	return base64.StdEncoding.EncodeToString([]byte("\x00" + user + "\x00" + password))
}

// Clip returns the beginning of a message, for a test's log.
func Clip(message string) string { return message[:min(len(message), 1500)] }
