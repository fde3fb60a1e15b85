package mailer

import (
	"net"
	"strings"
	"testing"
	"time"
)

// piece reads what comes in one write.
func (c *testClient) piece() string {
	p := make([]byte, 64<<10)
	n, _ := c.conn.Read(p)
	return string(p[:n])
}

// Replies to commands that came together go out together, and so do the lines
// of one.
func TestRepliesTogether(t *testing.T) {
	directions(t, func(t *testing.T, d Direction) {
		noLeaks(t)
		hop := startHop(t)
		r := startRelay(t, d, hop.addr())
		c := dial(t, r.addr)
		c.want("220", c.piece())
		c.send("EHLO x\r\n")
		if got := c.piece(); !strings.HasPrefix(got, "250-") || !strings.Contains(got, "\r\n250 ") {
			t.Errorf("EHLO is answered in pieces: %q", got)
		}
		c.send("NOOP\r\nMAIL FROM:<a@a.example>\r\nRCPT TO:<b@b.example>\r\nDATA\r\n")
		if got := c.piece(); strings.Count(got, "\r\n") != 4 || !strings.Contains(got, "\r\n354 ") {
			t.Errorf("commands are answered in pieces: %q", got)
		}
		c.send(stuffed(messageFor(t, d, r.km)) + "NOOP\r\nQUIT\r\n")
		if got := c.piece(); strings.Count(got, "\r\n") != 3 || !strings.Contains(got, "\r\n221 ") {
			t.Errorf("what follows a message is answered in pieces: %q", got)
		}
		hop.one()
	})
}

// A reply does not wait long for the next one: a next hop that takes its time
// for each recipient must not make the client give up.
func TestRepliesNotHeldForLong(t *testing.T) {
	directions(t, func(t *testing.T, d Direction) {
		hop := startHop(t, func(h *testHop) {
			h.script = func(line string) string {
				switch {
				case strings.HasPrefix(line, "RCPT TO:<slow"):
					time.Sleep(1100 * time.Millisecond) // longer than replies are held
				case strings.HasPrefix(line, "RCPT TO:<never"):
					return hang
				}
				return ""
			}
		})
		r := startRelay(t, d, hop.addr())
		c := connect(t, r)
		c.send("MAIL FROM:<a@a.example>\r\nRCPT TO:<slow@b.example>\r\nRCPT TO:<never@b.example>\r\n")
		c.want("250", c.reply())
		c.want("250", c.reply())
		hop.stop()
	})
}

// A client that reads no replies is not waited for again and again.
func TestRepliesNotRead(t *testing.T) {
	noLeaks(t)
	r := startRelay(t, DirectionEncrypt, startHop(t).addr(), func(c *Config) { c.Timeouts.Command = 200 * time.Millisecond })
	c := connect(t, r)
	_ = c.conn.SetWriteDeadline(time.Now().Add(patience))
	noop := []byte(strings.Repeat("NOOP\r\n", 10_000))
	for {
		if _, err := c.conn.Write(noop); err != nil {
			if ne, ok := err.(net.Error); ok && ne.Timeout() {
				t.Error("the connection stays open")
			}
			return
		}
	}
}
