package admin

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/mailer"
)

// TestRefusalIsNews: a message refused because the key manager does not work makes its
// peer fail before the next check, and the next check has the last word.
func TestRefusalIsNews(t *testing.T) {
	for reason, want := range map[string]string{
		"km unavailable": "It can't be reached or is out of service",
		"km refuses":     "It refuses this client",
		"km answer":      "Its answer violates its protocol",
	} {
		r := newRig(t)
		r.Message(report(mailer.DirectionEncrypt, "site-b", mailer.OutcomeDeferred, reason)) // before the first check
		r.check(t.Context())
		if c := kmCheck(t, r); c.State != StateOK {
			t.Fatalf("%s: %+v, want ok after a check that passes", reason, c)
		}
		r.Message(report(mailer.DirectionEncrypt, "site-b", mailer.OutcomeDeferred, reason))
		if c := kmCheck(t, r); c.State != StateWarning || !strings.Contains(c.Found, want+", for site-b") {
			t.Errorf("%s: %+v, want a warning for site-b with %q", reason, c, want)
		}
		r.Message(report(mailer.DirectionDecrypt, "site-c", mailer.OutcomeDeferred, reason))
		if c := kmCheck(t, r); c.State != StateFailed || Ready(r.Checks()) {
			t.Errorf("%s: %+v, want failed once all peers are concerned", reason, c)
		}
		r.check(t.Context())
		if c := kmCheck(t, r); c.State != StateOK {
			t.Errorf("%s: %+v, want ok after a check that passes", reason, c)
		}
	}
	r := newRig(t)
	r.check(t.Context())
	for _, other := range []string{"no key left", "not encrypted", "next hop down", "key not found"} {
		r.Message(report(mailer.DirectionEncrypt, "site-b", mailer.OutcomeDeferred, other))
	}
	r.Message(report(mailer.DirectionEncrypt, "no peer", mailer.OutcomeDeferred, "km unavailable"))
	if c := kmCheck(t, r); c.State != StateOK {
		t.Errorf("%+v, want ok: no refusal was the key manager's", c)
	}
}

// TestRefusalIsChecked: after such a refusal the key manager is asked at once, but not
// once for each of many.
func TestRefusalIsChecked(t *testing.T) {
	r := newRig(t, func(s *Sources) { s.Logger = slog.New(slog.DiscardHandler) })
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); r.Run(ctx) }()
	defer func() { stop(); <-done }()
	failed := func() bool {
		c := r.Checks()[0]
		return c.Name == "key manager" && c.State == StateFailed
	}
	until(t, "the first check", func() bool { return r.Checks()[0].State == StateOK })
	r.set(func() { r.down = kmclient.ErrUnavailable })
	r.Message(report(mailer.DirectionEncrypt, "site-b", mailer.OutcomeDeferred, "km unavailable"))
	until(t, "the check after a refusal", failed)
	r.set(func() { r.down = nil })
	before := r.times()
	for range 1000 {
		r.Message(report(mailer.DirectionEncrypt, "site-b", mailer.OutcomeDeferred, "km unavailable"))
	}
	if n := r.times() - before; n > 4 {
		t.Errorf("1000 refusals have the key manager asked %d times about two peers", n)
	}
}

func until(t *testing.T, what string, reached func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !reached(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s does not come", what)
		}
	}
}

func kmCheck(t *testing.T, r *rig) Check {
	t.Helper()
	for _, c := range r.Checks() {
		if c.Name == "key manager" {
			return c
		}
	}
	t.Fatalf("no check of the key manager: %+v", r.Checks())
	return Check{}
}

// times returns how often the key manager was asked.
func (r *rig) times() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.asked
}
