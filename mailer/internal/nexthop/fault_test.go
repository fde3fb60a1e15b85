package nexthop_test

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/qkdmail/qkdmail/mailer"
	"github.com/qkdmail/qkdmail/mailer/internal/mailtest"
	"github.com/qkdmail/qkdmail/mailer/relay/config"
)

// The next hop's refusals come through with their enhanced codes, whichever
// command they answer, and the client's connection goes on.
func TestNextHopRefuses(t *testing.T) {
	mailtest.Directions(t, func(t *testing.T, d mailer.Direction) {
		for _, tt := range []struct{ at, reply, want string }{
			{"GREETING", "554 5.3.2 no service", "451 4.4.1 "},
			{"GREETING", "421 4.3.2 later", "451 4.4.1 "},
			{"EHLO", "550 5.7.1 not you", "451 4.4.1 "},
			{"MAIL", "450 4.1.8 sender unknown", "450 4.1.8 sender unknown"},
			{"MAIL", "553 5.1.8 bad sender", "553 5.1.8 bad sender"},
			{"MAIL", "421 4.3.2 stopping", "451 4.4.2 "},
			{"RCPT", "450 4.2.1 greylisted", "450 4.2.1 greylisted"},
			{"RCPT", "550 5.1.1 no such user", "550 5.1.1 no such user"},
			{"RCPT", "550-5.1.1 no such user\r\n550 5.1.1 here", "550-5.1.1 no such user\r\n550 5.1.1 here"},
			{"RCPT", "421 4.3.2 stopping", "451 4.4.2 "},
			{"DATA", "451 4.3.0 later", "451 4.3.0 later"},
			{"DATA", "554 5.7.1 no", "554 5.7.1 no"},
			{"DATA", "421 4.3.2 stopping", "451 4.4.2 "},
			{"DOT", "451 4.7.1 later", "451 4.7.1 later"},
			{"DOT", "550 5.7.1 spam", "550 5.7.1 spam"},
			{"DOT", "552 too big, no enhanced code", "552 5.0.0 too big, no enhanced code"},
			{"DOT", "421 4.3.2 stopping", "451 4.4.2 "},
			// What is neither a refusal nor a success must not look like either: with 354
			// the client's next commands would be taken for DATA.
			{"MAIL", "354 go", "451 4.5.0 "},
			{"RCPT", "354 go", "451 4.5.0 "},
			{"MAIL", "220 hello again", "451 4.5.0 "},
			{"DATA", "250 2.0.0 ok", "451 4.5.0 "},
			{"DOT", "354 go", "451 4.5.0 "},
			{"DOT", "220 hello again", "451 4.5.0 "},
			{"DOT", "221 2.0.0 bye", "451 4.5.0 "},
			{"DOT", "nonsense", "451 4.5.0 "},
			{"DOT", "550 5.7.1 bell \x07 and\rCR", "550 5.7.1 bell ? and?CR"},
		} {
			t.Run(tt.at+" "+tt.reply, func(t *testing.T) {
				mailtest.NoLeaks(t)
				hop := mailtest.StartHop(t, mailtest.Answering(tt.at, tt.reply))
				r := mailtest.StartRelay(t, d, hop.Addr())
				c := mailtest.Connect(t, r)
				if got := c.Attempt(mailtest.MessageFor(t, d, r.KM)); !strings.HasPrefix(got, tt.want) {
					t.Errorf("%q, want %q", got, tt.want)
				}
				hop.None()
				c.Want("250", c.Cmd("RSET"))
				c.Want("250", c.Cmd("NOOP"))
				if !strings.Contains(r.Log.String(), "msg=refused") {
					t.Error("nothing in the log")
				}
			})
		}
	})
}

// If the next hop hangs, the client is answered 451 after the time-out.
func TestNextHopHangs(t *testing.T) {
	mailtest.Directions(t, func(t *testing.T, d mailer.Direction) {
		for _, at := range []string{"GREETING", "EHLO", "MAIL", "RCPT", "DATA", "DOT"} {
			t.Run(at, func(t *testing.T) {
				hop := mailtest.StartHop(t, mailtest.Answering(at, mailtest.Hang))
				r := mailtest.StartRelay(t, d, hop.Addr(), func(c *config.Config) {
					c.Timeouts.Command, c.Timeouts.AfterDot = 200*time.Millisecond, 200*time.Millisecond
				})
				c := mailtest.Connect(t, r)
				c.Want("451 4.4.", c.Attempt(mailtest.MessageFor(t, d, r.KM)))
				hop.None()
				c.Want("250", c.Cmd("NOOP"))
			})
		}
	})
}

