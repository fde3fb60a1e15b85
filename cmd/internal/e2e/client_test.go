package e2e

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"net/textproto"
	"testing"
	"time"

	"github.com/qkdmail/qkdmail/cmd/internal/relaytest"
)

// A client speaks SMTP and sends messages exactly as they are.
type client struct {
	conn net.Conn
	text *textproto.Reader
}

func dial(port int) (*client, error) {
	conn, err := net.Dial("tcp", relaytest.Loopback(port))
	if err != nil {
		return nil, err
	}
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	c := &client{conn, textproto.NewReader(bufio.NewReader(conn))}
	if _, err := c.answer(220); err != nil {
		_ = conn.Close()
		return nil, err
	}
	if _, err := c.command(250, "EHLO client.invalid"); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return c, nil
}

func (c *client) answer(code int) (string, error) {
	_, text, err := c.text.ReadResponse(code)
	return text, err
}

func (c *client) command(code int, format string, args ...any) (string, error) {
	if _, err := fmt.Fprintf(c.conn, format+"\r\n", args...); err != nil {
		return "", err
	}
	return c.answer(code)
}

// send sends a message, which must end with CRLF.
func (c *client) send(from string, to []string, data []byte) error {
	return c.sendWith("BODY=8BITMIME", from, "", to, data)
}

func (c *client) sendWith(mailParam, from, rcptParam string, to []string, data []byte) error {
	_ = c.conn.SetDeadline(time.Now().Add(time.Minute))
	if _, err := c.command(250, "MAIL FROM:<%s> %s", from, mailParam); err != nil {
		return err
	}
	for _, r := range to {
		if _, err := c.command(250, "RCPT TO:<%s> %s", r, rcptParam); err != nil {
			return err
		}
	}
	if _, err := c.command(354, "DATA"); err != nil {
		return err
	}
	stuffed := bytes.ReplaceAll(append([]byte("\r\n"), data...), []byte("\r\n."), []byte("\r\n.."))[2:]
	if _, err := c.conn.Write(append(stuffed, ".\r\n"...)); err != nil {
		return err
	}
	_, err := c.answer(250)
	return err
}

func (c *client) close() {
	_, _ = c.command(221, "QUIT")
	_ = c.conn.Close()
}

// send sends one message.
func send(t *testing.T, port int, from string, to []string, data []byte) {
	t.Helper()
	c, err := dial(port)
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	if err := c.send(from, to, data); err != nil {
		t.Fatal(err)
	}
}
