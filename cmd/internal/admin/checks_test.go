package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/mailer"
	"github.com/qkdmail/qkdmail/mailer/relay/config"
)

// TestReady checks /readyz in each situation.
func TestReady(t *testing.T) {
	refused := fmt.Errorf("status: %w: key manager says \"who are you\"", kmclient.ErrRefused)
	for name, tt := range map[string]struct {
		change func(*rig)
		code   int
		want   []string
	}{
		"all well":   {func(*rig) {}, 200, []string{"key manager  ok", "keys         ok", "next hop     ok", "store        ok"}},
		"on demand":  {func(r *rig) { r.stock["SAE_B"], r.stock["SAE_C"] = -1, -1 }, 200, []string{"keys         ok"}},
		"KM refuses": {func(r *rig) { r.down = refused }, 503, []string{"key manager  failed   It refuses this client. Check"}},
		"no keys": {func(r *rig) {
			r.stock["SAE_B"], r.stock["SAE_C"] = 0, 0
			r.Message(report(mailer.DirectionEncrypt, "site-b", mailer.OutcomeDeferred, noKeyLeft))
			r.Message(report(mailer.DirectionEncrypt, "site-c", mailer.OutcomeDeferred, noKeyLeft))
		}, 503, []string{"keys         failed   There are none. Check the QKD link"}},
		"none for one": {func(r *rig) {
			r.stock["SAE_C"] = 0
			r.Message(report(mailer.DirectionEncrypt, "site-c", mailer.OutcomeDeferred, noKeyLeft))
		}, 200, []string{"keys         warning  There are none for site-c."}},
		"says 0": {func(r *rig) { r.stock["SAE_B"], r.stock["SAE_C"] = 0, 0 }, 200, []string{"keys         warning  The key manager says that it has none in stock for site-b and site-c."}},
		"link down": {func(r *rig) { r.limits["SAE_C"] = kmclient.Status{Link: "degraded"} }, 200,
			[]string{`key manager  warning  It answers, and says that the QKD link is "degraded" (site-c).`}},
		"no pad, auto": {func(r *rig) { r.limits["SAE_B"] = kmclient.Status{MaxKeySize: 128} }, 200,
			[]string{"keys         warning  The key manager's limits allow no one-time pad for site-b; AES-256-GCM is used."}},
		"no pad, otp": {func(r *rig) { r.limits["SAE_C"] = kmclient.Status{MaxKeySize: 128} }, 503,
			[]string{"keys         failed   The key manager's limits allow no one-time pad for site-c, and a rule allows nothing else."}},
		"no next hop":    {func(r *rig) { r.hops["postfix-in"], r.hops["postfix-out"] = io.EOF, io.EOF }, 503, []string{"next hop     failed   Can't be reached: postfix-in and postfix-out. Check"}},
		"one next hop":   {func(r *rig) { r.hops["postfix-in"] = io.EOF }, 200, []string{"next hop     warning  Can't be reached: postfix-in."}},
		"store is full":  {func(r *rig) { r.broken = kmclient.ErrStore }, 503, []string{"store        failed   It can't be written to. Check the disk"}},
		"store's server": {func(r *rig) { r.warned = []string{"no standby", "clear text"} }, 200, []string{"store        warning  It can be written to, but: no standby; clear text.", "docs/scaling.md"}},
		"keys wait":      {func(r *rig) { r.store.Waiting = 3 }, 200, []string{"store        warning  3 keys could not be stored yet", "Don't stop the relay"}},
	} {
		r := newRig(t)
		tt.change(r)
		r.check(t.Context())
		answer, body := get(t, serve(t, r.Handler(), ServeOptions{})+"/readyz")
		if answer.StatusCode != tt.code {
			t.Errorf("%s: %d, want %d", name, answer.StatusCode, tt.code)
		}
		for _, want := range tt.want {
			if !strings.Contains(body, want) {
				t.Errorf("%s: %q is missing in\n%s", name, want, body)
			}
		}
		if strings.Contains(body, "who are you") {
			t.Errorf("%s: shows what others said:\n%s", name, body)
		}
	}
}

func TestReadyAsJSON(t *testing.T) {
	r := newRig(t)
	r.set(func() { r.broken = kmclient.ErrStore })
	r.check(t.Context())
	q, err := http.NewRequestWithContext(t.Context(), http.MethodGet, serve(t, r.Handler(), ServeOptions{})+"/readyz", nil)
	if err != nil {
		t.Fatal(err)
	}
	q.Header.Set("Accept", "application/json")
	a, err := http.DefaultClient.Do(q)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Body.Close()
	var got struct {
		Ready  bool
		Checks []Check
	}
	if err := json.NewDecoder(a.Body).Decode(&got); err != nil {
		t.Fatal(err)
	}
	if a.StatusCode != 503 || got.Ready || len(got.Checks) != 4 || got.Checks[3].State != StateFailed || got.Checks[3].Advice == "" {
		t.Errorf("%d, %+v", a.StatusCode, got)
	}
}

