package admin

import (
	"bytes"
	"context"
	"encoding/pem"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/qkdmail/qkdmail/cipher"
	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/etsi014"
	"github.com/qkdmail/qkdmail/kmclient/keypool"
	"github.com/qkdmail/qkdmail/kmclient/keystore"
	"github.com/qkdmail/qkdmail/mailer"
	"github.com/qkdmail/qkdmail/mailer/relay/config"
)

// A rig is a Monitor whose surroundings the test makes up.
type rig struct {
	*Monitor
	mu     sync.Mutex
	now    time.Time
	stock  map[string]int // keys, by SAE; -1: on demand
	limits map[string]kmclient.Status
	down   error // of the key manager
	hops   map[string]error
	store  keystore.Stats
	broken error // of the store
	warned []string
	asked  int // how often the key manager was asked
}

func newRig(t testing.TB, changes ...func(*Sources)) *rig {
	t.Helper()
	cfg, err := config.Parse("relay.toml", []byte(rigConfig))
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{
		now:   time.Date(2026, 3, 4, 9, 30, 15, 0, time.UTC),
		stock: map[string]int{"SAE_B": 48_000, "SAE_C": 9_200}, limits: map[string]kmclient.Status{"SAE_B": {Connections: []kmclient.Connection{
			{KME: "kme-2.a.example:8443", TLS: "TLS 1.3", Group: "X25519"}, {KME: "kme-1.a.example:8443", TLS: "TLS 1.3", Group: "X25519MLKEM768"},
		}}},
		hops:  map[string]error{"postfix-out": nil, "postfix-in": nil},
		store: keystore.Stats{Swept: time.Date(2026, 3, 4, 9, 2, 0, 0, time.UTC), Stored: 5121, Fetched: 5121, FromStore: 40, Bound: 5098, Closed: 4410, ClosedAtKM: 12, Delivered: 6240, Claimed: 8102, Tombstones: 377},
	}
	writeKeys(t, cfg, r.now)
	s := Sources{
		Config: cfg, Keys: r, NextHops: r, Store: r, Version: "v1.2.3",
		Pool: func() keypool.Stats { return keypool.Stats{Requests: 60, Fetched: 7680, Served: 7500, Stock: 180} },
		KMEs: func() etsi014.Stats { return etsi014.Stats{Failovers: 1} },
		Now:  r.clock,
		StoreWarnings: func() []string {
			r.mu.Lock()
			defer r.mu.Unlock()
			return r.warned
		},
	}
	for _, change := range changes {
		change(&s)
	}
	r.Monitor = New(s)
	return r
}

const rigConfig = `
hostname = "mail.a.example"

[[listener]]
name = "outgoing"
direction = "encrypt"
protocol = "lmtp"
address = "127.0.0.1:10025"
next_hop = "postfix-out"

[[listener]]
name = "incoming"
direction = "decrypt"
address = "127.0.0.1:10026"
next_hop = "postfix-in"

[[next_hop]]
name = "postfix-out"
address = "127.0.0.1:10027"

[[next_hop]]
name = "postfix-in"
address = "127.0.0.1:10028"

[km]
url = "etsi014:https://kme-1.a.example:8443,https://kme-2.a.example:8443"
sae = "SAE_A"
ca = "km-ca.crt"
cert = "sae_a.crt"
key = "sae_a.key"
kme_id = "KME_A"

[[peer]]
name = "site-b"
sae = "SAE_B"
domains = ["b.example", "*.b.example"]

[[peer]]
name = "site-c"
sae = "SAE_C"
domains = ["c.example"]
suites = ["otp"]

[[rule]]
domain = "b.example"
peer = "site-b"

[[rule]]
domain = "c.example"
peer = "site-c"
suite = "otp"

[[rule]]
domain = "default"
encrypt = "never"
`

