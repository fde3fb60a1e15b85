// Package mailtest has a relay and its surroundings for tests: clients, next hops and a
// key manager that do what a test says.
package mailtest

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/qkdmail/qkdmail/cipher"
	"github.com/qkdmail/qkdmail/mailer"
	"github.com/qkdmail/qkdmail/mailer/relay"
	"github.com/qkdmail/qkdmail/mailer/relay/config"
)

// Patience bounds every wait of a test for something that must come.
const Patience = 30 * time.Second

// A logBuffer keeps what is logged.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// A Relay is a running relay with one listener.
type Relay struct {
	*relay.Relay
	Addr   net.Addr
	KM     *KM
	Log    fmt.Stringer // what was logged
	Config *config.Config
	Stop   func() error // idempotent
}

// Config returns the configuration that tests start from: one listener, one next hop, two
// peers, rules for their domains.
func Config(direction mailer.Direction, hop string) *config.Config {
	c, err := config.Quick(config.QuickOptions{Direction: direction, Listen: "127.0.0.1:0", NextHop: hop, KM: config.KM{URL: "mock:"}})
	if err != nil {
		panic(err)
	}
	c.Hostname, c.Listeners[0].Name = "relay.example", "in"
	own, peer := config.Peer{Name: "bravo", SAE: "SAE_B", Domains: []string{"b.example"}}, config.Peer{Name: "alpha", SAE: "SAE_A", Domains: []string{"a.example"}}
	if direction == mailer.DirectionEncrypt {
		own, peer = peer, own
	}
	c.KM = config.KM{URL: "mock:", SAE: own.SAE, Timeout: 5 * time.Second}
	c.Peers = []config.Peer{peer, {Name: "charlie", SAE: "SAE_C", Domains: []string{"c.example"}}}
	if direction == mailer.DirectionEncrypt {
		c.Rules = []config.Rule{
			{Domain: "b.example", Peer: "bravo", Suite: "aes-256-gcm"},
			{Domain: "pad.example", Peer: "bravo", Suite: "otp"},
			{Domain: "auto.example", Peer: "bravo", Suite: "auto", PadLimit: 4096},
			{Domain: "maybe.example", Peer: "bravo", Encrypt: mailer.Opportunistic, Suite: "aes-256-gcm"},
			{Domain: "c.example", Peer: "charlie", Suite: "aes-256-gcm"},
			{Domain: "clear.example", Encrypt: mailer.Never},
			{Domain: "default", Peer: "bravo", Suite: "aes-256-gcm"},
		}
	}
	c.Timeouts.Shutdown = time.Second
	c.Timeouts.Connect = time.Second
	c.Log.Level = slog.LevelDebug
	return c
}

// Start runs a relay in front of a next hop, with a client.
func Start(t testing.TB, direction mailer.Direction, changes ...func(*config.Config)) (*Hop, *Relay, *Client) {
	t.Helper()
	hop := StartHop(t)
	r := StartRelay(t, direction, hop.Addr(), changes...)
	return hop, r, Connect(t, r)
}

// StartRelay runs a relay in front of hop; changes are made to its configuration.
func StartRelay(t testing.TB, direction mailer.Direction, hop string, changes ...func(*config.Config)) *Relay {
	t.Helper()
	return StartRelayWith(t, NewKM(), direction, hop, changes...)
}

// StartRelayWith is StartRelay with a key manager.
func StartRelayWith(t testing.TB, km *KM, direction mailer.Direction, hop string, changes ...func(*config.Config)) *Relay {
	t.Helper()
	keys := relay.WithoutStore(km)
	keys.Claims = km
	return StartRelayWithKeys(t, km, keys, direction, hop, changes...)
}