// A peer that has too few keys for some messages is not reported to have none.
func TestTooFewKeys(t *testing.T) {
	r := newRig(t)
	r.set(func() { r.stock["SAE_B"], r.stock["SAE_C"] = 4, -1 })
	keys := func() Check {
		r.check(t.Context())
		for _, c := range r.Checks() {
			if c.Name == "keys" {
				return c
			}
		}
		return Check{}
	}
	r.Message(report(mailer.DirectionEncrypt, "site-b", mailer.OutcomeDeferred, "next hop"))
	r.Message(report(mailer.DirectionDecrypt, "site-b", mailer.OutcomeDeferred, noKeyLeft))
	if c := keys(); c.State != StateOK {
		t.Errorf("no message lacked keys, but got %+v", c)
	}
	r.Message(report(mailer.DirectionEncrypt, "site-b", mailer.OutcomeDeferred, noKeyLeft))
	r.Message(report(mailer.DirectionEncrypt, "site-b", mailer.OutcomeEncrypted, "")) // a shorter one
	if c := keys(); c.State != StateWarning || c.Found != "Too few for some messages to site-b." || !strings.Contains(c.Advice, "pad_limit") {
		t.Errorf("a message for site-b lacked keys, but got %+v", c)
	}
	if v := r.peerViews()[0]; v.Lasts != "too few for some messages" || v.LastsState != StateWarning {
		t.Errorf("the page shows it as %+v", v)
	}
	r.Message(report(mailer.DirectionEncrypt, "site-c", mailer.OutcomeDeferred, noKeyLeft))
	r.set(func() { r.stock["SAE_B"] = 0 })
	if c := keys(); c.State != StateWarning || c.Found != "There are none for site-b. Too few for some messages to site-c." {
		t.Errorf("site-b has none and site-c lacked some, but got %+v", c)
	}
	r.set(func() { r.stock["SAE_B"] = 4 })
	r.pass(lackedFor + time.Second)
	if c := keys(); c.State != StateOK {
		t.Errorf("%v later: %+v", lackedFor, c)
	}
	if !slices.ContainsFunc(mailer.Reasons(), func(r mailer.Reason) bool { return r.Name == noKeyLeft }) {
		t.Errorf("no message is refused for %q", noKeyLeft)
	}
}

// Requests for readiness do not make the relay ask the key manager.
func TestReadyAsksNobody(t *testing.T) {
	r := newRig(t)
	url := serve(t, r.Handler(), ServeOptions{})
	if a, body := get(t, url+"/readyz"); a.StatusCode != 503 || !strings.Contains(body, "just begun") {
		t.Errorf("before the first check: %d, %s", a.StatusCode, body)
	}
	r.check(t.Context())
	before := r.asked
	for range 50 {
		for _, path := range []string{"/readyz", "/metrics", "/", "/healthz"} {
			if a, _ := get(t, url+path); a.StatusCode != 200 {
				t.Fatalf("%s: %d", path, a.StatusCode)
			}
		}
	}
	if r.asked != before || before != 2 {
		t.Errorf("the key manager was asked %d times, then %d; want 2, once for each peer", before, r.asked)
	}
	r.pass(3*checkEvery + time.Second)
	if a, body := get(t, url+"/readyz"); a.StatusCode != 503 || !strings.Contains(body, "Nothing was checked for 1m31s") {
		t.Errorf("with checks that do not run: %d, %s", a.StatusCode, body)
	}
}

// A key manager that does not answer does not keep the checks from ending.
func TestCheckIsBounded(t *testing.T) {
	r := newRig(t)
	slow := &slowKM{began: make(chan struct{}, 10)}
	r.s.Keys = slow
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { r.Run(ctx); close(done) }()
	<-slow.began
	cancel()
	<-done
	if c := r.Checks(); len(c) != 1 || Ready(c) {
		t.Errorf("checks that were cut short are counted: %+v", c)
	}
}

// A slowKM answers only when its caller gives up.
type slowKM struct{ began chan struct{} }

func (s *slowKM) Status(ctx context.Context, _ string) (kmclient.Status, error) {
	if _, ok := ctx.Deadline(); !ok {
		return kmclient.Status{}, errors.New("no deadline")
	}
	s.began <- struct{}{}
	<-ctx.Done()
	return kmclient.Status{}, ctx.Err()
}

