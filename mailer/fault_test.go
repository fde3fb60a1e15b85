package mailer

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/qkdmail/qkdmail/kmclient"
)

// directions runs a test with an encrypting and a decrypting relay.
func directions(t *testing.T, test func(t *testing.T, d Direction)) {
	for _, d := range []Direction{DirectionEncrypt, DirectionDecrypt} {
		t.Run(string(d), func(t *testing.T) { test(t, d) })
	}
}

// messageFor is what a client gives to a relay of this direction.
func messageFor(t *testing.T, d Direction, km *testKM) string {
	if d == DirectionDecrypt {
		return seal(t, km, testMessage)
	}
	return testMessage
}

// attempt sends a message and returns the reply that ended the attempt.
func attempt(c *testClient, message string) string {
	for _, line := range []string{"MAIL FROM:<alice@a.example>", "RCPT TO:<bob@b.example>"} {
		if reply := c.cmd(line); !strings.HasPrefix(reply, "250") {
			return reply
		}
	}
	if reply := c.cmd("DATA"); !strings.HasPrefix(reply, "354") {
		return reply
	}
	c.send(stuffed(message))
	return c.reply()
}

// The next hop's refusals come through with their enhanced codes, whichever
// command they answer, and the client's connection goes on.
func TestNextHopRefuses(t *testing.T) {
	directions(t, func(t *testing.T, d Direction) {
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
			// What is no refusal and no success must not look like either: 354
			// would have the client's next commands taken for DATA.
			{"MAIL", "354 go", "451 4.5.0 "},
			{"RCPT", "354 go", "451 4.5.0 "},
			{"MAIL", "220 hello again", "451 4.5.0 "},
			{"DATA", "250 2.0.0 ok", "451 4.5.0 "},
			{"DOT", "354 go", "451 4.5.0 "},
			{"DOT", "299 2.0.0 perhaps", "451 4.5.0 "},
			{"DOT", "nonsense", "451 4.5.0 "},
			{"DOT", "550 5.7.1 bell \x07 and\rCR", "550 5.7.1 bell ? and?CR"},
		} {
			t.Run(tt.at+" "+tt.reply, func(t *testing.T) {
				noLeaks(t)
				hop := startHop(t, answering(tt.at, tt.reply))
				r := startRelay(t, d, hop.addr())
				c := connect(t, r)
				if got := attempt(c, messageFor(t, d, r.km)); !strings.HasPrefix(got, tt.want) {
					t.Errorf("%q, want %q", got, tt.want)
				}
				hop.none()
				c.want("250", c.cmd("RSET"))
				c.want("250", c.cmd("NOOP"))
				if !strings.Contains(r.log.String(), "msg=refused") {
					t.Error("nothing in the log")
				}
			})
		}
	})
}

// What hangs is waited for within the time-outs, and answered 451.
func TestNextHopHangs(t *testing.T) {
	directions(t, func(t *testing.T, d Direction) {
		for _, at := range []string{"GREETING", "EHLO", "MAIL", "RCPT", "DATA", "DOT"} {
			t.Run(at, func(t *testing.T) {
				hop := startHop(t, answering(at, hang))
				r := startRelay(t, d, hop.addr(), func(c *Config) {
					c.Timeouts.Command, c.Timeouts.AfterDot = 200*time.Millisecond, 200*time.Millisecond
				})
				c := connect(t, r)
				c.want("451 4.4.", attempt(c, messageFor(t, d, r.km)))
				hop.none()
				c.want("250", c.cmd("NOOP"))
			})
		}
	})
}

func TestNextHopDrops(t *testing.T) {
	directions(t, func(t *testing.T, d Direction) {
		for _, at := range []string{"GREETING", "EHLO", "MAIL", "RCPT", "DATA", "BODY", "DOT"} {
			t.Run(at, func(t *testing.T) {
				noLeaks(t)
				hop := startHop(t, answering(at, drop))
				r := startRelay(t, d, hop.addr())
				c := connect(t, r)
				message := testMessage + strings.Repeat("more\r\n", 100_000)
				if d == DirectionDecrypt {
					message = seal(t, r.km, message)
				}
				c.want("451 4.4.", attempt(c, message))
				hop.none()
				c.want("250", c.cmd("NOOP"))
			})
		}
	})
}

