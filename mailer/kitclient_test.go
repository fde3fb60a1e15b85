package mailer

import (
	"bufio"
	"crypto/tls"
	"net"
	"strings"
	"testing"
	"time"
)

// A testClient is a raw client of a relay.
type testClient struct {
	t    testing.TB
	conn net.Conn
	in   *bufio.Reader
}

// dial connects and reads nothing.
func dial(t testing.TB, addr net.Addr) *testClient {
	t.Helper()
	conn, err := net.Dial(addr.Network(), addr.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	c := &testClient{t: t, conn: conn, in: bufio.NewReader(conn)}
	_ = conn.SetDeadline(time.Now().Add(patience))
	return c
}

// connect dials and says hello.
func connect(t testing.TB, r *testRelay) *testClient {
	t.Helper()
	c := dial(t, r.addr)
	c.want("220", c.reply())
	hello := "EHLO"
	if r.cfg.Listeners[0].Protocol == ProtocolLMTP {
		hello = "LHLO"
	}
	c.want("250", c.cmd(hello+" client.example"))
	return c
}

// reply reads a reply, "" where the connection has ended.
func (c *testClient) reply() string {
	var b strings.Builder
	for {
		line, err := c.in.ReadString('\n')
		b.WriteString(line)
		if err != nil {
			return b.String()
		}
		if len(line) < 4 || line[3] != '-' {
			return strings.TrimSuffix(b.String(), "\r\n")
		}
	}
}

func (c *testClient) send(raw string) {
	_, _ = c.conn.Write([]byte(raw)) // what the other side makes of it shows in the reply
}

func (c *testClient) cmd(line string) string {
	c.send(line + "\r\n")
	return c.reply()
}

func (c *testClient) want(prefix, reply string) string {
	c.t.Helper()
	if !strings.HasPrefix(reply, prefix) {
		c.t.Fatalf("reply %q, want %q", reply, prefix)
	}
	return reply
}

// begin sends the envelope and DATA.
func (c *testClient) begin(from string, to ...string) {
	c.t.Helper()
	c.want("250", c.cmd("MAIL FROM:<"+from+">"))
	for _, rcpt := range to {
		c.want("250", c.cmd("RCPT TO:<"+rcpt+">"))
	}
	c.want("354", c.cmd("DATA"))
}

// mail sends a message and returns the reply to it. It must end with CRLF.
func (c *testClient) mail(message, from string, to ...string) string {
	c.t.Helper()
	c.begin(from, to...)
	c.send(stuffed(message))
	return c.reply()
}

// stuffed is a message as DATA has it.
func stuffed(message string) string {
	if strings.HasPrefix(message, ".") {
		message = "." + message
	}
	return strings.ReplaceAll(message, "\r\n.", "\r\n..") + ".\r\n"
}

// closed waits for the relay to close the connection.
func (c *testClient) closed() {
	c.t.Helper()
	for {
		if _, err := c.in.ReadByte(); err != nil {
			if ne, ok := err.(net.Error); ok && ne.Timeout() {
				c.t.Fatal("the connection stays open")
			}
			return
		}
	}
}

// startTLS goes on in TLS.
func (c *testClient) startTLS() {
	c.t.Helper()
	c.want("220", c.cmd("STARTTLS"))
	conn := tls.Client(c.conn, &tls.Config{InsecureSkipVerify: true})
	if err := conn.Handshake(); err != nil {
		c.t.Fatal(err)
	}
	c.conn, c.in = conn, bufio.NewReader(conn)
}
