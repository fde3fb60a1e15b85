package keystore_test

import (
	"errors"
	"testing"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/keystore"
)

const rcpt, other = "one@example.org", "other@example.org"

// calls runs a step, which may make at most this many calls to the engine.
func (k *kit) calls(name string, gets, applies int, step func()) {
	k.Helper()
	g, a := k.engine.calls()
	step()
	g2, a2 := k.engine.calls()
	if g2-g > gets || a2-a > applies {
		k.Errorf("%s: %d reads and %d changes, want at most %d and %d", name, g2-g, a2-a, gets, applies)
	}
}

// has reports whether a recipient has received the message of a key.
func (k *kit) has(m *keystore.Store, keyID, rcpt string) bool {
	k.Helper()
	has, err := m.Delivered(k.Context(), "A", k.message(keyID), keyID, rcpt)
	if err != nil {
		k.Fatal(err)
	}
	return has[0]
}

// A message takes one read for its key, one for its deliveries, and three commits.
func TestCallsOfMessage(t *testing.T) {
	k := newKit(t, nil)
	ids := k.sent(1)
	m := k.Store
	k.calls("fetch", 1, 1, func() { k.get(m, ids...) })
	k.calls("bind", 0, 1, func() { k.bind(m, "mail", ids...) })
	k.calls("look", 1, 0, func() { k.has(m, ids[0], rcpt) })
	k.calls("deliver", 0, 1, func() { k.deliver(m, ids[0], rcpt) })
	k.calls("the same message to another recipient", 3, 1, func() {
		k.get(m, ids...)
		k.bind(m, "mail", ids...)
		k.has(m, ids[0], other)
		k.deliver(m, ids[0], other)
	})
	ids = k.sent(7) // as many as go into one commit with their claims
	k.calls("message with seven keys", 2, 3, func() {
		k.get(m, ids...)
		k.bind(m, "long mail", ids...)
		k.has(m, ids[0], rcpt)
		k.deliver(m, ids[0], rcpt)
	})
	if !k.has(m, ids[0], rcpt) || k.has(m, ids[0], other) {
		t.Error("what was recorded is not there")
	}
}