// StartRelayWithKeys is StartRelay with keys that ultimately come from km.
func StartRelayWithKeys(t testing.TB, km *KM, keys relay.Keys, direction mailer.Direction, hop string, changes ...func(*config.Config)) *Relay {
	t.Helper()
	cfg := Config(direction, hop)
	for _, change := range changes {
		change(cfg)
	}
	log := new(logBuffer)
	r := &Relay{KM: km, Log: log, Config: cfg}
	var err error
	r.Relay, err = relay.New(cfg, keys, slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Listen(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.Addr = r.Addrs()[0]
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Serve(ctx) }()
	r.Stop = sync.OnceValue(func() error { cancel(); return <-done })
	t.Cleanup(func() {
		_ = r.Stop()
		if t.Failed() {
			t.Logf("log of the relay:\n%s", log)
		}
		if km.Leaks(log.String()) {
			t.Error("a key is in the log")
		}
	})
	return r
}

// NoLeaks fails the test if goroutines of a relay outlive it. Call it first in a test, so
// that it checks last.
func NoLeaks(t testing.TB) {
	t.Helper()
	t.Cleanup(func() {
		var left string
		for end := time.Now().Add(Patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
			if left = relayGoroutines(); left == "" {
				return
			}
		}
		t.Errorf("goroutines left:\n%s", left)
	})
}

// relayGoroutines returns the stacks of goroutines, other than the test's, that
// are in the relay's packages or in go-smtp.
func relayGoroutines() string {
	buf := make([]byte, 1<<20)
	buf = buf[:runtime.Stack(buf, true)]
	var left []string
	for i, g := range strings.Split(string(buf), "\n\n") {
		if i > 0 && !strings.Contains(g, "testing.tRunner") && !strings.Contains(g, "testing.(*F)") &&
			(strings.Contains(g, "/qkdmail/mailer") || strings.Contains(g, "go-smtp")) {
			left = append(left, g)
		}
	}
	return strings.Join(left, "\n\n")
}

// Text is a message with a subject and a body that must not be seen.
const Text = "From: Alice <alice@a.example>\r\nTo: bob@b.example\r\nSubject: very secret subject\r\n" +
	"Date: Tue, 24 Nov 2026 07:00:00 +0000\r\nMessage-ID: <1@a.example>\r\n\r\nvery secret body\r\n"

// Seal encrypts a message as the relay of peer alpha does.
func Seal(t testing.TB, keys cipher.KeySource, message string, changes ...func(*cipher.EncryptOptions)) string {
	t.Helper()
	o := &cipher.EncryptOptions{SAE: "SAE_A", Peer: "SAE_B", CRLF: true}
	for _, change := range changes {
		change(o)
	}
	var b bytes.Buffer
	w, err := cipher.Encrypt(t.Context(), &b, keys, o)
	if err != nil {
		t.Fatal(err)
	}
	if _, err = w.Write([]byte(message)); err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// Open decrypts what the encrypt relay has sent to peer bravo.
func Open(t testing.TB, km *KM, message string) string {
	t.Helper()
	var b bytes.Buffer
	if _, err := b.ReadFrom(Decrypt(t, km, message)); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// Decrypt begins to decrypt what the encrypt relay has sent to peer bravo, who has these
// X-Wing keys.
func Decrypt(t testing.TB, km *KM, message string, keys ...*HybridKey) *cipher.Reader {
	t.Helper()
	o := &cipher.DecryptOptions{Binder: cipher.Unbound, SAE: "SAE_B", Peers: []string{"SAE_A"}}
	for _, k := range keys {
		o.Hybrid = append(o.Hybrid, k.HybridPrivateKey)
	}
	r, err := cipher.Decrypt(t.Context(), strings.NewReader(message), km, o)
	if err != nil {
		t.Fatalf("%v of\n%s", err, message)
	}
	return r
}

// After is time.After, in milliseconds.
func After(ms int) <-chan time.Time { return time.After(time.Duration(ms) * time.Millisecond) }

// DiscardLog returns a logger that writes nothing.
func DiscardLog() *slog.Logger { return slog.New(slog.DiscardHandler) }

// Anywhere are the networks of all addresses.
func Anywhere() []netip.Prefix {
	return []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}
}

// Directions runs a test for an encrypting and for a decrypting relay.
func Directions(t *testing.T, test func(t *testing.T, d mailer.Direction)) {
	for _, d := range []mailer.Direction{mailer.DirectionEncrypt, mailer.DirectionDecrypt} {
		t.Run(string(d), func(t *testing.T) { test(t, d) })
	}
}

// MessageFor returns what a client gives to a relay of this direction.
func MessageFor(t *testing.T, d mailer.Direction, km *KM) string {
	if d == mailer.DirectionDecrypt {
		return Seal(t, km, Text)
	}
	return Text
}

// OverLMTP makes the listener speak LMTP.
func OverLMTP(c *config.Config) { c.Listeners[0].Protocol = config.LMTP }

// BothLMTP makes the listener and the next hop speak LMTP.
func BothLMTP(c *config.Config) {
	OverLMTP(c)
	c.NextHops[0].Protocol = config.LMTP
}
