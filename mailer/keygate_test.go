package mailer

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/qkdmail/qkdmail/cipher"
	"github.com/qkdmail/qkdmail/kmclient"
)

// heldKeys is a key manager with some keys. It counts what it is asked for.
type heldKeys struct {
	keys  map[string]bool
	asked int
}

func (h *heldKeys) KeysByID(_ context.Context, _ string, ids ...string) (keys []*kmclient.Key, err error) {
	h.asked += len(ids)
	for _, id := range ids {
		if !h.keys[id] {
			return nil, kmclient.ErrKeyNotFound
		}
		keys = append(keys, kmclient.NewKey(id, make([]byte, 32)))
	}
	return keys, nil
}

// The key gate: what is missing is not asked for at once, comes within its
// grace, and is lost after it.
func TestKeyGate(t *testing.T) {
	km := &heldKeys{keys: map[string]bool{}}
	gate := newKeyGate(km, cipher.Unbound, time.Second, 4*time.Hour)
	now := time.Now()
	gate.now = func() time.Time { return now }
	ask := func(ids ...string) error {
		_, err := gate.keysByID(t.Context(), "", "A", ids...)
		return err
	}
	const id = "00000000-0000-4000-8000-000000000001"
	for i := range 3 {
		if err := ask(id); !errors.Is(err, kmclient.ErrKeyNotFound) || errors.Is(err, errKeyGone) {
			t.Fatal(err)
		}
		if km.asked != 1 {
			t.Fatalf("asked %d times after look-up %d", km.asked, i)
		}
	}
	// Not spelled otherwise either; but other keys are, and together.
	_ = ask(strings.ToUpper(id))
	if km.asked != 1 {
		t.Error("asked for another spelling")
	}
	_ = ask(id, "other")
	if km.asked != 3 {
		t.Error("a list of keys is not one of them")
	}
	for name, step := range map[string]time.Duration{"half a minute": gateRemember, "hours": gate.grace - 2*gateRemember} {
		now = now.Add(step)
		if err := ask(id); errors.Is(err, errKeyGone) {
			t.Errorf("%s: %v", name, err)
		}
	}
	now = now.Add(3 * gateRemember)
	for range 2 {
		if err := ask(id); !errors.Is(err, errKeyGone) {
			t.Errorf("after its grace: %v", err)
		}
	}
	// It comes after all.
	km.keys[id] = true
	now = now.Add(2 * gateRemember)
	if err := ask(id); err != nil {
		t.Error(err)
	}
	delete(km.keys, id)
	if err := ask(id); errors.Is(err, errKeyGone) {
		t.Error("grace begins again once a key was there")
	}
}

func TestKeyGateForgets(t *testing.T) {
	gate := newKeyGate(&heldKeys{}, cipher.Unbound, time.Second, 4*time.Hour)
	now := time.Now()
	gate.now = func() time.Time { return now }
	for i := range 2*gateMax + 1 {
		now = now.Add(time.Second)
		_, _ = gate.keysByID(t.Context(), "", "A", strings.Repeat("x", 200)+time.Duration(i).String())
	}
	if n := len(gate.missing); n > gateMax {
		t.Errorf("%d keys are remembered", n)
	}
}

// someKeys has the keys whose ID begins with "here".
type someKeys struct{}

func (someKeys) KeysByID(_ context.Context, _ string, ids ...string) ([]*kmclient.Key, error) {
	if ids[0][:4] != "here" {
		return nil, kmclient.ErrKeyNotFound
	}
	return []*kmclient.Key{kmclient.NewKey(ids[0], make([]byte, 32))}, nil
}