func TestNotReadyWhenStopping(t *testing.T) {
	r := newRig(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r.check(t.Context())
	r.Run(ctx)
	if c := r.Checks(); Ready(c) || c[len(c)-1].Name != "stop" {
		t.Errorf("%+v", c)
	}
}

// A change is logged, once, with its cause.
func TestCheckLog(t *testing.T) {
	var log strings.Builder
	r := newRig(t, func(s *Sources) { s.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
	for _, step := range []struct {
		down       error
		warn, info int
	}{{nil, 0, 0}, {io.ErrUnexpectedEOF, 2, 0}, {io.ErrUnexpectedEOF, 2, 0}, {io.EOF, 2, 0}, {nil, 2, 2}, {nil, 2, 2}} {
		r.set(func() { r.down = step.down })
		r.check(t.Context())
		if w, i := strings.Count(log.String(), "level=WARN"), strings.Count(log.String(), "level=INFO"); w != step.warn || i != step.info {
			t.Fatalf("%d warnings and %d notes, want %d and %d:\n%s", w, i, step.warn, step.info, &log)
		}
	}
	if !strings.Contains(log.String(), `check="key manager" name=site-b cause="unexpected EOF"`) {
		t.Errorf("the log does not say what failed:\n%s", &log)
	}
}

// If no peer is configured, the key manager is not asked, and the page does not
// mention it.
func TestNoPeer(t *testing.T) {
	cfg, err := config.Parse("relay.toml", []byte(rigConfig))
	if err != nil {
		t.Fatal(err)
	}
	cfg.Peers, cfg.Rules = nil, nil
	r := newRig(t, func(s *Sources) { s.Config = cfg })
	r.check(t.Context())
	if c := r.Checks()[0]; c.State != StateOK || c.Found != "It is not asked: there is no peer." || r.asked > 0 {
		t.Errorf("%+v, asked %d times", c, r.asked)
	}
	_, body := get(t, serve(t, r.Handler(), ServeOptions{})+"/")
	for want, is := range map[string]bool{
		"No peer is configured, so the key manager is not asked.": true, "<p>The next hops and the store work.</p>": true,
		"has not been asked yet": false, "The key manager, the keys": false,
	} {
		if strings.Contains(body, want) != is {
			t.Errorf("the page says %q: %v, want %v", want, !is, is)
		}
	}
}

// The headline says that mail waits only if it does.
func TestHeadline(t *testing.T) {
	for name, tt := range map[string]struct {
		change   func(*rig)
		state    State
		headline string
	}{
		"before the first check": {func(*rig) {}, StateWarning, "The relay has just started"},
		"stopping":               {func(r *rig) { r.check(t.Context()); r.stopping.Store(true) }, StateWarning, "The relay is stopping"},
		"nothing was checked":    {func(r *rig) { r.check(t.Context()); r.pass(time.Hour) }, StateWarning, "It is not known whether mail flows"},
		"stopping, without keys": {func(r *rig) {
			r.set(func() { r.stock["SAE_B"], r.stock["SAE_C"] = 0, 0 })
			r.Message(report(mailer.DirectionEncrypt, "site-b", mailer.OutcomeDeferred, noKeyLeft))
			r.Message(report(mailer.DirectionEncrypt, "site-c", mailer.OutcomeDeferred, noKeyLeft))
			r.check(t.Context())
			r.stopping.Store(true)
		}, StateFailed, "Mail waits"},
	} {
		r := newRig(t)
		tt.change(r)
		if v := r.view(); v.Overall != tt.state || v.Headline != tt.headline || len(v.Problems) == 0 {
			t.Errorf("%s: %s, %q with %v; want %s, %q", name, v.Overall, v.Headline, v.Problems, tt.state, tt.headline)
		}
		if Ready(r.Checks()) {
			t.Errorf("%s: ready", name)
		}
	}
}

// Another configuration has other peers.
func TestReload(t *testing.T) {
	r := newRig(t)
	r.check(t.Context())
	cfg, err := config.Parse("relay.toml", []byte(strings.ReplaceAll(rigConfig, "site-c", "site-d")))
	if err != nil {
		t.Fatal(err)
	}
	r.Reload(cfg)
	r.check(t.Context())
	var peers []string
	for _, p := range r.peerViews() {
		peers = append(peers, p.Name)
	}
	if got := strings.Join(peers, " "); got != "site-b site-d" {
		t.Errorf("peers are %s", got)
	}
	if len(r.forecast) != 2 || r.forecast["site-c"] != nil {
		t.Errorf("forecasts of %v are kept", r.forecast)
	}
}

// The page and the metrics say how each KME was last reached.
func TestConnections(t *testing.T) {
	r := newRig(t)
	r.limits["SAE_C"] = kmclient.Status{Connections: []kmclient.Connection{{KME: "127.0.0.1:8080"}}}
	r.check(t.Context())
	url := serve(t, r.Handler(), ServeOptions{})
	for path, want := range map[string][]string{
		"/": {
			"Keys come from kme-1.a.example:8443 over TLS 1.3 with X25519MLKEM768.",
			"Keys come from kme-2.a.example:8443 over TLS 1.3 with X25519, which is not post-quantum: recorded today, readable later.",
			"Keys come from 127.0.0.1:8080 over plain HTTP: anyone on the path can read the keys.",
		},
		"/metrics": {
			`qkdmail_km_post_quantum{group="X25519MLKEM768",kme="kme-1.a.example:8443",tls="TLS 1.3"} 1`,
			`qkdmail_km_post_quantum{group="X25519",kme="kme-2.a.example:8443",tls="TLS 1.3"} 0`,
			`qkdmail_km_post_quantum{group="(none)",kme="127.0.0.1:8080",tls="(none)"} 0`,
		},
	} {
		_, body := get(t, url+path)
		for _, w := range want {
			if !strings.Contains(body, w) {
				t.Errorf("%s does not say %q", path, w)
			}
		}
	}
}