func TestNextHopDrops(t *testing.T) {
	mailtest.Directions(t, func(t *testing.T, d mailer.Direction) {
		for _, at := range []string{"GREETING", "EHLO", "MAIL", "RCPT", "DATA", "BODY", "DOT"} {
			t.Run(at, func(t *testing.T) {
				mailtest.NoLeaks(t)
				hop := mailtest.StartHop(t, mailtest.Answering(at, mailtest.Drop))
				r := mailtest.StartRelay(t, d, hop.Addr())
				c := mailtest.Connect(t, r)
				message := mailtest.Text + strings.Repeat("more\r\n", 100_000)
				if d == mailer.DirectionDecrypt {
					message = mailtest.Seal(t, r.KM, message)
				}
				c.Want("451 4.4.", c.Attempt(message))
				hop.None()
				c.Want("250", c.Cmd("NOOP"))
			})
		}
	})
}

// A kept connection that has died is replaced once, before anything was said.
func TestStaleConnection(t *testing.T) {
	mailtest.Directions(t, func(t *testing.T, d mailer.Direction) {
		mailtest.NoLeaks(t)
		hop, r, c := mailtest.Start(t, d)
		for i := range 3 {
			c.Want("250", c.Attempt(mailtest.MessageFor(t, d, r.KM)))
			if n := len(hop.Got()); n != i+1 {
				t.Fatalf("%d messages", n)
			}
			hop.DropIdle()
		}
		// A connection that is not stale is reused.
		before := hop.Connections()
		for range 3 {
			c.Want("250", c.Attempt(mailtest.MessageFor(t, d, r.KM)))
		}
		if n := hop.Connections() - before; n > 1 {
			t.Errorf("%d new connections for 3 messages", n)
		}
	})
}

// An SMTPUTF8 message after a refused one: that the kept connection has died does not
// mean that the next hop has no SMTPUTF8.
func TestStaleConnectionUTF8(t *testing.T) {
	mailtest.NoLeaks(t)
	refuse := "550 5.1.8 no"
	hop := mailtest.StartHop(t, func(h *mailtest.Hop) {
		h.Script = func(line string) string {
			if strings.HasPrefix(line, "MAIL") {
				return refuse
			}
			return ""
		}
	})
	r := mailtest.StartRelay(t, mailer.DirectionDecrypt, hop.Addr())
	c := mailtest.Connect(t, r)
	c.Want("250", c.Cmd("MAIL FROM:<a@x.example>"))
	c.Want("550", c.Cmd("RCPT TO:<b@b.example>"))
	c.Want("250", c.Cmd("RSET"))
	refuse = ""
	hop.DropIdle()
	c.Want("250", c.Cmd("MAIL FROM:<ä@x.example> SMTPUTF8"))
	c.Want("250", c.Cmd("RCPT TO:<b@b.example>"))
}

// A connection can be used again after a refused command.
func TestConnectionAfterRefusal(t *testing.T) {
	for _, at := range []string{"MAIL", "RCPT", "DATA", "DOT"} {
		t.Run(at, func(t *testing.T) {
			mailtest.NoLeaks(t)
			var refusing atomic.Bool
			refusing.Store(true)
			hop := mailtest.StartHop(t, func(h *mailtest.Hop) {
				h.Script = func(line string) string {
					if refusing.Load() && strings.HasPrefix(line, at) {
						return "450 4.2.0 later"
					}
					return ""
				}
			})
			r := mailtest.StartRelay(t, mailer.DirectionEncrypt, hop.Addr(), func(c *config.Config) { c.NextHops[0].MaxConnections = 1 })
			c := mailtest.Connect(t, r)
			c.Want("450", c.Attempt(mailtest.Text))
			c.Want("250", c.Cmd("RSET"))
			refusing.Store(false)
			c.Want("250", c.Attempt(mailtest.Text))
			most := 2 // one may be the probe's
			if at == "MAIL" {
				most = 3 // one that accepts RCPT after it has refused MAIL is not used again
			}
			if n := hop.Connections(); n > most {
				t.Errorf("%d connections", n)
			}
			hop.One()
		})
	}
}

func TestNextHopReplyShapes(t *testing.T) {
	for _, tt := range []struct{ name, at, reply, want string }{
		{"LF only", "MAIL", "250 ok\n", "250"},
		{"long line", "MAIL", "550 5.7.1 " + strings.Repeat("x", 100_000), "550-5.7.1 xxx"},
		{"long greeting", "GREETING", "220 " + strings.Repeat("x", 100_000), "250"},
		{"endless", "MAIL", strings.Repeat("550-5.7.1 and on\r\n", 200_000), "451 4.5.0 "},
		{"other code inside", "MAIL", "550-5.7.1 a\r\n250 b", "451 4.5.0 "},
		{"another code at the end", "MAIL", "250-5.7.1 a\r\n550 5.7.1 b", "550-5.7.1 a"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			mailtest.NoLeaks(t)
			hop := mailtest.StartHop(t, mailtest.Answering(tt.at, tt.reply))
			r := mailtest.StartRelay(t, mailer.DirectionDecrypt, hop.Addr(), func(c *config.Config) { c.Timeouts.Command = time.Second })
			c := mailtest.Connect(t, r)
			c.Want("250", c.Cmd("MAIL FROM:<alice@a.example>"))
			c.Want(tt.want, c.Cmd("RCPT TO:<b@b.example>"))
		})
	}
}
