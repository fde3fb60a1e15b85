package mailer

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
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
	"github.com/qkdmail/qkdmail/kmclient"
)

// patience bounds every wait of a test for something that has to come.
const patience = 30 * time.Second

// A testKM is a key manager in memory, for both sides. What it answers can be
// replaced.
type testKM struct {
	mu     sync.Mutex
	keys   map[string][]byte
	asked  []string // IDs
	given  int
	status func() (kmclient.Status, error)
	get    func(ctx context.Context) error
	find   func(ctx context.Context, ids []string) error
	spoil  func(id string, octets []byte) []byte
}

func newTestKM() *testKM { return &testKM{keys: map[string][]byte{}} }

func (m *testKM) Status(context.Context, string) (kmclient.Status, error) {
	if m.status != nil {
		return m.status()
	}
	return kmclient.Status{KeySize: 256, StoredKeys: new(100_000), MaxKeySize: 4096, MinKeySize: 64, MaxKeyPerRequest: 128}, nil
}

func (m *testKM) GetKeys(ctx context.Context, _ string, size, number int) ([]*kmclient.Key, error) {
	if m.get != nil {
		if err := m.get(ctx); err != nil {
			return nil, err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	var keys []*kmclient.Key
	for range number {
		m.given++
		octets := make([]byte, size/8)
		_, _ = rand.Read(octets)
		id := fmt.Sprintf("00000000-0000-4000-8000-%012d", m.given)
		m.keys[id] = octets
		keys = append(keys, kmclient.NewKey(id, bytes.Clone(octets)))
	}
	return keys, nil
}

func (m *testKM) KeysByID(ctx context.Context, _ string, ids ...string) ([]*kmclient.Key, error) {
	m.mu.Lock()
	m.asked = append(m.asked, ids...)
	m.mu.Unlock()
	if m.find != nil {
		if err := m.find(ctx, ids); err != nil {
			return nil, err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	var keys []*kmclient.Key
	for _, id := range ids {
		octets, ok := m.keys[kmclient.CanonicalID(id)]
		if !ok {
			return nil, fmt.Errorf("%w: %s", kmclient.ErrKeyNotFound, id)
		}
		octets = bytes.Clone(octets)
		if m.spoil != nil {
			octets = m.spoil(id, octets)
		}
		keys = append(keys, kmclient.NewKey(id, octets))
	}
	return keys, nil
}

func (m *testKM) CloseKey(context.Context, string) error { return nil }

func (m *testKM) DeletesOnDelivery() bool { return false }

// Claimed reports whether this key manager has given a key out.
func (m *testKM) Claimed(_ context.Context, _, id string) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, ok := m.keys[kmclient.CanonicalID(id)]
	return ok, nil
}

func (m *testKM) count() (given, asked int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.given, len(m.asked)
}

// leaks reports whether text shows one of the keys.
func (m *testKM) leaks(text string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, k := range m.keys {
		if strings.Contains(text, string(k)) || strings.Contains(strings.ToLower(text), hex.EncodeToString(k)) {
			return true
		}
	}
	return false
}

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

// A testRelay is a running relay with one listener.
type testRelay struct {
	*Relay
	addr net.Addr
	km   *testKM
	log  *logBuffer
	cfg  *Config
	stop func() error // idempotent
}

// relayConfig is a configuration that tests begin with: one listener, one next
// hop, three peers, rules for their domains.
func relayConfig(direction Direction, hop string) *Config {
	c := DefaultConfig()
	c.Hostname = "relay.example"
	var l ListenerConfig
	l.setDefaults()
	l.Name, l.Direction, l.Address, l.NextHop = "in", direction, "127.0.0.1:0", "next"
	c.Listeners = []ListenerConfig{l}
	var n NextHopConfig
	n.setDefaults()
	n.Name, n.Address = "next", hop
	c.NextHops = []NextHopConfig{n}
	c.KM = KMConfig{URL: "mock:", SAE: "SAE_B", Timeout: 5 * time.Second}
	if direction == DirectionEncrypt {
		c.KM.SAE = "SAE_A"
	}
	c.Peers = []PeerConfig{
		{Name: "alpha", SAE: "SAE_A", Domains: []string{"a.example"}},
		{Name: "bravo", SAE: "SAE_B", Domains: []string{"b.example"}},
		{Name: "charlie", SAE: "SAE_C", Domains: []string{"c.example"}},
	}
	for i, p := range c.Peers {
		if p.SAE == c.KM.SAE {
			c.Peers = append(c.Peers[:i], c.Peers[i+1:]...)
			break
		}
	}
	to := c.Peers[0].Name
	if direction == DirectionEncrypt {
		c.Rules = []RuleConfig{
			{Domain: "b.example", Peer: to, Suite: "aes-256-gcm"},
			{Domain: "pad.example", Peer: to, Suite: "otp"},
			{Domain: "auto.example", Peer: to, Suite: "auto", PadLimit: 4096},
			{Domain: "maybe.example", Peer: to, Encrypt: Opportunistic, Suite: "aes-256-gcm"},
			{Domain: "c.example", Peer: "charlie", Suite: "aes-256-gcm"},
			{Domain: "clear.example", Encrypt: Never},
			{Domain: "default", Peer: to, Suite: "aes-256-gcm"},
		}
	}
	c.Timeouts.Shutdown = time.Second
	c.Timeouts.Connect = time.Second
	c.Log.Level = slog.LevelDebug
	return c
}

// startRelay runs a relay before hop; changes are made to its configuration.
func startRelay(t testing.TB, direction Direction, hop string, changes ...func(*Config)) *testRelay {
	t.Helper()
	return startRelayWith(t, newTestKM(), direction, hop, changes...)
}

func startRelayWith(t testing.TB, km *testKM, direction Direction, hop string, changes ...func(*Config)) *testRelay {
	t.Helper()
	return startRelayBehind(t, km, km, direction, hop, changes...)
}

// startRelayBehind runs a relay that gets its keys from front, which gets them
// from km.
func startRelayBehind(t testing.TB, km *testKM, front kmclient.KeyManager, direction Direction, hop string, changes ...func(*Config)) *testRelay {
	t.Helper()
	cfg := relayConfig(direction, hop)
	for _, change := range changes {
		change(cfg)
	}
	r := &testRelay{km: km, log: new(logBuffer), cfg: cfg}
	var err error
	r.Relay, err = NewRelay(cfg, front, slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Listen(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.addr = r.Addrs()[0]
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Serve(ctx) }()
	r.stop = sync.OnceValue(func() error { cancel(); return <-done })
	t.Cleanup(func() {
		_ = r.stop()
		if t.Failed() {
			t.Logf("log of the relay:\n%s", r.log)
		}
		if km.leaks(r.log.String()) {
			t.Error("a key is in the log")
		}
	})
	return r
}

// noLeaks fails the test if goroutines of this package outlive it. It comes
// first in a test, so that it is checked last.
func noLeaks(t testing.TB) {
	t.Helper()
	t.Cleanup(func() {
		var left string
		for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
			if left = relayGoroutines(); left == "" {
				return
			}
		}
		t.Errorf("goroutines left:\n%s", left)
	})
}

// relayGoroutines returns the stacks of goroutines, other than the test's, that
// are in this package, in those beneath it or in go-smtp.
func relayGoroutines() string {
	buf := make([]byte, 1<<20)
	buf = buf[:runtime.Stack(buf, true)]
	var left []string
	for i, g := range strings.Split(string(buf), "\n\n") {
		if i > 0 && !strings.Contains(g, "testing.tRunner") && !strings.Contains(g, "testing.(*F)") &&
			(strings.Contains(g, "/mailer.") || strings.Contains(g, "/mailer/internal/") || strings.Contains(g, "go-smtp")) {
			left = append(left, g)
		}
	}
	return strings.Join(left, "\n\n")
}

// testMessage is a message with a subject and a body that must not be seen.
const testMessage = "From: Alice <alice@a.example>\r\nTo: bob@b.example\r\nSubject: very secret subject\r\n" +
	"Date: Tue, 24 Nov 2026 07:00:00 +0000\r\nMessage-ID: <1@a.example>\r\n\r\nvery secret body\r\n"

// seal encrypts a message as the relay of peer alpha does.
func seal(t testing.TB, km *testKM, message string, changes ...func(*cipher.EncryptOptions)) string {
	t.Helper()
	o := &cipher.EncryptOptions{SAE: "SAE_A", Peer: "SAE_B", LineEnd: cipher.LineEndCRLF}
	for _, change := range changes {
		change(o)
	}
	var b bytes.Buffer
	w, err := cipher.Encrypt(t.Context(), &b, km, o)
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

// open decrypts what the encrypt relay has sent to peer bravo.
func open(t testing.TB, km *testKM, message string) string {
	t.Helper()
	r, err := cipher.Decrypt(t.Context(), strings.NewReader(message), km, &cipher.DecryptOptions{Binder: cipher.Unbound, SAE: "SAE_B", Peers: []string{"SAE_A"}})
	if err != nil {
		t.Fatalf("%v of\n%s", err, message)
	}
	var b bytes.Buffer
	if _, err := b.ReadFrom(r); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func after(ms int) <-chan time.Time { return time.After(time.Duration(ms) * time.Millisecond) }

func discardLog() *slog.Logger { return slog.New(slog.DiscardHandler) }

func anywhere() []netip.Prefix {
	return []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}
}
