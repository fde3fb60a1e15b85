package admin

import (
	"os"
	"strings"
	"testing"

	"github.com/qkdmail/qkdmail/mailer"
	"github.com/qkdmail/qkdmail/mailer/relay/config"
)

// figureOf returns the value of a metric with these labels, like "peer=site-b", and
// whether it exists.
func figureOf(t *testing.T, r *rig, name string, labels ...string) (float64, bool) {
	t.Helper()
	for _, f := range families(t, r.reg) {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			var have []string
			for _, l := range m.GetLabel() {
				have = append(have, l.GetName()+"="+l.GetValue())
			}
			if strings.Join(have, " ") == strings.Join(labels, " ") {
				return m.GetGauge().GetValue(), true
			}
		}
	}
	return 0, false
}

// TestHybridPeers: the page and the metrics say whether all mail is hybrid, by peer and
// direction, as configured.
func TestHybridPeers(t *testing.T) {
	decrypts := func(c *config.Config) {
		c.Listeners, c.Rules = c.Listeners[1:], nil
	}
	for _, tt := range []struct {
		name    string
		change  func(c *config.Config)
		to      string // metric of site-b for mail to it, "" for none
		from    string
		onPage  string
		peerKey bool
	}{
		{"both", func(*config.Config) {}, "1", "1", "to and from it", true},
		{"no key", func(c *config.Config) { c.Peers[0].HybridKey = "" }, "0", "0", "no", false},
		{"plain suites accepted", func(c *config.Config) { c.Peers[0].Suites = []string{"otp", "otp+x-wing"} }, "1", "0", "to it", true},
		{"only hybrid accepted", func(c *config.Config) {
			c.Peers[0].HybridKey, c.Peers[0].Suites = "", []string{"otp+x-wing"}
		}, "0", "1", "from it", false},
		{"nothing leaves", decrypts, "", "1", "from it", true},
		{"nothing arrives", func(c *config.Config) { c.Listeners = c.Listeners[:1] }, "1", "", "to it", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, func(s *Sources) { tt.change(s.Config) })
			r.check(t.Context())
			for way, want := range map[mailer.Direction]string{mailer.DirectionEncrypt: tt.to, mailer.DirectionDecrypt: tt.from} {
				got := ""
				if v, ok := figureOf(t, r, "qkdmail_peer_hybrid", "direction="+string(way), "peer=site-b"); ok {
					got = map[float64]string{0: "0", 1: "1"}[v]
				}
				if got != want {
					t.Errorf("%s: the metric is %q, want %q", way, got, want)
				}
			}
			_, body := get(t, serve(t, r.Handler(), ServeOptions{})+"/")
			if want := `data-label="Hybrid">` + tt.onPage + "<"; !strings.Contains(body, want) {
				t.Errorf("the page does not have %s", want)
			}
			key := r.hybrid.Load().peers["site-b"].key
			if (len(key) == 64) != tt.peerKey || !strings.Contains(body, "<dt>X-Wing key</dt><dd>"+key+"</dd>") {
				t.Errorf("the page does not have the peer's key, %s", key)
			}
		})
	}
}

// TestOwnKeys: the page and the metrics have our keys with their age, and a warning if
// all of them are old. A key that is a credential has no age.
func TestOwnKeys(t *testing.T) {
	r := newRig(t)
	r.check(t.Context())
	own := r.hybrid.Load().own
	if len(own) != 2 {
		t.Fatalf("%d keys, want 2", len(own))
	}
	if at, ok := figureOf(t, r, "qkdmail_hybrid_key_timestamp_seconds", "fingerprint="+own[0].fingerprint); !ok || at != seconds(r.clock().AddDate(0, 0, -12)) {
		t.Errorf("the new key was written at %v", at)
	}
	_, body := get(t, serve(t, r.Handler(), ServeOptions{})+"/")
	for _, want := range []string{own[0].fingerprint, own[1].fingerprint, "file of 20 Feb 2026, 12 days old", "file of 16 Aug 2025, 200 days old"} {
		if !strings.Contains(body, want) {
			t.Errorf("the page does not have %q", want)
		}
	}
	overdue := func() bool {
		for _, c := range r.Checks() {
			if c.Name == "X-Wing key" {
				return c.State == StateWarning
			}
		}
		return false
	}
	for days, want := range map[int]bool{0: false, 353: false, 355: true} {
		start := r.clock()
		r.set(func() { r.now = start.AddDate(0, 0, days) })
		if got := overdue(); got != want {
			t.Errorf("after %d days the warning is %v, want %v", days, got, want)
		}
		r.set(func() { r.now = start })
	}

	t.Setenv("CREDENTIALS_DIRECTORY", strings.TrimSuffix(r.config.Load().Site.HybridKeys[0], "/site.key"))
	r = newRig(t, func(s *Sources) { s.Config.Site.HybridKeys = []string{"credential:site.key"} })
	if at, ok := figureOf(t, r, "qkdmail_hybrid_key_timestamp_seconds", "fingerprint="+own[0].fingerprint); ok {
		t.Errorf("a credential has the age %v", at)
	}
	_, body = get(t, serve(t, r.Handler(), ServeOptions{})+"/")
	if want := own[0].fingerprint + "</dt><dd>a credential of unknown age"; !strings.Contains(body, want) {
		t.Errorf("the page does not have %q", want)
	}
}

// TestNotReloaded: a configuration that can't be used gives a warning until one can; the
// page goes on showing the one in force.
func TestNotReloaded(t *testing.T) {
	r := newRig(t)
	r.check(t.Context())
	warned := func() bool {
		for _, c := range r.Checks() {
			if c.Name == "configuration" {
				return c.State == StateWarning && strings.Contains(c.Found, "stays in force")
			}
		}
		return false
	}
	want := func(failed bool) {
		t.Helper()
		v, ok := figureOf(t, r, "qkdmail_config_last_reload_successful")
		if warned() != failed || !ok || v != truth(!failed) {
			t.Errorf("the warning is %v and the metric %v, want a warning: %v", warned(), v, failed)
		}
	}
	want(false)
	cfg := r.config.Load()
	old := r.hybrid.Load()
	r.NotReloaded()
	want(true)
	if err := os.WriteFile(cfg.Site.HybridKeys[0], nil, 0o600); err != nil {
		t.Fatal(err)
	}
	r.Reload(cfg) // the file was good when the relay read it
	want(false)
	if r.hybrid.Load() != old {
		t.Error("keys that can't be read have replaced those in force")
	}
}
