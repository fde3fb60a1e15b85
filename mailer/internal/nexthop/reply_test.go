package nexthop_test

import (
	"crypto/tls"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/qkdmail/qkdmail/mailer"
	"github.com/qkdmail/qkdmail/mailer/internal/mailtest"
	"github.com/qkdmail/qkdmail/mailer/internal/testcerts"
	"github.com/qkdmail/qkdmail/mailer/relay/config"
)

// A next hop's reply to the relay's own commands, between transactions, is not an answer
// to a client: it costs the connection at most.
func TestReplyToOwnCommand(t *testing.T) {
	for _, reply := range []string{"503 5.5.1 Already identified", "550 5.7.1 no", "421 4.3.2 bye", "452 later", "nonsense", mailtest.Drop} {
		for _, own := range []string{"EHLO", "RSET", "NOOP"} {
			mailtest.Directions(t, func(t *testing.T, d mailer.Direction) {
				mailtest.NoLeaks(t)
				hop := mailtest.StartHop(t, func(h *mailtest.Hop) {
					h.PerConn = func() mailtest.Script {
						hellos := 0
						return func(line string) string {
							switch {
							case strings.Contains(line, "nobody@"):
								return "550 5.1.1 no such user"
							case strings.HasPrefix(line, "EHLO"):
								if hellos++; hellos > 1 && own == "EHLO" {
									return reply
								}
							case own != "EHLO" && strings.HasPrefix(line, own):
								return reply
							}
							return ""
						}
					}
				})
				r := mailtest.StartRelay(t, d, hop.Addr())
				c := mailtest.Connect(t, r)
				for range 3 {
					c.Want("250", c.Cmd("MAIL FROM:<alice@a.example>"))
					c.Want("550 5.1.1", c.Cmd("RCPT TO:<nobody@b.example>"))
					c.Want("250", c.Cmd("RSET"))
					c.Want("250", c.Attempt(mailtest.MessageFor(t, d, r.KM)))
				}
				if n := len(hop.Got()); n != 3 {
					t.Errorf("%s answered with %q: %d messages came, want 3", own, reply, n)
				}
			})
		}
	}
}

// A next hop that answers commands more than once is always behind: what it says of MAIL,
// or of the first recipient, may be about a recipient of the transaction before. It must
// not refuse the next message for good.
func TestRefusalOfAnotherTransaction(t *testing.T) {
	const ok = "250 2.0.0 ok"
	for _, tt := range []struct {
		about string   // what seems to be refused
		first string   // the answer to the first recipient
		rcpts []string // of the transaction before
	}{
		{"MAIL", ok + "\r\n" + ok, []string{"first", "nobody"}},
		{"RCPT", ok + "\r\n" + ok + "\r\n" + ok, []string{"first", "second", "nobody"}},
	} {
		mailtest.Directions(t, func(t *testing.T, d mailer.Direction) {
			mailtest.NoLeaks(t)
			hop := mailtest.StartHop(t, func(h *mailtest.Hop) {
				h.Late = 30 * time.Millisecond
				h.PerConn = func() mailtest.Script {
					mails := 0
					return func(line string) string {
						if strings.HasPrefix(line, "MAIL") {
							mails++
						}
						switch {
						case mails != 1:
						case strings.HasPrefix(line, "MAIL"):
							return ok + "\r\n" + ok
						case strings.HasPrefix(line, "RCPT TO:<first@"):
							return tt.first
						case strings.HasPrefix(line, "RCPT TO:<nobody@"):
							return "550 5.1.1 no such user"
						}
						return ""
					}
				}
			})
			r := mailtest.StartRelay(t, d, hop.Addr())
			c := mailtest.Connect(t, r)
			c.Want("250", c.Cmd("MAIL FROM:<alice@a.example>"))
			for _, rcpt := range tt.rcpts {
				c.Cmd("RCPT TO:<" + rcpt + "@b.example>")
			}
			c.Want("250", c.Cmd("RSET"))
			time.Sleep(150 * time.Millisecond) // for the replies that nobody has read
			c.Want("250", c.Cmd("MAIL FROM:<alice@a.example>"))
			if reply := c.Cmd("RCPT TO:<bob@b.example>"); strings.HasPrefix(reply, "5") {
				t.Errorf("bob is refused with the reply of another recipient, as if about %s: %s", tt.about, reply)
			}
		})
	}
}