// A change that another process made since a record was read counts.
func TestOthersMeanwhile(t *testing.T) {
	fetched := func(k *kit, _ *keystore.Store, key string) { k.get(k.Store, key) }
	bound := func(k *kit, m *keystore.Store, key string) {
		fetched(k, m, key)
		k.bind(k.Store, "mail", key)
	}
	looked := func(k *kit, m *keystore.Store, key string) {
		bound(k, m, key)
		k.has(k.Store, key, rcpt)
	}
	closes := func(k *kit, m *keystore.Store, key string) {
		if err := m.CloseKey(k.Context(), key); err != nil {
			k.Error(err)
		}
	}
	binds := func(identity string) func(*kit, *keystore.Store, string) {
		return func(k *kit, m *keystore.Store, key string) { k.bind(m, identity, key) }
	}
	delivers := func(rcpt string) func(*kit, *keystore.Store, string) {
		return func(k *kit, m *keystore.Store, key string) { k.deliver(m, key, rcpt) }
	}
	wantBind := func(want error) func(*kit, string) {
		return func(k *kit, key string) {
			if err := k.BindKeys(k.Context(), "A", id("mail"), 0, key); !errors.Is(err, want) {
				k.Errorf("bind: got %v, want %v", err, want)
			}
			s := k.Stats()
			if alarm := errors.Is(want, keystore.ErrBound); (s.BoundRefused == 1) != alarm || s.Bound != 0 {
				k.Errorf("alarm %v, want %v; %+v", s.BoundRefused, alarm, s)
			}
		}
	}
	type step = func(*kit, *keystore.Store, string)
	for name, c := range map[string]struct {
		own, others step
		then        func(*kit, string)
	}{
		"closed before it is bound": {fetched, closes, wantBind(keystore.ErrClosed)},
		"bound to another message":  {fetched, binds("copy"), wantBind(keystore.ErrBound)},
		"bound to the same message": {fetched, binds("mail"), wantBind(nil)},
		"closed, and bound to it: not one more": {bound, closes, func(k *kit, key string) {
			k.want(k.BindKeys(k.Context(), "A", id("mail"), 0, key), keystore.ErrClosed, false)
		}},
		"closed before it is fetched again": {bound, closes, func(k *kit, key string) {
			_, err := k.KeysByID(k.Context(), "A", key)
			k.want(err, keystore.ErrClosed, false)
			if k.has(k.Store, key, rcpt) || k.Stats().ClosedRefused != 1 {
				k.Errorf("no alarm: %+v", k.Stats())
			}
		}},
		"delivered before the look": {bound, delivers(rcpt), func(k *kit, key string) {
			if !k.has(k.Store, key, rcpt) {
				k.Error("it would be delivered twice")
			}
		}},
		"delivered to another after the look": {looked, delivers(other), func(k *kit, key string) {
			k.deliver(k.Store, key, rcpt)
			if !k.has(k.Store, key, rcpt) || !k.has(k.Store, key, other) || k.Stats().Delivered != 1 {
				k.Errorf("a recipient was lost: %+v", k.Stats())
			}
		}},
		"delivered after the look": {looked, delivers(rcpt), func(k *kit, key string) {
			k.deliver(k.Store, key, rcpt)
			if s := k.Stats(); s.Delivered != 0 {
				k.Errorf("counted twice: %+v", s)
			}
		}},
		"closed after the look": {looked, closes, func(k *kit, key string) {
			k.deliver(k.Store, key, rcpt)
			k.wantState(key, kmclient.StateClosed)
			if !k.has(k.Store, key, rcpt) {
				k.Error("the delivery was lost")
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			k := newKit(t, nil)
			key := k.sent(1)[0]
			c.own(k, k.Store, key)
			c.others(k, k.another(nil), key)
			c.then(k, key)
		})
	}
}

// If there are more keys than fit into one commit, and one has come to belong to
// another message, none is bound.
func TestOthersMeanwhileOfMany(t *testing.T) {
	k := newKit(t, nil)
	ids := k.sent(40)
	k.get(k.Store, ids...)
	k.bind(k.another(nil), "copy", ids[39])
	k.want(k.BindKeys(t.Context(), "A", id("mail"), 0, ids...), keystore.ErrBound, false)
	k.wantState(ids[0], kmclient.StateInUse)
}

// The store key may change between any two steps, by this process or another.
func TestRotateMeanwhile(t *testing.T) {
	for _, own := range []bool{true, false} {
		k := newKit(t, nil)
		keys := []keystore.StoreKey{k.key}
		open := func() *keystore.Store {
			return k.another(func(_ *kit, o *keystore.Options) {
				o.Key = func(bool) ([]keystore.StoreKey, error) { return keys, nil }
			})
		}
		m := open()
		rotate := func() {
			by := m
			if !own {
				by = open()
			}
			next := keystore.NewStoreKey()
			keys = append(keys, next)
			if err := by.Rotate(t.Context(), next); err != nil {
				t.Fatal(err)
			}
			keys = keys[len(keys)-1:]
		}
		key := k.sent(1)[0]
		k.get(m, key)
		rotate()
		k.bind(m, "mail", key)
		rotate()
		k.has(m, key, rcpt)
		rotate()
		k.deliver(m, key, rcpt)
		rotate()
		if !k.has(m, key, rcpt) || k.has(m, key, other) {
			t.Errorf("by itself %v: the delivery was not recorded", own)
		}
	}
}

// After a change with unknown outcome, the records are read again.
func TestForgottenWhenUnsure(t *testing.T) {
	k := newKit(t, nil)
	key := k.sent(1)[0]
	k.get(k.Store, key)
	k.engine.set(errDisk, true) // done, but the answer is lost
	k.want(k.BindKeys(t.Context(), "A", id("mail"), 0, key), kmclient.ErrStore, true)
	k.engine.set(nil, false)
	k.calls("bind again", 1, 0, func() { k.bind(k.Store, "mail", key) })
	k.want(k.BindKeys(t.Context(), "A", id("copy"), 0, key), keystore.ErrBound, false)
}
