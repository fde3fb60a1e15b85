package smtpserver_test

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

// Replies to commands that came together go out together, and so do the lines of one
// reply.
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

// The relay does not wait again and again for a client that reads no replies.
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

// The answer to a message that is refused here must not wait for the next hop's answer to
// a DATA that is withdrawn, nor to RSET.
func TestAnswerBeforeReset(t *testing.T) {
	for _, slow := range []string{"DATA", "RSET"} {
		t.Run(slow, func(t *testing.T) {
			hop := mailtest.StartHop(t, func(h *mailtest.Hop) {
				h.Script = func(line string) string {
					if line == slow {
						return mailtest.Hang
					}
					if line == "DATA" {
						return "451 4.3.0 later"
					}
					return ""
				}
			})
			r := mailtest.StartRelay(t, mailer.DirectionDecrypt, hop.Addr())
			c := mailtest.Connect(t, r)
			c.Begin("alice@a.example", "bob@b.example")
			c.Send(strings.Replace(mailtest.Seal(t, r.KM, mailtest.Text), "Qkdmail-Key-ID: 0", "Qkdmail-Key-ID: 1", 1) + ".\r\n")
			_ = c.Conn.SetDeadline(time.Now().Add(mailtest.Patience))
			c.Want("550", c.Reply())
		})
	}
}

// Over LMTP the 250 for a group that was delivered must not wait for the RSET on another
// group's connection.
func TestDeliveredAnswerBeforeReset(t *testing.T) {
	hop := mailtest.StartHop(t, func(h *mailtest.Hop) {
		h.LMTP = true
		h.PerConn = func() mailtest.Script {
			other := false
			return func(line string) string {
				other = other || strings.HasPrefix(line, "RCPT TO:<x@c.example")
				switch {
				case line == "DATA" && other:
					return "451 4.3.0 later"
				case line == "RSET" && other:
					return mailtest.Hang
				}
				return ""
			}
		}
	})
	r := mailtest.StartRelay(t, mailer.DirectionEncrypt, hop.Addr(), mailtest.BothLMTP)
	c := mailtest.Connect(t, r)
	c.Begin("alice@a.example", "bob@b.example", "x@c.example")
	c.Send(mailtest.Stuffed(mailtest.Text))
	for end := time.Now().Add(mailtest.Patience); len(hop.Got()) == 0 && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	_ = c.Conn.SetDeadline(time.Now().Add(mailtest.Patience))
	c.Want("250", c.Reply())
}

// The answer to MAIL does not wait for as long as the next hop takes for the first
// recipient.
func TestAnswerHeldNoLonger(t *testing.T) {
	told := make(chan struct{})
	hop := mailtest.StartHop(t, func(h *mailtest.Hop) {
		h.Script = func(line string) string {
			if strings.HasPrefix(line, "RCPT") {
				select {
				case <-told:
				case <-time.After(mailtest.Patience):
				}
			}
			return ""
		}
	})
	r := mailtest.StartRelay(t, mailer.DirectionEncrypt, hop.Addr(), func(c *config.Config) { c.Timeouts.Command = 2 * mailtest.Patience })
	c := mailtest.Connect(t, r)
	c.Send("MAIL FROM:<alice@a.example>\r\nRCPT TO:<one@b.example>\r\nRCPT TO:<two@b.example>\r\n")
	c.Want("250", c.Reply())
	close(told)
	c.Want("250", c.Reply())
	c.Want("250", c.Reply())
}

// Pipelined commands, and some that come out of turn.
func TestPipelining(t *testing.T) {
	mailtest.NoLeaks(t)
	hop, _, c := mailtest.Start(t, mailer.DirectionDecrypt)
	c.Send("MAIL FROM:<x@x.example>\r\nRCPT TO:<y@y.example>\r\nDATA\r\nFrom: x@x.example\r\n\r\nbody\r\n.\r\n" +
		"MAIL FROM:<x@x.example>\r\nRCPT TO:<z@y.example>\r\nDATA\r\n.\r\nNOOP\r\nQUIT\r\n")
	for _, want := range []string{"250", "250", "354", "250", "250", "250", "354", "250", "250", "221", ""} {
		c.Want(want, c.Reply())
	}
	if n := len(hop.Got()); n != 2 {
		t.Errorf("%d messages", n)
	}
}