// RFC 5321 §4.2: a reply may lack the space and the text after its code, and of an
// unknown code the first digit counts. After the final dot a message is delivered once,
// however the reply goes on.
func TestReplyWithoutText(t *testing.T) {
	for _, tt := range []struct{ at, reply string }{
		{"GREETING", "220"}, {"EHLO", "250"}, {"MAIL", "250"}, {"RCPT", "250"}, {"RCPT", "251"}, {"DATA", "354"}, {"DOT", "250"},
		{"GREETING", "220-one\r\n220"}, {"DOT", "250-\r\n250"}, {"DOT", "250-2.0.0 queued\r\n250 2.0.0 as 1"},
		{"DOT", "250 2.0.0 " + strings.Repeat("x", 4000)}, {"DOT", "250 " + strings.Repeat("x", 200_000)},
		{"DOT", "250-2.0.0 queued\r\n550 5.0.0 or not"}, {"DOT", "250-2.0.0 queued\r\nnonsense"}, {"DOT", "250ok"}, {"DOT", "250 ok\n"},
		{"RCPT", "250 \xff\xfe"},
		{"DOT", "251 2.0.0 on its way"}, {"DOT", "252 2.0.0 probably"}, {"DOT", "200 ok"}, {"DOT", "299 2.0.0 perhaps"}, {"DOT", "251-2.0.0 on\r\n451 its way"},
		{"EHLO", "200"}, {"MAIL", "251"}, {"RCPT", "252"}, {"RCPT", "200"}, {"DATA", "350"},
	} {
		mailtest.Directions(t, func(t *testing.T, d mailer.Direction) {
			mailtest.NoLeaks(t)
			hop := mailtest.StartHop(t, mailtest.Answering(tt.at, tt.reply))
			r := mailtest.StartRelay(t, d, hop.Addr())
			c := mailtest.Connect(t, r)
			for range 2 {
				c.Want("250", c.Attempt(mailtest.MessageFor(t, d, r.KM)))
			}
			if n := len(hop.Got()); n != 2 {
				t.Errorf("%q to %s: %d messages came, want 2", tt.reply, tt.at, n)
			}
		})
	}
}

// A next hop that hangs up within the reply to the final dot has delivered.
func TestReplyBrokenOff(t *testing.T) {
	mailtest.Directions(t, func(t *testing.T, d mailer.Direction) {
		mailtest.NoLeaks(t)
		var over atomic.Bool
		hop := mailtest.StartHop(t, func(h *mailtest.Hop) {
			h.Script = func(line string) string {
				if line == "DOT" && !over.Swap(true) {
					return "250-2.0.0 queued\r\n"
				}
				return ""
			}
		})
		r := mailtest.StartRelay(t, d, hop.Addr(), func(c *config.Config) { c.Timeouts.AfterDot = time.Second })
		c := mailtest.Connect(t, r)
		c.Begin("alice@a.example", "bob@b.example")
		c.Send(mailtest.Stuffed(mailtest.MessageFor(t, d, r.KM)))
		for end := time.Now().Add(mailtest.Patience); len(hop.Got()) == 0 && time.Now().Before(end); {
			time.Sleep(time.Millisecond)
		}
		hop.DropIdle()
		c.Want("250", c.Reply())
		c.Want("250", c.Attempt(mailtest.MessageFor(t, d, r.KM)))
	})
}

// A greeting whose last line refuses is a refusal (RFC 5321 §4.2.1), and the mail
// waits.
func TestGreetingThatRefuses(t *testing.T) {
	for _, greeting := range []string{"220-hello\r\n521 no mail here", "554 5.7.1 go away", "421 busy", "220-hello\r\n250 what"} {
		hop := mailtest.StartHop(t, mailtest.Answering("GREETING", greeting))
		r := mailtest.StartRelay(t, mailer.DirectionEncrypt, hop.Addr())
		c := mailtest.Connect(t, r)
		if got := c.Attempt(mailtest.Text); !strings.HasPrefix(got, "451 4.4.1") {
			t.Errorf("greeting %q: %q", greeting, got)
		}
	}
}

// Keywords of extensions come in any case (RFC 5321 §2.4, §4.1.1.1).
func TestKeywordsInAnyCase(t *testing.T) {
	certs := testcerts.Make(t)
	for _, mode := range []config.TLSMode{config.TLSOpportunistic, config.TLSRequired} {
		hop := mailtest.StartHop(t, func(h *mailtest.Hop) {
			h.Extensions, h.TLS = []string{"pipelining", "8bitmime", "Size 9000000", "dsn"}, certs.Server(t)
			h.Script = func(line string) string {
				if strings.HasPrefix(line, "EHLO") {
					return "250-hop.example\r\n250-starttls\r\n250-pipelining\r\n250 8bitmime"
				}
				return ""
			}
		})
		r := mailtest.StartRelay(t, mailer.DirectionDecrypt, hop.Addr(), func(c *config.Config) {
			c.NextHops[0].TLS = mode
			if mode == config.TLSRequired {
				c.NextHops[0].TLSCA = certs.CA
			}
		})
		c := mailtest.Connect(t, r)
		c.Want("250", c.Attempt(mailtest.MessageFor(t, mailer.DirectionDecrypt, r.KM)))
		if !hop.One().TLS {
			t.Errorf("tls = %q: STARTTLS in lower case was not seen", mode)
		}
	}
	hop := mailtest.StartHop(t, func(h *mailtest.Hop) { h.Extensions = []string{"8bitMIME"} })
	r := mailtest.StartRelay(t, mailer.DirectionDecrypt, hop.Addr())
	c := mailtest.Connect(t, r)
	c.Want("250", c.Mail("From: x@o.example\r\n\r\nGrüße\r\n", "x@o.example", "bob@b.example"))
}

