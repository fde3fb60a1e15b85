package mailer

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/qkdmail/qkdmail/kmclient"
)

// The key gate: what is missing is not asked for at once, comes within its
// grace, and is lost after it.
func TestKeyGate(t *testing.T) {
	km := newTestKM()
	gate := newKeyGate(km, time.Second, 4*time.Hour)
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
		if _, asked := km.count(); asked != 1 {
			t.Fatalf("asked %d times after look-up %d", asked, i)
		}
	}
	// Not spelled otherwise either; but other keys are, and together.
	_ = ask(strings.ToUpper(id))
	if _, asked := km.count(); asked != 1 {
		t.Error("asked for another spelling")
	}
	_ = ask(id, "other")
	if _, asked := km.count(); asked != 3 {
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
	km.keys[id] = make([]byte, 32)
	now = now.Add(2 * gateRemember)
	if err := ask(id); err != nil {
		t.Error(err)
	}
	delete(km.keys, id)
	if err := ask(id); errors.Is(err, errKeyGone) {
		t.Error("grace begins anew once a key was there")
	}
}

func TestKeyGateForgets(t *testing.T) {
	gate := newKeyGate(newTestKM(), time.Second, 4*time.Hour)
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