// A kept connection that has died is replaced once, before anything was said.
func TestStaleConnection(t *testing.T) {
	directions(t, func(t *testing.T, d Direction) {
		noLeaks(t)
		hop := startHop(t)
		r := startRelay(t, d, hop.addr())
		c := connect(t, r)
		for i := range 3 {
			c.want("250", attempt(c, messageFor(t, d, r.km)))
			if n := len(hop.got()); n != i+1 {
				t.Fatalf("%d messages", n)
			}
			hop.dropIdle()
		}
		// One that is not stale is used again.
		before := hop.connections()
		for range 3 {
			c.want("250", attempt(c, messageFor(t, d, r.km)))
		}
		if n := hop.connections() - before; n > 1 {
			t.Errorf("%d new connections for 3 messages", n)
		}
	})
}

// An SMTPUTF8 message after a refused one: the kept connection has died, which
// does not mean that the next hop has no SMTPUTF8.
func TestStaleConnectionUTF8(t *testing.T) {
	noLeaks(t)
	refuse := "550 5.1.8 no"
	hop := startHop(t, func(h *testHop) {
		h.script = func(line string) string {
			if strings.HasPrefix(line, "MAIL") {
				return refuse
			}
			return ""
		}
	})
	r := startRelay(t, DirectionDecrypt, hop.addr())
	c := connect(t, r)
	c.want("250", c.cmd("MAIL FROM:<a@x.example>"))
	c.want("550", c.cmd("RCPT TO:<b@b.example>"))
	c.want("250", c.cmd("RSET"))
	refuse = ""
	hop.dropIdle()
	c.want("250", c.cmd("MAIL FROM:<ä@x.example> SMTPUTF8"))
	c.want("250", c.cmd("RCPT TO:<b@b.example>"))
}

// A refused command leaves a connection that can be used again.
func TestConnectionAfterRefusal(t *testing.T) {
	for _, at := range []string{"MAIL", "RCPT", "DATA", "DOT"} {
		t.Run(at, func(t *testing.T) {
			noLeaks(t)
			var refusing atomic.Bool
			refusing.Store(true)
			hop := startHop(t, func(h *testHop) {
				h.script = func(line string) string {
					if refusing.Load() && strings.HasPrefix(line, at) {
						return "450 4.2.0 later"
					}
					return ""
				}
			})
			r := startRelay(t, DirectionEncrypt, hop.addr(), func(c *Config) { c.NextHops[0].MaxConnections = 1 })
			c := connect(t, r)
			c.want("450", attempt(c, testMessage))
			c.want("250", c.cmd("RSET"))
			refusing.Store(false)
			c.want("250", attempt(c, testMessage))
			most := 2 // the probe may have had one
			if at == "MAIL" {
				most = 3 // what accepts RCPT after it has refused MAIL is not used again
			}
			if n := hop.connections(); n > most {
				t.Errorf("%d connections", n)
			}
			hop.one()
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
			noLeaks(t)
			hop := startHop(t, answering(tt.at, tt.reply))
			r := startRelay(t, DirectionDecrypt, hop.addr(), func(c *Config) { c.Timeouts.Command = time.Second })
			c := connect(t, r)
			c.want("250", c.cmd("MAIL FROM:<alice@a.example>"))
			c.want(tt.want, c.cmd("RCPT TO:<b@b.example>"))
		})
	}
}

// netError is what a key manager that can't be reached gives.
func netError() error {
	return fmt.Errorf("%w: %w", kmclient.ErrUnavailable, &net.OpError{Op: "dial", Err: errors.New("refused")})
}

func TestKeyManagerFails(t *testing.T) {
	for name, err := range map[string]error{
		"down":      netError(),
		"timeout":   fmt.Errorf("%w: %w", kmclient.ErrUnavailable, context.DeadlineExceeded),
		"refuses":   kmclient.ErrRefused,
		"exhausted": kmclient.ErrKeyExhausted,
		"nonsense":  kmclient.ErrBadAnswer,
		"bad key":   kmclient.ErrBadKey,
		"store":     kmclient.ErrStore,
		"unknown":   errors.New("something else"),
	} {
		t.Run(name, func(t *testing.T) {
			directions(t, func(t *testing.T, d Direction) {
				noLeaks(t)
				hop := startHop(t)
				km := newTestKM()
				message := messageFor(t, d, km)
				km.get = func(context.Context) error { return err }
				km.find = func(context.Context, []string) error { return err }
				r := startRelayWith(t, km, d, hop.addr())
				c := connect(t, r)
				c.want("451 4.", attempt(c, message))
				hop.none()
				c.want("250", c.cmd("NOOP"))
			})
		})
	}
}