// If opportunistic TLS fails, TLS is given up for a while and the mail goes on; with
// required TLS the mail waits.
func TestSTARTTLSFails(t *testing.T) {
	certs := testcerts.Make(t)
	broken := certs.Server(t)
	broken.MaxVersion = tls.VersionTLS10 // no version in common
	for _, tt := range []struct {
		name   string
		mode   config.TLSMode
		change func(*mailtest.Hop)
		want   string
	}{
		{"refused", config.TLSOpportunistic, func(h *mailtest.Hop) { h.Script = answer("STARTTLS", "454 4.7.0 TLS not available") }, "250"},
		{"no certificate", config.TLSOpportunistic, func(h *mailtest.Hop) { h.Script = answer("STARTTLS", "554 5.7.3 no certificate") }, "250"},
		{"handshake", config.TLSOpportunistic, func(h *mailtest.Hop) { h.TLS = broken }, "250"},
		{"dropped", config.TLSOpportunistic, func(h *mailtest.Hop) { h.Script = answer("STARTTLS", mailtest.Drop) }, "250"},
		{"required, refused", config.TLSRequired, func(h *mailtest.Hop) { h.Script = answer("STARTTLS", "454 4.7.0 TLS not available") }, "451 4.4.1"},
		{"required, handshake", config.TLSRequired, func(h *mailtest.Hop) { h.TLS = broken }, "451 4.4.1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			mailtest.NoLeaks(t)
			hop := mailtest.StartHop(t, func(h *mailtest.Hop) { h.TLS = certs.Server(t); tt.change(h) })
			r := mailtest.StartRelay(t, mailer.DirectionEncrypt, hop.Addr(), func(c *config.Config) {
				c.NextHops[0].TLS = tt.mode
				if tt.mode == config.TLSRequired {
					c.NextHops[0].TLSCA = certs.CA
				}
			})
			c := mailtest.Connect(t, r)
			c.Want(tt.want, c.Attempt(mailtest.Text))
			if tt.want == "250" && (hop.One().TLS || !strings.Contains(r.Log.String(), "TLS with the next hop failed")) {
				t.Errorf("it went in TLS, or the log does not say why it did not:\n%s", r.Log)
			}
		})
	}
}

// answer is a script that answers lines with this beginning.
func answer(prefix, reply string) mailtest.Script {
	h := new(mailtest.Hop)
	mailtest.Answering(prefix, reply)(h)
	return h.Script
}

// A connection takes a limited number of messages: Exim, by default, only queues what
// comes after the tenth.
func TestMessagesOfAConnection(t *testing.T) {
	for _, tt := range []struct {
		greeting         string
		configured, most int
	}{
		{"220 mail.example ESMTP Exim 4.96 Sun, 29 Nov 2026 12:00:00 +0000", 0, 10},
		{"220-mail.example\r\n220 ESMTP Exim 4.96", 0, 10},
		{"220 mail.example ESMTP Exim 4.96", 12, 12},
		{"220 mail.example ESMTP Postfix", 0, 0}, // any number
		{"220 mail.example ESMTP", 1, 1},
		{"220 mail.example ESMTP", 3, 3},
	} {
		t.Run(fmt.Sprint(tt.greeting[4:], tt.configured), func(t *testing.T) {
			mailtest.NoLeaks(t)
			var worst atomic.Int64
			hop := mailtest.StartHop(t, func(h *mailtest.Hop) {
				h.PerConn = func() mailtest.Script {
					n := int64(0)
					return func(line string) string {
						switch line {
						case "GREETING":
							return tt.greeting
						case "DOT":
							n++
							worst.Store(max(worst.Load(), n))
						}
						return ""
					}
				}
			})
			r := mailtest.StartRelay(t, mailer.DirectionEncrypt, hop.Addr(), func(c *config.Config) {
				c.NextHops[0].MaxMessages = tt.configured
			})
			c := mailtest.Connect(t, r)
			for range 40 { // the relay's first look at the next hop may leave a second connection
				c.Want("250", c.Attempt(mailtest.Text))
			}
			if n := worst.Load(); tt.most > 0 && n != int64(tt.most) || tt.most == 0 && n < 20 {
				t.Errorf("%d messages through one connection, want %d", n, tt.most)
			}
		})
	}
}