// TestKeyGateRate: only look-ups in vain count, so that the gate does not bound
// how much mail can be decrypted.
func TestKeyGateRate(t *testing.T) {
	g := newKeyGate(someKeys{}, cipher.Unbound, time.Second, time.Hour)
	now := time.Now()
	g.now = func() time.Time { return now }
	asked := func(client, format string, n int) (refused int) {
		for i := range n {
			if _, err := g.keysByID(t.Context(), client, "peer", fmt.Sprintf(format, i)); err != nil && replyTo(err).Reason == "rate" {
				refused++
			}
		}
		return refused
	}
	const burst, ofClient = peerBurst, clientBurst
	if n := asked("", "here-%d", 3*burst); n != 0 {
		t.Errorf("%d look-ups of keys that are there were refused", n)
	}
	if n := asked("192.0.2.1/32", "here-%d", 3*burst); n != 0 {
		t.Errorf("%d look-ups of one client, of keys that are there, were refused", n)
	}
	// One client that forges messages in a peer's name does not use up what the
	// peer has.
	if n := asked("192.0.2.1/32", "forged-%d", 3*burst); n != 3*burst-ofClient {
		t.Errorf("%d look-ups in vain of one client were refused, want %d", n, 3*burst-ofClient)
	}
	if n := asked("192.0.2.2/32", "here-%d", burst); n != 0 {
		t.Errorf("%d look-ups of another client were refused", n)
	}
	if n := asked("", "gone-%d", 3*burst); n != 2*burst+ofClient {
		t.Errorf("%d look-ups in vain were refused, want %d", n, 2*burst+ofClient)
	}
	// Time brings it back.
	now = now.Add(time.Minute)
	if n := asked("192.0.2.1/32", "late-%d", ofClient); n != 0 {
		t.Errorf("%d look-ups were refused after a minute", n)
	}
	for i := range 3 * gateMax {
		_ = g.admit(fmt.Sprint(i), "peer", []string{"here"})
	}
	if len(g.clients.byName) > gateMax {
		t.Errorf("%d clients are remembered", len(g.clients.byName))
	}
}

// Keys that don't exist are not asked for at any rate; those that do are.
func TestKeyGateFlood(t *testing.T) {
	km := &heldKeys{keys: map[string]bool{"here": true}}
	gate := newKeyGate(km, cipher.Unbound, time.Second, time.Hour)
	now := time.Now()
	gate.now = func() time.Time { return now }
	for i := range 2 * peerBurst {
		_, _ = gate.keysByID(t.Context(), "", "SAE_A", fmt.Sprint("unknown-", i))
	}
	if km.asked != peerBurst {
		t.Errorf("asked %d times, want %d", km.asked, peerBurst)
	}
	if _, err := gate.keysByID(t.Context(), "", "SAE_A", "unknown"); replyTo(err).Code != 451 {
		t.Error(err)
	}
	if _, err := gate.keysByID(t.Context(), "", "SAE_C", "unknown"); replyTo(err).Reason != "key not found" {
		t.Error("one peer's flood is another's trouble:", err)
	}
	now = now.Add(time.Second)
	for range 3 * peerRate {
		if _, err := gate.keysByID(t.Context(), "", "SAE_A", "here"); err != nil {
			t.Fatal(err)
		}
	}
}

// The network tells clients apart, however the address is written.
func TestOrigin(t *testing.T) {
	for addr, want := range map[string]string{
		"192.0.2.1":             "192.0.2.1/32",
		"IPv6:2001:db8::1":      "2001:db8::/64",
		"IPV6:2001:db8::2":      "2001:db8::/64",
		"ipv6:2001:DB8:0:0:1::": "2001:db8::/64",
		"2001:db8::1":           "2001:db8::/64",
		"IPv6:::ffff:192.0.2.1": "192.0.2.1/32",
		"":                      "",
		"[UNAVAILABLE]":         "",
		"IPv6:":                 "",
		"host.example":          "",
	} {
		if got := originOf(xforwarded(addr)); got != want {
			t.Errorf("XFORWARD ADDR=%s: %q, want %q", addr, got, want)
		}
	}
}

// An xforwarded client has the address that XFORWARD says.
type xforwarded string

func (x xforwarded) XForward(name string) string { return map[string]string{"ADDR": string(x)}[name] }
func (xforwarded) RemoteAddr() net.Addr          { return nil }
func (xforwarded) Hello() string                 { return "" }
func (xforwarded) Extended() bool                { return true }
func (xforwarded) TLS() bool                     { return false }
func (xforwarded) Close() error                  { return nil }

// A look-up that the peer's budget refuses takes nothing from that of its client.
func TestKeyGateTakesFromBothOrNone(t *testing.T) {
	g := newKeyGate(someKeys{}, cipher.Unbound, time.Second, time.Hour)
	now := time.Now()
	g.now = func() time.Time { return now }
	for i := range peerBurst {
		if err := g.admit("", "peer", []string{fmt.Sprint("gone-", i)}); err != nil {
			t.Fatal(err)
		}
	}
	for i := range clientBurst {
		if err := g.admit("192.0.2.1/32", "peer", []string{fmt.Sprint("more-", i)}); err == nil {
			t.Fatal("the peer's budget is used up, and a look-up was let through")
		}
	}
	if err := g.admit("192.0.2.1/32", "other", []string{"one"}); err != nil {
		t.Errorf("the client's budget was used up by look-ups that were refused: %v", err)
	}
}
