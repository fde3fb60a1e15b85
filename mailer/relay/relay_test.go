package relay_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/mailer"
	"github.com/qkdmail/qkdmail/mailer/internal/mailtest"
	"github.com/qkdmail/qkdmail/mailer/relay"
	"github.com/qkdmail/qkdmail/mailer/relay/config"
)

// The relay starts while everything else is down, and delivers once it is up.
func TestStartBeforeTheOthers(t *testing.T) {
	mailtest.NoLeaks(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	_ = l.Close()
	km := mailtest.NewKM()
	km.OnGet = func(context.Context) error { return kmclient.ErrUnavailable }
	r := mailtest.StartRelayWith(t, km, mailer.DirectionEncrypt, addr)
	c := mailtest.Connect(t, r)
	// What the next hop offers is not known yet; mail that needs an extension must wait,
	// not bounce.
	for _, e := range []string{"8BITMIME", "SMTPUTF8", "DSN", "SIZE 104857600"} {
		if !strings.Contains(c.Cmd("EHLO x"), e) {
			t.Errorf("%s is not offered", e)
		}
	}
	c.Want("451 4.4.1", c.Attempt(mailtest.Text))
	hop := mailtest.StartHop(t, func(h *mailtest.Hop) {
		if h.Listener, err = net.Listen("tcp", addr); err != nil {
			t.Skip("another has taken the port:", err)
		}
	})
	c.Want("250", c.Cmd("RSET"))
	c.Want("451 4.7.5", c.Attempt(mailtest.Text))
	hop.None()
	km.OnGet = nil
	c.Want("250", c.Attempt(mailtest.Text))
	if got := mailtest.Open(t, km, hop.One().Data); got != mailtest.Text {
		t.Errorf("%q", got)
	}
}

func TestReload(t *testing.T) {
	mailtest.NoLeaks(t)
	first, second := mailtest.StartHop(t), mailtest.StartHop(t, func(h *mailtest.Hop) { h.Extensions = []string{"SIZE 1000000"} })
	r := mailtest.StartRelay(t, mailer.DirectionEncrypt, first.Addr())
	before := mailtest.Connect(t, r)
	before.Want("250", before.Attempt(mailtest.Text))

	load := func(change func(*config.Config)) error {
		cfg := mailtest.Config(mailer.DirectionEncrypt, first.Addr())
		change(cfg)
		return r.Reload(cfg)
	}
	for name, bad := range map[string]func(*config.Config){
		"another address":     func(c *config.Config) { c.Listeners[0].Address = "127.0.0.1:1" },
		"another direction":   func(c *config.Config) { c.Listeners[0].Direction = mailer.DirectionDecrypt },
		"another key manager": func(c *config.Config) { c.KM.URL = "mock:other.json" },
		"another SAE":         func(c *config.Config) { c.KM.SAE = "SAE_C" },
		"one more listener":   func(c *config.Config) { c.Listeners = append(c.Listeners, c.Listeners[0]) },
		"no default rule":     func(c *config.Config) { c.Rules = c.Rules[:1] },
		"no such next hop":    func(c *config.Config) { c.Listeners[0].NextHop = "missing" },
		"no such CA":          func(c *config.Config) { c.NextHops[0].TLSCA = "missing" },
		"no such users":       func(c *config.Config) { c.Listeners[0].AuthFile = "missing" },
		"no such password":    func(c *config.Config) { c.NextHops[0].AuthPasswordFile = "missing" },
		"no such certificate": func(c *config.Config) { c.Listeners[0].TLS, c.Listeners[0].TLSCert = config.TLSRequired, "missing" },
	} {
		if err := load(bad); !errors.Is(err, mailer.ErrConfig) {
			t.Errorf("%s: %v", name, err)
		}
	}
	c := mailtest.Connect(t, r)
	c.Want("250", c.Attempt(mailtest.Text))
	if n := len(first.Got()); n != 2 {
		t.Fatalf("%d messages: the old configuration should go on", n)
	}

	// Another next hop under another name, other limits and rules.
	err := load(func(c *config.Config) {
		c.NextHops[0].Name, c.NextHops[0].Address = "other", second.Addr()
		c.Listeners[0].NextHop = "other"
		c.Rules[0] = config.Rule{Domain: "b.example", Encrypt: mailer.Never}
		c.Limits.ConnectionsPerClient = 3
	})
	if err != nil {
		t.Fatal(err)
	}
	before.Want("250", before.Attempt(mailtest.Text)) // a session keeps its own
	if n := len(first.Got()); n != 3 {
		t.Errorf("%d messages at the old next hop", n)
	}
	c = mailtest.Connect(t, r)
	c.Want("250", c.Attempt(mailtest.Text))
	if got := second.One().Data; !strings.HasSuffix(got, mailtest.Text) {
		t.Errorf("the new rule was not taken: %s", got)
	}
	hello := c.Cmd("EHLO x")
	if strings.Contains(hello, "SMTPUTF8") || !strings.Contains(hello, "SIZE 649") {
		t.Errorf("offers of the old next hop: %s", hello)
	}
	turned := mailtest.Dial(t, r.Addr)
	turned.Want("421", turned.Reply())

	// A network taken away is closed for new clients.
	if err := load(func(c *config.Config) {
		c.Listeners[0].Networks = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	}); err != nil {
		t.Fatal(err)
	}
	turned = mailtest.Dial(t, r.Addr)
	turned.Want("554", turned.Reply())
}

// A stop lets messages under way finish, answers 421 to other clients, and accepts no new
// ones.
func TestGracefulStop(t *testing.T) {
	mailtest.NoLeaks(t)
	hop := mailtest.StartHop(t)
	r := mailtest.StartRelay(t, mailer.DirectionEncrypt, hop.Addr(), func(c *config.Config) { c.Timeouts.Shutdown = mailtest.Patience })
	idle, envelope, busy, unhappy := mailtest.Connect(t, r), mailtest.Connect(t, r), mailtest.Connect(t, r), mailtest.Dial(t, r.Addr)
	envelope.Want("250", envelope.Cmd("MAIL FROM:<a@a.example>"))
	busy.Begin("alice@a.example", "bob@b.example")
	busy.Send(mailtest.Text[:50])
	stopped := make(chan error, 1)
	go func() { stopped <- r.Stop() }()
	unhappy.Reply() // greeting, or 421 at once
	for _, c := range []*mailtest.Client{idle, envelope, unhappy} {
		c.Want("421 4.3.2", c.Reply())
		c.Closed()
	}
	if conn, err := net.Dial("tcp", r.Addr.String()); err == nil {
		_ = conn.Close()
		t.Error("a new client is accepted")
	}
	select {
	case err := <-stopped:
		t.Fatal("stopped within a message:", err)
	default:
	}
	busy.Send(mailtest.Stuffed(mailtest.Text[50:]))
	busy.Want("250", busy.Reply())
	busy.Want("421", busy.Reply())
	busy.Closed()
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	if got := mailtest.Open(t, r.KM, hop.One().Data); got != mailtest.Text {
		t.Errorf("%q", got)
	}
}

// A stop is bounded: a message that does not end is cut, and not delivered.
func TestStopIsBounded(t *testing.T) {
	mailtest.NoLeaks(t)
	hop, r, c := mailtest.Start(t, mailer.DirectionEncrypt, func(c *config.Config) { c.Timeouts.Shutdown = 100 * time.Millisecond })
	c.Begin("alice@a.example", "bob@b.example")
	c.Send(mailtest.Text)
	start := time.Now()
	if err := r.Stop(); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	if took := time.Since(start); took > time.Second {
		t.Error("it took", took)
	}
	c.Closed()
	hop.None()
}

// A stop at the moment when clients begin to wait.
func TestStopMeetsWaiting(t *testing.T) {
	mailtest.NoLeaks(t)
	hop := mailtest.StartHop(t)
	for range 30 {
		r := mailtest.StartRelay(t, mailer.DirectionEncrypt, hop.Addr(), func(c *config.Config) { c.Timeouts.Shutdown = mailtest.Patience })
		c := mailtest.Connect(t, r)
		go c.Send("NOOP\r\n")
		start := time.Now()
		if err := r.Stop(); err != nil || time.Since(start) > mailtest.Patience/2 {
			t.Fatal(err, time.Since(start))
		}
		_ = c.Conn.Close()
	}
}

// Nothing secret is in the log, and each message has its line.
func TestLog(t *testing.T) {
	mailtest.Directions(t, func(t *testing.T, d mailer.Direction) {
		for _, tt := range []struct {
			name       string
			set        func(*config.Log)
			has, lacks string
		}{
			{"default", func(*config.Log) {}, "message_id=<1@a.example>", "alice@"},
			{"hash", func(l *config.Log) { l.MessageID = "hash" }, "message_id=", "1@a.example"},
			{"off", func(l *config.Log) { l.MessageID = "off" }, "msg=delivered", "message_id="},
			{"addresses", func(l *config.Log) { l.Addresses = true }, "from=alice@a.example", "very secret"},
		} {
			t.Run(tt.name, func(t *testing.T) {
				mailtest.NoLeaks(t)
				refused := false
				hop := mailtest.StartHop(t, func(h *mailtest.Hop) {
					h.Script = func(line string) string {
						switch {
						case line != "DOT":
							return ""
						case refused:
							return "550 5.7.1 <bob@b.example> does not like you"
						}
						return "250 2.0.0 <bob@b.example> QUEUEID1 saved"
					}
				})
				r := mailtest.StartRelay(t, d, hop.Addr(), func(c *config.Config) { tt.set(&c.Log) })
				c := mailtest.Connect(t, r)
				c.Want("250", c.Mail(mailtest.MessageFor(t, d, r.KM), "alice@a.example", "bob@b.example"))
				refused = true
				c.Want("550 5.7.1 <bob@b.example> does", c.Mail(mailtest.MessageFor(t, d, r.KM), "alice@a.example", "bob@b.example"))
				log := r.Log.String()
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

// A message can't write lines or escape sequences into the log.
func TestLogInjection(t *testing.T) {
	mailtest.NoLeaks(t)
	_, r, c := mailtest.Start(t, mailer.DirectionDecrypt)
	c.Want("250", c.Mail("From: x@x.example\r\nMessage-ID: <\x1b[31m\" level=ERROR \xff\r\n evil"+strings.Repeat("x", 500)+">\r\n\r\nbody\r\n", "x@x.example", "y@y.example"))
	log := r.Log.String()
	if strings.Contains(log, "\x1b") || strings.Contains(log, "\xff") || strings.Contains(log, strings.Repeat("x", 300)) || strings.Contains(log, "\n evil") {
		t.Error("it can")
	}
}

// Panics of one message end neither the relay nor other messages.
func TestPanic(t *testing.T) {
	for name, rcpts := range map[string][]string{"SMTP": {"b@b.example"}, "LMTP": {"b@b.example"}, "LMTP groups": {"b@b.example", "c@c.example"}} {
		t.Run(name, func(t *testing.T) {
			mailtest.NoLeaks(t)
			hop := mailtest.StartHop(t)
			km := mailtest.NewKM()
			km.OnGet = func(context.Context) error { panic("out of order") }
			r := mailtest.StartRelayWith(t, km, mailer.DirectionEncrypt, hop.Addr(), func(c *config.Config) {
				if name != "SMTP" {
					c.Listeners[0].Protocol = config.LMTP
				}
			})
			c := mailtest.Connect(t, r)
			c.Want("451 4.3.0", c.Mail(mailtest.Text, "a@a.example", rcpts...))
			for range rcpts[1:] {
				c.Want("451 4.3.0", c.Reply())
			}
			hop.None()
			km.OnGet = nil
			c.Want("250", c.Attempt(mailtest.Text))
		})
	}
}

// What New and Listen refuse.
func TestNewRelayErrors(t *testing.T) {
	for name, change := range map[string]func(*config.Config){
		"rules":       func(c *config.Config) { c.Rules = c.Rules[:1] },
		"next hop":    func(c *config.Config) { c.NextHops[0].Address = "nowhere" },
		"no next hop": func(c *config.Config) { c.NextHops = nil },
		"certificate": func(c *config.Config) { c.Listeners[0].TLS = config.TLSRequired },
	} {
		cfg := mailtest.Config(mailer.DirectionEncrypt, "127.0.0.1:1")
		change(cfg)
		if _, err := relay.New(cfg, relay.WithoutStore(mailtest.NewKM()), slog.New(slog.DiscardHandler)); !errors.Is(err, mailer.ErrConfig) {
			t.Errorf("%s: %v", name, err)
		}
	}
	cfg := mailtest.Config(mailer.DirectionEncrypt, "127.0.0.1:1")
	cfg.Listeners = append(cfg.Listeners, cfg.Listeners[0])
	cfg.Listeners[1].Name, cfg.Listeners[1].Address = "second", "192.0.2.1:1"
	r, err := relay.New(cfg, relay.WithoutStore(mailtest.NewKM()), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Listen(t.Context()); err == nil || !strings.Contains(err.Error(), "second") {
		t.Error(err)
	}
}

func TestCheckNextHops(t *testing.T) {
	mailtest.NoLeaks(t)
	// A next hop that accepts connections and says nothing.
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	good := mailtest.StartHop(t)
	r := mailtest.StartRelay(t, mailer.DirectionEncrypt, good.Addr(), func(c *config.Config) {
		more := c.NextHops[0]
		more.Name, more.Address = "silent", silent.Addr().String()
		c.NextHops = append(c.NextHops, more)
		more.Name, more.Address = "down", "127.0.0.1:1"
		c.NextHops = append(c.NextHops, more)
	})
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	found := r.CheckNextHops(ctx)
	if len(found) != 3 || found["next"] != nil || found["silent"] == nil || found["down"] == nil {
		t.Errorf("found %v, want next to be fine", found)
	}
	good.None()
}

// Many clients at once, through both relays, with a next hop that refuses and drops now
// and then: each 250 stands for one message with its bytes, and there are no other
// messages.
func TestManyClients(t *testing.T) {
	mailtest.NoLeaks(t)
	n := 0
	hop := mailtest.StartHop(t, func(h *mailtest.Hop) {
		var mu sync.Mutex
		h.Script = func(line string) string {
			mu.Lock()
			defer mu.Unlock()
			if n++; line == "GREETING" || strings.HasPrefix(line, "EHLO") {
				return ""
			}
			switch {
			case n%397 == 0:
				return mailtest.Drop
			case n%251 == 0 && line != "BODY":
				return "451 4.3.0 later"
			}
			return ""
		}
	})
	decrypt := mailtest.StartRelay(t, mailer.DirectionDecrypt, hop.Addr())
	encrypt := mailtest.StartRelayWith(t, decrypt.KM, mailer.DirectionEncrypt, decrypt.Addr.String(), func(c *config.Config) { c.NextHops[0].MaxConnections = 5 })
	var mu sync.Mutex
	sent := map[string]bool{}
	var wg sync.WaitGroup
	for client := range 16 {
		c := mailtest.Connect(t, encrypt)
		wg.Go(func() {
			for i := range 20 {
				id := fmt.Sprintf("<%d.%d@x.example>", client, i)
				message := "From: x@x.example\r\nMessage-ID: " + id + "\r\n\r\n" + strings.Repeat("body of "+id+"\r\n", 1+i*i)
				reply := c.Cmd("MAIL FROM:<x@x.example>")
				if strings.HasPrefix(reply, "250") {
					reply = c.Cmd("RCPT TO:<y@b.example>")
				}
				if strings.HasPrefix(reply, "250") {
					c.Send("DATA\r\n")
					c.Reply()
					c.Send(mailtest.Stuffed(message))
					reply = c.Reply()
				}
				switch {
				case strings.HasPrefix(reply, "250"):
					mu.Lock()
					sent[message] = true
					mu.Unlock()
				case !strings.HasPrefix(reply, "451"):
					t.Errorf("%s: %q", id, reply)
				}
				_ = c.Cmd("RSET")
			}
		})
	}
	wg.Wait()
	got := map[string]int{}
	for _, m := range hop.Got() {
		_, message, _ := strings.Cut(m.Data, "From: x@x.example\r\n")
		got["From: x@x.example\r\n"+message]++
	}
	for message := range sent {
		if got[message] != 1 {
			t.Errorf("%d times at the next hop: %q", got[message], mailtest.Clip(message))
		}
	}
	if len(sent) < 100 {
		t.Errorf("only %d of 320 messages went through", len(sent))
	}
}

// A relay does not start without the keys that its direction needs; the error names what
// is missing.
func TestNewNeedsKeys(t *testing.T) {
	all := relay.WithoutStore(mailtest.NewKM())
	for missing, tt := range map[string]struct {
		direction mailer.Direction
		without   func(*relay.Keys)
	}{
		"relay.Keys.Source":     {mailer.DirectionEncrypt, func(k *relay.Keys) { k.Source = nil }},
		"relay.Keys.Finder":     {mailer.DirectionDecrypt, func(k *relay.Keys) { k.Finder = nil }},
		"relay.Keys.Binder":     {mailer.DirectionDecrypt, func(k *relay.Keys) { k.Binder = nil }},
		"relay.Keys.Deliveries": {mailer.DirectionDecrypt, func(k *relay.Keys) { k.Deliveries = nil }},
	} {
		keys := all
		tt.without(&keys)
		_, err := relay.New(mailtest.Config(tt.direction, "127.0.0.1:1"), keys, nil)
		if !errors.Is(err, mailer.ErrConfig) || !strings.Contains(err.Error(), missing) {
			t.Errorf("without %s: %v", missing, err)
		}
	}
}
