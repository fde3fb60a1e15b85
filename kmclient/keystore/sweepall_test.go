package keystore_test

import (
	"errors"
	"testing"
	"time"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/keystore"
	"github.com/qkdmail/qkdmail/kmclient/keystore/internal/engine"
)

// SweepAll closes keys of messages that were delivered under another policy, and does
// not postpone anything that was due earlier.
func TestSweepAll(t *testing.T) {
	k := newKit(t, func(k *kit, o *keystore.Options) { k.km.keeps, o.Close, o.Undelivered = true, keystore.Never(), 90*day })
	ids := k.sent(600)
	k.get(k.Store, ids...)
	k.bind(k.Store, "m", ids[:300]...)
	k.deliver(k.Store, ids[0], "a@x")
	k.clock.add(time.Minute)
	soon := k.another(closing(keystore.After(0)))
	all := func(dryRun bool, want keystore.Swept) {
		t.Helper()
		if got, err := soon.SweepAll(t.Context(), dryRun); err != nil || got != want {
			t.Errorf("%+v, %v, want %+v", got, err, want)
		}
	}
	before := k.engine.applies()
	all(true, keystore.Swept{Closed: 300, Untold: 300})
	if k.engine.applies() != before || len(k.km.closed) != 0 {
		t.Error("a dry run changed something")
	}
	k.km.failing = &kmclient.Error{Op: "close key", Err: kmclient.ErrUnavailable}
	all(false, keystore.Swept{Closed: 300, Untold: 300})
	all(true, keystore.Swept{Untold: 300})
	k.km.failing = nil
	all(false, keystore.Swept{Told: 300})
	all(false, keystore.Swept{})
	if len(k.km.closed) != 300 {
		t.Errorf("%d keys closed at the key manager", len(k.km.closed))
	}
	k.wantState(ids[0], kmclient.StateClosed)
	k.wantState(ids[599], kmclient.StateInUse)

	// Keys without a message are closed by the relay's policy: a sweep with a policy
	// that keeps them forever did not postpone that.
	k.clock.add(91 * day)
	k.sweep(k.Store)
	k.wantState(ids[599], kmclient.StateClosed)
	all(true, keystore.Swept{Messages: 1})
	k.clock.add(61 * day)
	all(true, keystore.Swept{Tombstones: 300, Messages: 1})
}

// A dry run counts the record of a delivery whose key it would close.
func TestSweepAllAfterNever(t *testing.T) {
	k := newKit(t, closing(keystore.Never()))
	ids := k.sent(2)
	k.get(k.Store, ids...)
	k.bind(k.Store, "m", ids...)
	k.deliver(k.Store, ids[0], "a@x")
	k.clock.add(100 * day)
	m := k.another(closing(keystore.After(7 * day)))
	for _, dryRun := range []bool{true, false} {
		if got, err := m.SweepAll(t.Context(), dryRun); err != nil || got != (keystore.Swept{Closed: 2, Messages: 1}) {
			t.Errorf("dry run %v: %+v, %v", dryRun, got, err)
		}
	}
	if got, err := m.SweepAll(t.Context(), true); err != nil || got != (keystore.Swept{}) {
		t.Errorf("there is more to do after that: %+v, %v", got, err)
	}
}

// SweepAll leaves damaged records and those of other owners as they are.
func TestSweepAllDamaged(t *testing.T) {
	k := newKit(t, nil)
	other := k.another(func(_ *kit, o *keystore.Options) { o.SAE = "C" })
	ids := k.sent(4)
	k.get(k.Store, ids[:3]...)
	k.get(other, ids[3])
	for _, m := range []*keystore.Store{k.Store, other} {
		id := ids[0]
		if m == other {
			id = ids[3]
		}
		k.bind(m, "m", id)
		k.deliver(m, id, "a@x")
	}
	store := k.mem.Open(nil)
	records, err := store.Get(t.Context(), engine.Name{Kind: engine.Receive, KM: "km", SAE: "B", ID: ids[1]})
	if err == nil {
		err = store.Apply(t.Context(), engine.Change{Old: records[0], New: &engine.Record{Name: records[0].Name, Value: []byte("x")}})
	}
	if err != nil {
		t.Fatal(err)
	}
	m := k.another(closing(keystore.After(0)))
	if got, err := m.SweepAll(t.Context(), false); err != nil || got != (keystore.Swept{Closed: 1, Damaged: 1}) {
		t.Errorf("%+v, %v", got, err)
	}
	if info, err := k.show(other, ids[3]); err != nil || info.State != kmclient.StateUsed {
		t.Error(info, err)
	}
	if err := k.engine.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := m.SweepAll(t.Context(), false); !errors.Is(err, kmclient.ErrStore) {
		t.Error(err)
	}
}

// A policy that closes keys follows one that closes none: deliveries stay known until
// the keys have been looked at.
func TestNeverThenAfter(t *testing.T) {
	const day = 24 * time.Hour
	k := newKit(t, func(_ *kit, o *keystore.Options) { o.Close = keystore.Never() })
	ids := k.sent(2)
	k.get(k.Store, ids...)
	k.bind(k.Store, "m", ids...)
	k.deliver(k.Store, ids[0], "a@b")
	k.clock.add(day)
	k.deliver(k.Store, ids[0], "c@b")
	hours := func(m *keystore.Store, n int) {
		for range n {
			k.clock.add(time.Hour)
			k.sweep(m)
		}
	}
	hours(k.Store, 24*90-12)
	k.wantState(ids[0], kmclient.StateUsed)
	m := k.another(func(_ *kit, o *keystore.Options) { o.Close = keystore.After(7 * day) })
	hours(m, 24*31)
	k.wantState(ids[0], kmclient.StateClosed)
	k.wantState(ids[1], kmclient.StateClosed)
	hours(m, 24*90)
	k.wantState(ids[0], "")
	if left, err := k.engine.List(t.Context(), engine.Name{Kind: engine.Message}, 1); err != nil || len(left) > 0 && left[0].Kind == engine.Message {
		t.Errorf("the record of the delivery is still there: %v, %v", left, err)
	}
}

// The same after a policy that waits long.
func TestLongThenShort(t *testing.T) {
	const day = 24 * time.Hour
	policy := func(d time.Duration) func(*kit, *keystore.Options) {
		return func(_ *kit, o *keystore.Options) { o.Close = keystore.After(d) }
	}
	k := newKit(t, policy(7*day))
	ids := k.sent(1)
	k.get(k.Store, ids...)
	k.bind(k.Store, "m", ids...)
	k.deliver(k.Store, ids[0], "a@b")
	days := func(m *keystore.Store, n int) {
		for range n {
			k.clock.add(day)
			k.sweep(m)
		}
	}
	days(k.another(policy(365*day)), 50) // looks at the key on the 8th day, and next on the 365th
	m := k.another(policy(7 * day))
	days(m, 330)
	k.wantState(ids[0], kmclient.StateClosed)
	days(m, 61)
	k.wantState(ids[0], "")
}
