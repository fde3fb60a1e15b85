package keygate

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/qkdmail/qkdmail/cipher"
	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/mailer/internal/refusal"
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

// A missing key is not asked for again at once, may come within its grace, and is lost
// after it.
func TestGate(t *testing.T) {
	km := &heldKeys{keys: map[string]bool{}}
	gate := New(km, cipher.Unbound, time.Second, 4*time.Hour)
	now := time.Now()
	gate.now = func() time.Time { return now }
	ask := func(ids ...string) error {
		_, err := gate.KeysByID(t.Context(), "", "A", ids...)
		return err
	}
	const id = "00000000-0000-4000-8000-000000000001"
	for i := range 3 {
		if err := ask(id); !errors.Is(err, kmclient.ErrKeyNotFound) || errors.Is(err, ErrGone) {
			t.Fatal(err)
		}
		if km.asked != 1 {
			t.Fatalf("asked %d times after look-up %d", km.asked, i)
		}
	}
	// Nor under another spelling; other keys are, and several together.
	_ = ask(strings.ToUpper(id))
	if km.asked != 1 {
		t.Error("asked for another spelling")
	}
	_ = ask(id, "other")
	if km.asked != 3 {
		t.Error("a list of keys is not one of them")
	}
	for name, step := range map[string]time.Duration{"half a minute": remember, "hours": gate.grace - 2*remember} {
		now = now.Add(step)
		if err := ask(id); errors.Is(err, ErrGone) {
			t.Errorf("%s: %v", name, err)
		}
	}
	now = now.Add(3 * remember)
	for range 2 {
		if err := ask(id); !errors.Is(err, ErrGone) {
			t.Errorf("after its grace: %v", err)
		}
	}
	// The key comes after all.
	km.keys[id] = true
	now = now.Add(2 * remember)
	if err := ask(id); err != nil {
		t.Error(err)
	}
	delete(km.keys, id)
	if err := ask(id); errors.Is(err, ErrGone) {
		t.Error("grace begins again once a key was there")
	}
}

func TestGateForgets(t *testing.T) {
	gate := New(&heldKeys{}, cipher.Unbound, time.Second, 4*time.Hour)
	now := time.Now()
	gate.now = func() time.Time { return now }
	for i := range 2*most + 1 {
		now = now.Add(time.Second)
		_, _ = gate.KeysByID(t.Context(), "", "A", strings.Repeat("x", 200)+time.Duration(i).String())
	}
	if n := len(gate.missing); n > most {
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

// refused reports whether a client is told to come later, since there were too many
// look-ups.
func refused(err error) bool {
	r, ok := refusal.Of(err)
	return ok && r.Code == 451 && r.Reason == "rate"
}

// TestGateRate: only look-ups in vain count, so that the gate does not limit how much
// mail can be decrypted.
func TestGateRate(t *testing.T) {
	g := New(someKeys{}, cipher.Unbound, time.Second, time.Hour)
	now := time.Now()
	g.now = func() time.Time { return now }
	asked := func(client, format string, n int) (count int) {
		for i := range n {
			if _, err := g.KeysByID(t.Context(), client, "peer", fmt.Sprintf(format, i)); refused(err) {
				count++
			}
		}
		return count
	}
	const burst, ofClient = peerBurst, clientBurst
	if n := asked("", "here-%d", 3*burst); n != 0 {
		t.Errorf("%d look-ups of keys that are there were refused", n)
	}
	if n := asked("192.0.2.1/32", "here-%d", 3*burst); n != 0 {
		t.Errorf("%d look-ups of one client, of keys that are there, were refused", n)
	}
	// One client that forges messages in a peer's name does not use up the peer's budget.
	if n := asked("192.0.2.1/32", "forged-%d", 3*burst); n != 3*burst-ofClient {
		t.Errorf("%d look-ups in vain of one client were refused, want %d", n, 3*burst-ofClient)
	}
	if n := asked("192.0.2.2/32", "here-%d", burst); n != 0 {
		t.Errorf("%d look-ups of another client were refused", n)
	}
	if n := asked("", "gone-%d", 3*burst); n != 2*burst+ofClient {
		t.Errorf("%d look-ups in vain were refused, want %d", n, 2*burst+ofClient)
	}
	// Budgets fill up with time.
	now = now.Add(time.Minute)
	if n := asked("192.0.2.1/32", "late-%d", ofClient); n != 0 {
		t.Errorf("%d look-ups were refused after a minute", n)
	}
	for i := range 3 * most {
		_ = g.admit(fmt.Sprint(i), "peer", []string{"here"})
	}
	if len(g.clients.byName) > most {
		t.Errorf("%d clients are remembered", len(g.clients.byName))
	}
}

// Keys that don't exist are asked for only at a bounded rate, those that do at any.
func TestGateFlood(t *testing.T) {
	km := &heldKeys{keys: map[string]bool{"here": true}}
	gate := New(km, cipher.Unbound, time.Second, time.Hour)
	now := time.Now()
	gate.now = func() time.Time { return now }
	for i := range 2 * peerBurst {
		_, _ = gate.KeysByID(t.Context(), "", "SAE_A", fmt.Sprint("unknown-", i))
	}
	if km.asked != peerBurst {
		t.Errorf("asked %d times, want %d", km.asked, peerBurst)
	}
	if _, err := gate.KeysByID(t.Context(), "", "SAE_A", "unknown"); !refused(err) {
		t.Error(err)
	}
	if _, err := gate.KeysByID(t.Context(), "", "SAE_C", "unknown"); !errors.Is(err, kmclient.ErrKeyNotFound) {
		t.Error("one peer's flood holds up another:", err)
	}
	now = now.Add(time.Second)
	for range 3 * peerRate {
		if _, err := gate.KeysByID(t.Context(), "", "SAE_A", "here"); err != nil {
			t.Fatal(err)
		}
	}
}

// A look-up that the peer's budget refuses takes nothing from that of its client.
func TestGateTakesFromBothOrNone(t *testing.T) {
	g := New(someKeys{}, cipher.Unbound, time.Second, time.Hour)
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
