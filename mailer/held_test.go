package mailer_test

import (
	"strings"
	"testing"
	"time"

	"github.com/qkdmail/qkdmail/mailer"
	"github.com/qkdmail/qkdmail/mailer/internal/mailtest"
	"github.com/qkdmail/qkdmail/mailer/relay/config"
)

// A reply that the next hop sends while the message is still going out must
// not be taken for the answer to the final dot.
func TestUnaskedBeforeDot(t *testing.T) {
	mailtest.Directions(t, func(t *testing.T, d mailer.Direction) {
		hop := mailtest.StartHop(t, func(h *mailtest.Hop) {
			h.Script = func(line string) string {
				switch {
				case line == "DATA":
					return "354 go\r\n250 2.0.0 said too early"
				case line == "DOT":
					return "451 4.3.0 not taken"
				}
				return ""
			}
		})
		r := mailtest.StartRelay(t, d, hop.Addr())
		c := mailtest.Connect(t, r)
		reply := c.Mail(mailtest.MessageFor(t, d, r.KM), "alice@a.example", "bob@b.example")
		if reply[0] == '2' {
			t.Errorf("client told %q, the next hop has answered 451 to the message", reply)
		}
		hop.None()
	})
}

// The answer to a message that is refused here must not wait for the next
// hop's answer to a DATA that is taken back, nor to RSET.
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

// Over LMTP the 250 of a group that was delivered waits for the RSET of
// another group's connection.
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

// MAIL's answer does not wait for as long as the next hop takes for the first
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
