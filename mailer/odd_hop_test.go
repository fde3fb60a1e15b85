package mailer

import (
	"crypto/tls"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// What a next hop says to commands of our own, between transactions, is nobody's
// answer: it costs the connection at most.
func TestReplyToOwnCommand(t *testing.T) {
	for _, reply := range []string{"503 5.5.1 Already identified", "550 5.7.1 no", "421 4.3.2 bye", "452 later", "nonsense", drop} {
		for _, own := range []string{"EHLO", "RSET", "NOOP"} {
			directions(t, func(t *testing.T, d Direction) {
				noLeaks(t)
				hop := startHop(t, func(h *testHop) {
					h.perConn = func() func(string) string {
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
				r := startRelay(t, d, hop.addr())
				c := connect(t, r)
				for range 3 {
					c.want("250", c.cmd("MAIL FROM:<alice@a.example>"))
					c.want("550 5.1.1", c.cmd("RCPT TO:<nobody@b.example>"))
					c.want("250", c.cmd("RSET"))
					c.want("250", attempt(c, messageFor(t, d, r.km)))
				}
				if n := len(hop.got()); n != 3 {
					t.Errorf("%s answered with %q: %d messages came, want 3", own, reply, n)
				}
			})
		}
	}
}

// RFC 5321 §4.2: a reply may lack the space and the text after its code. After the
// final dot a message is delivered once, however the reply goes on.
func TestReplyWithoutText(t *testing.T) {
	for _, tt := range []struct{ at, reply string }{
		{"GREETING", "220"}, {"EHLO", "250"}, {"MAIL", "250"}, {"RCPT", "250"}, {"RCPT", "251"}, {"DATA", "354"}, {"DOT", "250"},
		{"GREETING", "220-one\r\n220"}, {"DOT", "250-\r\n250"}, {"DOT", "250-2.0.0 queued\r\n250 2.0.0 as 1"},
		{"DOT", "250 2.0.0 " + strings.Repeat("x", 4000)}, {"DOT", "250 " + strings.Repeat("x", 200_000)},
		{"DOT", "250-2.0.0 queued\r\n550 5.0.0 or not"}, {"DOT", "250-2.0.0 queued\r\nnonsense"}, {"DOT", "250ok"}, {"DOT", "250 ok\n"},
		{"RCPT", "250 \xff\xfe"},
	} {
		directions(t, func(t *testing.T, d Direction) {
			noLeaks(t)
			hop := startHop(t, answering(tt.at, tt.reply))
			r := startRelay(t, d, hop.addr())
			c := connect(t, r)
			for range 2 {
				c.want("250", attempt(c, messageFor(t, d, r.km)))
			}
			if n := len(hop.got()); n != 2 {
				t.Errorf("%q to %s: %d messages came, want 2", tt.reply, tt.at, n)
			}
		})
	}
}

// A next hop that hangs up within the reply to the final dot has delivered.
func TestReplyBrokenOff(t *testing.T) {
	directions(t, func(t *testing.T, d Direction) {
		noLeaks(t)
		var over atomic.Bool
		hop := startHop(t, func(h *testHop) {
			h.script = func(line string) string {
				if line == "DOT" && !over.Swap(true) {
					return "250-2.0.0 queued\r\n"
				}
				return ""
			}
		})
		r := startRelay(t, d, hop.addr(), func(c *Config) { c.Timeouts.AfterDot = time.Second })
		c := connect(t, r)
		c.begin("alice@a.example", "bob@b.example")
		c.send(stuffed(messageFor(t, d, r.km)))
		for end := time.Now().Add(patience); len(hop.got()) == 0 && time.Now().Before(end); {
			time.Sleep(time.Millisecond)
		}
		hop.dropIdle()
		c.want("250", c.reply())
		c.want("250", attempt(c, messageFor(t, d, r.km)))
	})
}

// A greeting whose last line refuses is a refusal (RFC 5321 §4.2.1), and the mail
// waits.
func TestGreetingThatRefuses(t *testing.T) {
	for _, greeting := range []string{"220-hello\r\n521 no mail here", "554 5.7.1 go away", "421 busy", "220-hello\r\n250 what"} {
		hop := startHop(t, answering("GREETING", greeting))
		r := startRelay(t, DirectionEncrypt, hop.addr())
		c := connect(t, r)
		if got := attempt(c, testMessage); !strings.HasPrefix(got, "451 4.4.1") {
			t.Errorf("greeting %q: %q", greeting, got)
		}
	}
}

// Keywords of extensions come in any case (RFC 5321 §2.4, §4.1.1.1).
func TestKeywordsInAnyCase(t *testing.T) {
	certs := makeCerts(t)
	for _, mode := range []TLSMode{TLSOpportunistic, TLSRequired} {
		hop := startHop(t, func(h *testHop) {
			h.ext, h.tls = []string{"pipelining", "8bitmime", "Size 9000000", "dsn"}, certs.server(t)
			h.script = func(line string) string {
				if strings.HasPrefix(line, "EHLO") {
					return "250-hop.example\r\n250-starttls\r\n250-pipelining\r\n250 8bitmime"
				}
				return ""
			}
		})
		r := startRelay(t, DirectionDecrypt, hop.addr(), func(c *Config) {
			c.NextHops[0].TLS = mode
			if mode == TLSRequired {
				c.NextHops[0].TLSCA = certs.ca
			}
		})
		c := connect(t, r)
		c.want("250", attempt(c, messageFor(t, DirectionDecrypt, r.km)))
		if !hop.one().tls {
			t.Errorf("tls = %q: STARTTLS in lower case was not seen", mode)
		}
	}
	hop := startHop(t, func(h *testHop) { h.ext = []string{"8bitMIME"} })
	r := startRelay(t, DirectionDecrypt, hop.addr())
	c := connect(t, r)
	c.want("250", c.mail("From: x@o.example\r\n\r\nGrüße\r\n", "x@o.example", "bob@b.example"))
}

// Opportunistic TLS that fails is given up for a while, not the mail; required TLS
// is not.
func TestSTARTTLSFails(t *testing.T) {
	certs := makeCerts(t)
	broken := certs.server(t)
	broken.MaxVersion = tls.VersionTLS10 // no version in common
	for _, tt := range []struct {
		name   string
		mode   TLSMode
		change func(*testHop)
		want   string
	}{
		{"refused", TLSOpportunistic, func(h *testHop) { h.script = answer("STARTTLS", "454 4.7.0 TLS not available") }, "250"},
		{"no certificate", TLSOpportunistic, func(h *testHop) { h.script = answer("STARTTLS", "554 5.7.3 no certificate") }, "250"},
		{"handshake", TLSOpportunistic, func(h *testHop) { h.tls = broken }, "250"},
		{"dropped", TLSOpportunistic, func(h *testHop) { h.script = answer("STARTTLS", drop) }, "250"},
		{"required, refused", TLSRequired, func(h *testHop) { h.script = answer("STARTTLS", "454 4.7.0 TLS not available") }, "451 4.4.1"},
		{"required, handshake", TLSRequired, func(h *testHop) { h.tls = broken }, "451 4.4.1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			noLeaks(t)
			hop := startHop(t, func(h *testHop) { h.tls = certs.server(t); tt.change(h) })
			r := startRelay(t, DirectionEncrypt, hop.addr(), func(c *Config) {
				c.NextHops[0].TLS = tt.mode
				if tt.mode == TLSRequired {
					c.NextHops[0].TLSCA = certs.ca
				}
			})
			c := connect(t, r)
			c.want(tt.want, attempt(c, testMessage))
			if tt.want == "250" && (hop.one().tls || !strings.Contains(r.log.String(), "TLS with the next hop failed")) {
				t.Errorf("it went in TLS, or the log does not say why it did not:\n%s", r.log)
			}
		})
	}
}

// answer is the script of answering.
func answer(prefix, reply string) func(string) string {
	h := new(testHop)
	answering(prefix, reply)(h)
	return h.script
}

// A connection takes a number of messages: Exim, by default, only queues what
// comes after the tenth.
func TestMessagesOfAConnection(t *testing.T) {
	for _, tt := range []struct {
		greeting         string
		configured, most int
	}{
		{"220 mail.example ESMTP Exim 4.96 Sun, 29 Nov 2026 12:00:00 +0000", 0, 10},
		{"220-mail.example\r\n220 ESMTP Exim 4.96", 0, 10},
		{"220 mail.example ESMTP Exim 4.96", 12, 12},
		{"220 mail.example ESMTP Postfix", 0, 12},
		{"220 mail.example ESMTP", 1, 1},
		{"220 mail.example ESMTP", 3, 3},
	} {
		t.Run(fmt.Sprint(tt.greeting[4:], tt.configured), func(t *testing.T) {
			noLeaks(t)
			var worst atomic.Int64
			hop := startHop(t, func(h *testHop) {
				h.perConn = func() func(string) string {
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
			r := startRelay(t, DirectionEncrypt, hop.addr(), func(c *Config) {
				c.NextHops[0].MaxMessages = tt.configured
			})
			c := connect(t, r)
			for range 12 {
				c.want("250", attempt(c, testMessage))
			}
			if worst.Load() != int64(tt.most) {
				t.Errorf("%d messages through one connection, want %d", worst.Load(), tt.most)
			}
		})
	}
}
