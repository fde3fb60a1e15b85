package mailer_test

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/qkdmail/qkdmail/mailer"
	"github.com/qkdmail/qkdmail/mailer/internal/mailtest"
	"github.com/qkdmail/qkdmail/mailer/relay/config"
)

// piece reads what comes in one write.
func piece(c *mailtest.Client) string {
	p := make([]byte, 64<<10)
	n, _ := c.Conn.Read(p)
	return string(p[:n])
}

// Replies to commands that came together go out together, and so do the lines
// of one.
func TestRepliesTogether(t *testing.T) {
	mailtest.Directions(t, func(t *testing.T, d mailer.Direction) {
		mailtest.NoLeaks(t)
		hop := mailtest.StartHop(t)
		r := mailtest.StartRelay(t, d, hop.Addr())
		c := mailtest.Dial(t, r.Addr)
		c.Want("220", piece(c))
		c.Send("EHLO x\r\n")
		if got := piece(c); !strings.HasPrefix(got, "250-") || !strings.Contains(got, "\r\n250 ") {
			t.Errorf("EHLO is answered in pieces: %q", got)
		}
		c.Send("NOOP\r\nMAIL FROM:<a@a.example>\r\nRCPT TO:<b@b.example>\r\nDATA\r\n")
		if got := piece(c); strings.Count(got, "\r\n") != 4 || !strings.Contains(got, "\r\n354 ") {
			t.Errorf("commands are answered in pieces: %q", got)
		}
		c.Send(mailtest.Stuffed(mailtest.MessageFor(t, d, r.KM)) + "NOOP\r\nQUIT\r\n")
		if got := piece(c); strings.Count(got, "\r\n") != 3 || !strings.Contains(got, "\r\n221 ") {
			t.Errorf("what follows a message is answered in pieces: %q", got)
		}
		hop.One()
	})
}

// A reply does not wait long for the next one: a next hop that takes its time
// for each recipient must not make the client give up.
func TestRepliesNotHeldForLong(t *testing.T) {
	mailtest.Directions(t, func(t *testing.T, d mailer.Direction) {
		hop := mailtest.StartHop(t, func(h *mailtest.Hop) {
			h.Script = func(line string) string {
				switch {
				case strings.HasPrefix(line, "RCPT TO:<slow"):
					time.Sleep(1100 * time.Millisecond) // longer than replies are held
				case strings.HasPrefix(line, "RCPT TO:<never"):
					return mailtest.Hang
				}
				return ""
			}
		})
		r := mailtest.StartRelay(t, d, hop.Addr())
		c := mailtest.Connect(t, r)
		c.Send("MAIL FROM:<a@a.example>\r\nRCPT TO:<slow@b.example>\r\nRCPT TO:<never@b.example>\r\n")
		c.Want("250", c.Reply())
		c.Want("250", c.Reply())
		hop.Stop()
	})
}

// A client that reads no replies is not waited for again and again.
func TestRepliesNotRead(t *testing.T) {
	mailtest.NoLeaks(t)
	r := mailtest.StartRelay(t, mailer.DirectionEncrypt, mailtest.StartHop(t).Addr(), func(c *config.Config) { c.Timeouts.Command = 200 * time.Millisecond })
	c := mailtest.Connect(t, r)
	_ = c.Conn.SetWriteDeadline(time.Now().Add(mailtest.Patience))
	noop := []byte(strings.Repeat("NOOP\r\n", 10_000))
	for {
		if _, err := c.Conn.Write(noop); err != nil {
			if ne, ok := err.(net.Error); ok && ne.Timeout() {
				t.Error("the connection stays open")
			}
			return
		}
	}
}