// writeKeys gives the site two X-Wing keys, one of which replaces the other, and site-b
// one.
func writeKeys(t testing.TB, cfg *config.Config, now time.Time) {
	t.Helper()
	dir := t.TempDir()
	write := func(name string, seed byte, public bool, at time.Time) string {
		text := pem.EncodeToMemory(&pem.Block{Type: "QKDMAIL X-WING PRIVATE KEY", Bytes: bytes.Repeat([]byte{seed}, 32)})
		key, err := cipher.ParseHybridPrivateKey(text)
		if err != nil {
			t.Fatal(err)
		}
		if public {
			text = key.Public().PEM()
		}
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(file, at, at); err != nil {
			t.Fatal(err)
		}
		return file
	}
	cfg.Site.HybridKeys = []string{
		write("site.key", 1, false, now.AddDate(0, 0, -12)),
		write("site-old.key", 2, false, now.AddDate(0, 0, -200)),
	}
	cfg.Peers[0].HybridKey = write("site-b.pub", 3, true, now)
}

func (r *rig) clock() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.now
}

// set changes the surroundings, under the lock.
func (r *rig) set(change func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change()
}

func (r *rig) pass(d time.Duration) { r.set(func() { r.now = r.now.Add(d) }) }

func (r *rig) Status(_ context.Context, peer string) (kmclient.Status, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked++
	n := r.stock[peer]
	s := r.limits[peer]
	s.KeySize, s.StoredKeys, s.MaxKeys, s.OnDemand = 256, new(max(n, 0)), 100_000, n < 0
	return s, r.down
}

func (r *rig) CheckNextHops(context.Context) map[string]error {
	r.mu.Lock()
	defer r.mu.Unlock()
	found := map[string]error{}
	for name, err := range r.hops {
		found[name] = err
	}
	return found
}

func (r *rig) Stats() keystore.Stats {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.store
}

func (r *rig) CheckStore(context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.broken
}

// report is a message as the relay reports it.
func report(d mailer.Direction, peer string, outcome mailer.Outcome, reason string) mailer.Report {
	r := mailer.Report{
		Direction: d, Peer: peer, Suite: cipher.SuiteAES256GCM, Outcome: outcome, Reason: reason,
		Size: 24_000, Keys: 1, Total: 80 * time.Millisecond, KeyWait: 3 * time.Millisecond, HopWait: 40 * time.Millisecond,
	}
	return r
}

// aDay lets a day go by, with mail as on a working day. In its last hour, keys leave
// the stock of site-c at perHour keys per hour.
func (r *rig) aDay(perHour int) {
	end := r.clock()
	r.set(func() { r.now = end.Add(-24 * time.Hour) })
	for minute := range 24 * 60 {
		at := r.clock()
		hour := at.Hour()
		n := 2 + minute*7919%3
		if hour >= 7 && hour < 18 {
			n = 8 + minute*7919%23
		}
		for i := range n {
			switch {
			case i%3 == 1:
				r.Message(report(mailer.DirectionDecrypt, "site-b", mailer.OutcomeDecrypted, ""))
			case i%5 == 4:
				r.Message(report(mailer.DirectionEncrypt, "site-c", mailer.OutcomeEncrypted, ""))
			default:
				r.Message(report(mailer.DirectionEncrypt, "site-b", mailer.OutcomeEncrypted, ""))
			}
		}
		if minute%97 == 0 {
			r.Message(report(mailer.DirectionDecrypt, "site-b", mailer.OutcomeDeferred, "key not found"))
		}
		if minute%211 == 0 {
			r.Message(report(mailer.DirectionEncrypt, "site-b", mailer.OutcomeRefused, "next hop"))
		}
		r.set(func() {
			if end.Sub(at) <= time.Hour {
				r.stock["SAE_C"] -= perHour / 60
			}
			r.now = at.Add(time.Minute)
		})
		r.note()
		if end.Sub(at) <= 2*time.Hour {
			r.check(context.Background())
		}
	}
}

// serve serves a handler until the test ends, and returns its URL.
func serve(t testing.TB, handler http.Handler, o ServeOptions) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, l, handler, o) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("the server ended with %v", err)
		}
	})
	return "http://" + l.Addr().String()
}

// get asks for a page and returns the answer with its body.
func get(t testing.TB, url string) (*http.Response, string) {
	t.Helper()
	r, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return r, string(body)
}
