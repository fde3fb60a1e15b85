package e2e

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/qkdmail/qkdmail/cmd/internal/kmsim"
	"github.com/qkdmail/qkdmail/cmd/internal/kmtest"
	"github.com/qkdmail/qkdmail/cmd/internal/relaytest"
)

// etsi starts a simulated QKD link with a KME for each site, and returns the
// lines of [km] for the relays. gates, if not nil, gets the connections to the
// KMEs, which can be cut.
func etsi(t *testing.T, gates map[string]*relaytest.Gate) func(site string) string {
	t.Helper()
	n := kmtest.StartKMEs(t, kmsim.TwoSites(), kmsim.Options{}, nil)
	return func(site string) string {
		sae := "SAE_" + strings.ToUpper(site)
		o := n.Options(sae)
		addr := strings.TrimPrefix(o.URLs[0], "https://")
		if gates != nil {
			gates[site] = relaytest.NewGate(t, addr, relaytest.GateHooks{})
			addr = gates[site].Addr
		}
		return fmt.Sprintf("url = \"etsi014:https://%s\"\nsae = %q\nca = %q\ncert = %q\nkey = %q\npool = false\n",
			addr, sae, o.CAFile, o.CertFile, o.KeyFile)
	}
}

// TestKeyManagerDown cuts the connections to the key managers: mail waits in
// Postfix A's queue, and arrives once they are back.
func TestKeyManagerDown(t *testing.T) {
	gates := map[string]*relaytest.Gate{}
	keyManagerDown(t, newWorld(t, options{km: etsi(t, gates)}), gates)
}

func keyManagerDown(t *testing.T, w *world, gates map[string]*relaytest.Gate) {
	t.Helper()
	const secret = "a-text-that-waits"
	text := []byte("From: alice@a.example\r\nTo: bob@b.example\r\nSubject: x\r\n\r\n" + secret + "\r\n")
	for _, c := range []struct{ site, why, prefix string }{
		{"a", "to encrypt", "a"},
		{"b", "to decrypt", "b"},
	} {
		gates[c.site].Shut(true)
		to := []string{c.prefix + "-pad@b.example", c.prefix + "-aes@aes.b.example"}
		send(t, w.a.ports[portOwn], "alice@a.example", to, text)
		reason := ""
		for _, r := range to {
			relaytest.Await(t, 30*time.Second, r+" in a queue, with a temporary refusal", func() bool {
				reason = w.a.deferred(t, r, "451 4.7.5") + w.b.deferred(t, r, "451 4.7.5")
				return reason != ""
			})
		}
		time.Sleep(3 * time.Second) // mail is tried again and again
		for _, r := range to {
			if len(w.b.sink.to(r)) > 0 {
				t.Fatalf("%s has arrived without a key %s", r, c.why)
			}
		}
		t.Logf("no key %s: %s", c.why, reason)
		if strings.Contains(w.a.read("mail.log"), "queue file write error") {
			t.Error("a relay hung up without an answer")
		}
		gates[c.site].Shut(false)
		start := time.Now()
		if err := errors.Join(w.a.flush(), w.b.flush()); err != nil {
			t.Fatal(err)
		}
		for _, r := range to {
			w.b.sink.one(t, r)
		}
		relaytest.Await(t, 10*time.Second, "empty queues", func() bool { return w.a.queue(t)+w.b.queue(t) == "" })
		t.Logf("all arrived %v after the keys were back", time.Since(start).Round(10*time.Millisecond))
	}
	if n := len(w.b.sink.all()); n != 4 {
		t.Errorf("%d messages arrived, want 4", n)
	}
	if w.ab.saw(secret) || w.ba.saw(secret) {
		t.Error("the body was seen on the wire")
	}
}

// deferred returns why mail for a recipient waits, if it waits for this reason.
func (s *site) deferred(t *testing.T, recipient, reason string) string {
	t.Helper()
	if !strings.Contains(s.queue(t), recipient) {
		return ""
	}
	for line := range strings.Lines(s.read("mail.log")) {
		if strings.Contains(line, recipient) && strings.Contains(line, reason) {
			return line
		}
	}
	return ""
}