func TestKeyManagerSlow(t *testing.T) {
	directions(t, func(t *testing.T, d Direction) {
		noLeaks(t)
		hop := startHop(t)
		km := newTestKM()
		message := messageFor(t, d, km)
		wait := func(ctx context.Context) error {
			<-ctx.Done()
			return fmt.Errorf("%w: %w", kmclient.ErrUnavailable, ctx.Err())
		}
		km.get = wait
		km.find = func(ctx context.Context, _ []string) error { return wait(ctx) }
		r := startRelayWith(t, km, d, hop.addr(), func(c *Config) { c.KM.Timeout = 100 * time.Millisecond })
		c := connect(t, r)
		c.want("451 4.7.5", attempt(c, message))
		hop.none()
	})
}

func TestKeyManagerWrongKey(t *testing.T) {
	noLeaks(t)
	hop := startHop(t)
	r := startRelay(t, DirectionDecrypt, hop.addr())
	r.km.spoil = func(_ string, octets []byte) []byte { octets[3] ^= 1; return octets }
	c := connect(t, r)
	c.want("550 5.7.7", attempt(c, messageFor(t, DirectionDecrypt, r.km)))
	hop.none()
	r.km.spoil = func(_ string, octets []byte) []byte { return octets[:16] }
	c.want("550 5.7.7", attempt(c, messageFor(t, DirectionDecrypt, r.km)))
	hop.none()
}

// A message whose pad runs out in the middle was not sent.
func TestKeysRunOutMidway(t *testing.T) {
	noLeaks(t)
	hop := startHop(t)
	r := startRelay(t, DirectionEncrypt, hop.addr())
	calls := 0
	r.km.get = func(context.Context) error {
		if calls++; calls > 2 {
			return kmclient.ErrKeyExhausted
		}
		return nil
	}
	c := connect(t, r)
	c.want("451 4.7.5", c.mail(testMessage+strings.Repeat("padded\r\n", 100_000), "a@a.example", "b@pad.example"))
	hop.none()
	hop.wasCut()
}

// The client goes away, or is too slow: nothing is delivered, the connection
// is closed, and what comes later is not taken for commands.
func TestClientStops(t *testing.T) {
	directions(t, func(t *testing.T, d Direction) {
		for name, part := range map[string]int{"in the header": 20, "in the body": -40, "before the dot": 0} {
			for _, how := range []string{"closes", "stops"} {
				t.Run(name+" "+how, func(t *testing.T) {
					noLeaks(t)
					hop := startHop(t)
					r := startRelay(t, d, hop.addr(), func(c *Config) { c.Timeouts.DataIdle = 100 * time.Millisecond })
					message := messageFor(t, d, r.km)
					if part <= 0 {
						part += len(message)
					}
					c := connect(t, r)
					c.begin("alice@a.example", "bob@b.example")
					c.send(message[:part])
					if how == "closes" {
						_ = c.conn.Close()
					} else {
						c.closed()
					}
					if err := r.stop(); err != nil {
						t.Error(err)
					}
					hop.none()
					if log := r.log.String(); !strings.Contains(log, "msg=refused") || !strings.Contains(log, "connection lost") {
						t.Error("no reason in the log")
					}
				})
			}
		}
	})
}

// A client that sends, but hardly anything.
func TestClientSlow(t *testing.T) {
	noLeaks(t)
	hop := startHop(t)
	r := startRelay(t, DirectionEncrypt, hop.addr(), func(c *Config) {
		c.Timeouts.DataIdle, c.Timeouts.MinRate = 100*time.Millisecond, 1000
	})
	c := connect(t, r)
	c.begin("alice@a.example", "bob@b.example")
	go func() {
		for {
			if _, err := c.conn.Write([]byte("a\r\n")); err != nil {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
	}()
	c.closed()
	hop.none()
}

// A message that was refused early goes on to come; when its client stops
// then, the rest must not be taken for commands.
func TestClientStopsAfterRefusal(t *testing.T) {
	noLeaks(t)
	hop := startHop(t)
	r := startRelay(t, DirectionEncrypt, hop.addr(), func(c *Config) { c.Timeouts.DataIdle = 100 * time.Millisecond })
	c := connect(t, r)
	c.begin("alice@a.example", "bob@b.example")
	c.send("bare\nline end\r\n\r\n")
	time.Sleep(300 * time.Millisecond)
	c.send("MAIL FROM:<evil@a.example>\r\nRCPT TO:<victim@b.example>\r\nDATA\r\n\r\n.\r\n")
	c.closed()
	if n := strings.Count(hop.commands(), "evil"); n > 0 {
		t.Error("a line of DATA became a command")
	}
	hop.none()
}

func TestIdleClient(t *testing.T) {
	noLeaks(t)
	hop := startHop(t)
	r := startRelay(t, DirectionEncrypt, hop.addr(), func(c *Config) { c.Timeouts.Idle = 100 * time.Millisecond })
	c := connect(t, r)
	c.want("421 4.4.2", c.reply())
	c.closed()
}
