package smtpserver_test

import (
	"strings"
	"testing"

	"github.com/qkdmail/qkdmail/mailer"
	"github.com/qkdmail/qkdmail/mailer/internal/mailtest"
)

// A message that ends with CR CR LF has come to its end, and is refused at once as
// any other with a CR alone (RFC 5321 §2.3.8, §4.1.1.4).
func TestCRBeforeTheEnd(t *testing.T) {
	mailtest.Directions(t, func(t *testing.T, d mailer.Direction) {
		mailtest.NoLeaks(t)
		hop := mailtest.StartHop(t)
		r := mailtest.StartRelay(t, d, hop.Addr())
		for _, body := range []string{"x\ry\r\n", "x\r\r\n", "x\r\r\r\n", "\r\r\n", "x\r\n.\rx\r\n", "x\r\n.\r\r\n", "x\n\r\n", "x\r\n\n\r\n", "\x00\r\r\n"} {
			c := mailtest.Connect(t, r)
			c.Begin("alice@a.example", "bob@b.example")
			c.Send("From: a@a.example\r\nTo: b@b.example\r\n\r\n" + body + ".\r\n")
			if got := c.Reply(); !strings.HasPrefix(got, "550 5.6.0") {
				t.Errorf("%q: %q", body, got)
			}
			c.Want("250", c.Cmd("NOOP"))
			_ = c.Conn.Close()
		}
		hop.None()
	})
}

// go-smtp drops a CR behind a dot at the start of a line; it is a bare one.
func TestCRBehindDot(t *testing.T) {
	mailtest.NoLeaks(t)
	hop := mailtest.StartHop(t)
	r := mailtest.StartRelay(t, mailer.DirectionEncrypt, hop.Addr())
	for _, odd := range []string{".\rX\r\n", ".\r\r\nMAIL FROM:<x@x.example>\r\n"} {
		c := mailtest.Connect(t, r)
		c.Want("250", c.Cmd("MAIL FROM:<alice@a.example>"))
		c.Want("250", c.Cmd("RCPT TO:<b@clear.example>"))
		c.Want("354", c.Cmd("DATA"))
		c.Send(mailtest.Text + odd + "\r\n.\r\n")
		c.Want("550 5.6.0", c.Reply())
		c.Want("250", c.Cmd("NOOP"))
	}
	hop.None()
}
