package mailer

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// The relay starts while all else is down, and delivers once it is there.
func TestStartBeforeTheOthers(t *testing.T) {
	noLeaks(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	_ = l.Close()
	km := newTestKM()
	km.get = func(context.Context) error { return netError() }
	r := startRelayWith(t, km, DirectionEncrypt, addr)
	c := connect(t, r)
	// What the next hop offers is not known; mail that needs an extension must
	// wait and not bounce.
	for _, e := range []string{"8BITMIME", "SMTPUTF8", "DSN", "SIZE 104857600"} {
		if !strings.Contains(c.cmd("EHLO x"), e) {
			t.Errorf("%s is not offered", e)
		}
	}
	c.want("451 4.4.1", attempt(c, testMessage))
	hop := startHop(t, func(h *testHop) {
		if h.l, err = net.Listen("tcp", addr); err != nil {
			t.Skip("another has taken the port:", err)
		}
	})
	c.want("250", c.cmd("RSET"))
	c.want("451 4.7.5", attempt(c, testMessage))
	hop.none()
	km.get = nil
	c.want("250", attempt(c, testMessage))
	if got := open(t, km, hop.one().data); got != testMessage {
		t.Errorf("%q", got)
	}
}

func TestReload(t *testing.T) {
	noLeaks(t)
	first, second := startHop(t), startHop(t, func(h *testHop) { h.ext = []string{"SIZE 1000000"} })
	r := startRelay(t, DirectionEncrypt, first.addr())
	before := connect(t, r)
	before.want("250", attempt(before, testMessage))

	load := func(change func(*Config)) error {
		cfg := relayConfig(DirectionEncrypt, first.addr())
		change(cfg)
		return r.Reload(cfg, r.km)
	}
	for name, bad := range map[string]func(*Config){
		"another address":     func(c *Config) { c.Listeners[0].Address = "127.0.0.1:1" },
		"another direction":   func(c *Config) { c.Listeners[0].Direction = DirectionDecrypt },
		"one more listener":   func(c *Config) { c.Listeners = append(c.Listeners, c.Listeners[0]) },
		"no default rule":     func(c *Config) { c.Rules = c.Rules[:1] },
		"no such next hop":    func(c *Config) { c.Listeners[0].NextHop = "missing" },
		"no such CA":          func(c *Config) { c.NextHops[0].TLSCA = "missing" },
		"no such users":       func(c *Config) { c.Listeners[0].AuthFile = "missing" },
		"no such password":    func(c *Config) { c.NextHops[0].AuthPasswordFile = "missing" },
		"no such certificate": func(c *Config) { c.Listeners[0].TLS, c.Listeners[0].TLSCert = TLSRequired, "missing" },
	} {
		if err := load(bad); !errors.Is(err, ErrConfig) {
			t.Errorf("%s: %v", name, err)
		}
	}
	c := connect(t, r)
	c.want("250", attempt(c, testMessage))
	if n := len(first.got()); n != 2 {
		t.Fatalf("%d messages: the old configuration should go on", n)
	}

	// Another next hop under another name, other limits and rules.
	err := load(func(c *Config) {
		c.NextHops[0].Name, c.NextHops[0].Address = "other", second.addr()
		c.Listeners[0].NextHop = "other"
		c.Rules[0] = RuleConfig{Domain: "b.example", Encrypt: Never}
		c.Limits.ConnectionsPerClient = 3
	})
	if err != nil {
		t.Fatal(err)
	}
	before.want("250", attempt(before, testMessage)) // a session keeps its own
	if n := len(first.got()); n != 3 {
		t.Errorf("%d messages at the old next hop", n)
	}
	c = connect(t, r)
	c.want("250", attempt(c, testMessage))
	if got := second.one().data; !strings.HasSuffix(got, testMessage) {
		t.Errorf("the new rule was not taken: %s", got)
	}
	hello := c.cmd("EHLO x")
	if strings.Contains(hello, "SMTPUTF8") || !strings.Contains(hello, "SIZE 717") {
		t.Errorf("offers of the old next hop: %s", hello)
	}
	turned := dial(t, r.addr)
	turned.want("421", turned.reply())

	// A network taken away is closed for new clients.
	if err := load(func(c *Config) { c.Listeners[0].Networks = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")} }); err != nil {
		t.Fatal(err)
	}
	turned = dial(t, r.addr)
	turned.want("554", turned.reply())
}

// A stop lets messages under way come to their end, tells the others, and takes
// no new ones.
func TestGracefulStop(t *testing.T) {
	noLeaks(t)
	hop := startHop(t)
	r := startRelay(t, DirectionEncrypt, hop.addr(), func(c *Config) { c.Timeouts.Shutdown = patience })
	idle, envelope, busy, unhappy := connect(t, r), connect(t, r), connect(t, r), dial(t, r.addr)
	envelope.want("250", envelope.cmd("MAIL FROM:<a@a.example>"))
	busy.begin("alice@a.example", "bob@b.example")
	busy.send(testMessage[:50])
	stopped := make(chan error, 1)
	go func() { stopped <- r.stop() }()
	unhappy.reply() // greeting, or 421 at once
	for _, c := range []*testClient{idle, envelope, unhappy} {
		c.want("421 4.3.2", c.reply())
		c.closed()
	}
	if conn, err := net.Dial("tcp", r.addr.String()); err == nil {
		_ = conn.Close()
		t.Error("a new client is taken")
	}
	select {
	case err := <-stopped:
		t.Fatal("stopped within a message:", err)
	default:
	}
	busy.send(stuffed(testMessage[50:]))
	busy.want("250", busy.reply())
	busy.want("421", busy.reply())
	busy.closed()
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	if got := open(t, r.km, hop.one().data); got != testMessage {
		t.Errorf("%q", got)
	}
}

// A stop is bounded: a message that does not end is cut, and not delivered.
func TestStopIsBounded(t *testing.T) {
	noLeaks(t)
	hop := startHop(t)
	r := startRelay(t, DirectionEncrypt, hop.addr(), func(c *Config) { c.Timeouts.Shutdown = 100 * time.Millisecond })
	c := connect(t, r)
	c.begin("alice@a.example", "bob@b.example")
	c.send(testMessage)
	start := time.Now()
	if err := r.stop(); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	if took := time.Since(start); took > time.Second {
		t.Error("it took", took)
	}
	c.closed()
	hop.none()
}

// The stop that meets clients at the moment when they begin to wait.
func TestStopMeetsWaiting(t *testing.T) {
	noLeaks(t)
	hop := startHop(t)
	for range 30 {
		r := startRelay(t, DirectionEncrypt, hop.addr(), func(c *Config) { c.Timeouts.Shutdown = patience })
		c := connect(t, r)
		go c.send("NOOP\r\n")
		start := time.Now()
		if err := r.stop(); err != nil || time.Since(start) > patience/2 {
			t.Fatal(err, time.Since(start))
		}
		_ = c.conn.Close()
	}
}

// Nothing secret is in the log, and each message has its line.
func TestLog(t *testing.T) {
	directions(t, func(t *testing.T, d Direction) {
		for _, tt := range []struct {
			name       string
			set        func(*LogConfig)
			has, lacks string
		}{
			{"default", func(*LogConfig) {}, "message_id=<1@a.example>", "alice@"},
			{"hash", func(l *LogConfig) { l.MessageID = LogMessageIDHash }, "message_id=", "1@a.example"},
			{"off", func(l *LogConfig) { l.MessageID = LogMessageIDOff }, "msg=delivered", "message_id="},
			{"addresses", func(l *LogConfig) { l.Addresses = true }, "from=alice@a.example", "very secret"},
		} {
			t.Run(tt.name, func(t *testing.T) {
				noLeaks(t)
				refused := false
				hop := startHop(t, func(h *testHop) {
					h.script = func(line string) string {
						switch {
						case line != "DOT":
							return ""
						case refused:
							return "550 5.7.1 <bob@b.example> does not like you"
						}
						return "250 2.0.0 <bob@b.example> QUEUEID1 saved"
					}
				})
				r := startRelay(t, d, hop.addr(), func(c *Config) { tt.set(&c.Log) })
				c := connect(t, r)
				c.want("250", c.mail(messageFor(t, d, r.km), "alice@a.example", "bob@b.example"))
				refused = true
				c.want("550 5.7.1 <bob@b.example> does", c.mail(messageFor(t, d, r.km), "alice@a.example", "bob@b.example"))
				log := r.log.String()
				for _, want := range []string{tt.has, "msg=delivered", "msg=refused", "code=550", "QUEUEID1", "like you", "suite=AES-256-GCM", "key_id=00000000-", "client=127.0.0.1:", "seconds="} {
					if !strings.Contains(log, want) {
						t.Errorf("%s is not in the log", want)
					}
				}
				for _, secret := range []string{tt.lacks, "very secret", "Subject"} {
					if strings.Contains(log, secret) {
						t.Errorf("%s is in the log", secret)
					}
				}
				if tt.name != "addresses" && (strings.Contains(log, "bob@") || strings.Contains(log, "alice@")) {
					t.Error("addresses in the log")
				}
				if n := strings.Count(log, "msg=delivered") + strings.Count(log, "msg=refused"); n != 2 {
					t.Errorf("%d lines for two messages", n)
				}
			})
		}
	})
}

// A message can't write lines or escapes into the log.
func TestLogInjection(t *testing.T) {
	noLeaks(t)
	hop := startHop(t)
	r := startRelay(t, DirectionDecrypt, hop.addr())
	c := connect(t, r)
	c.want("250", c.mail("From: x@x.example\r\nMessage-ID: <\x1b[31m\" level=ERROR \xff\r\n evil"+strings.Repeat("x", 500)+">\r\n\r\nbody\r\n", "x@x.example", "y@y.example"))
	log := r.log.String()
	if strings.Contains(log, "\x1b") || strings.Contains(log, "\xff") || strings.Contains(log, strings.Repeat("x", 300)) || strings.Contains(log, "\n evil") {
		t.Error("it can")
	}
}

// Panics of one message end neither the relay nor other messages.
func TestPanic(t *testing.T) {
	for name, rcpts := range map[string][]string{"SMTP": {"b@b.example"}, "LMTP": {"b@b.example"}, "LMTP groups": {"b@b.example", "c@c.example"}} {
		t.Run(name, func(t *testing.T) {
			noLeaks(t)
			hop := startHop(t)
			km := newTestKM()
			km.get = func(context.Context) error { panic("out of order") }
			r := startRelayWith(t, km, DirectionEncrypt, hop.addr(), func(c *Config) {
				if name != "SMTP" {
					c.Listeners[0].Protocol = ProtocolLMTP
				}
			})
			c := connect(t, r)
			c.want("451 4.3.0", c.mail(testMessage, "a@a.example", rcpts...))
			for range rcpts[1:] {
				c.want("451 4.3.0", c.reply())
			}
			hop.none()
			km.get = nil
			c.want("250", attempt(c, testMessage))
		})
	}
}

// What NewRelay and Listen refuse.
func TestNewRelayErrors(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"rules":       func(c *Config) { c.Rules = c.Rules[:1] },
		"next hop":    func(c *Config) { c.NextHops[0].Address = "nowhere" },
		"no next hop": func(c *Config) { c.NextHops = nil },
		"certificate": func(c *Config) { c.Listeners[0].TLS = TLSRequired },
	} {
		cfg := relayConfig(DirectionEncrypt, "127.0.0.1:1")
		change(cfg)
		if _, err := NewRelay(cfg, newTestKM(), slog.New(slog.DiscardHandler)); !errors.Is(err, ErrConfig) {
			t.Errorf("%s: %v", name, err)
		}
	}
	cfg := relayConfig(DirectionEncrypt, "127.0.0.1:1")
	cfg.Listeners = append(cfg.Listeners, cfg.Listeners[0])
	cfg.Listeners[1].Name, cfg.Listeners[1].Address = "second", "192.0.2.1:1"
	r, err := NewRelay(cfg, newTestKM(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Listen(t.Context()); err == nil || !strings.Contains(err.Error(), "second") {
		t.Error(err)
	}
}
