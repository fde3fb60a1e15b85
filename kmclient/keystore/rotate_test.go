package keystore_test

import (
	"context"
	"errors"
	"testing"

	"github.com/qkdmail/qkdmail/kmclient/keystore"
	"github.com/qkdmail/qkdmail/kmclient/keystore/internal/engine"
)

// During and after a change of the store key, a process with both keys goes on; the old
// key alone opens nothing.
func TestRotate(t *testing.T) {
	k := newKit(t, nil)
	ids := k.sent(600)
	for i := 0; i < 600; i += 200 {
		k.get(k.Store, ids[i:i+200]...)
	}
	k.bind(k.Store, "m", ids[:5]...)
	k.deliver(k.Store, ids[0], "a@x")
	next := keystore.NewStoreKey()
	knows := k.another(func(k *kit, o *keystore.Options) { o.Key = keystore.Keys(k.key, next) })
	if err := k.Rotate(t.Context(), next); err != nil {
		t.Fatal(err)
	}
	for _, m := range []*keystore.Store{k.Store, knows} {
		k.get(m, ids[:100]...)
		k.bind(m, "m", ids[:6]...)
		k.get(m, k.sent(1)...)
		if has, err := m.Delivered(t.Context(), "A", id("m"), ids[0], "a@x"); err != nil || !has[0] {
			t.Error(has, err)
		}
	}
	if _, err := open(t, k.mem, k.key); !errors.Is(err, keystore.ErrStoreKey) {
		t.Errorf("with the old key: %v", err)
	}
	v, err := open(t, k.mem, next)
	if err != nil {
		t.Fatal(err)
	}
	if r, err := v.Check(t.Context()); sealed(r) != 603 || r.Damaged != 0 || err != nil {
		t.Errorf("%+v, %v", r, err)
	}
}

// A process without the new key can't write, and its error says why; nothing is lost.
func TestRotateWithout(t *testing.T) {
	k := newKit(t, nil)
	ids := k.sent(2)
	k.get(k.Store, ids...)
	v, err := open(t, k.mem, k.key)
	if err != nil {
		t.Fatal(err)
	}
	if err := v.Rotate(t.Context(), keystore.NewStoreKey()); err != nil {
		t.Fatal(err)
	}
	k.want(k.BindKeys(t.Context(), "A", id("m"), 0, ids[0]), keystore.ErrStoreKey, true)
	given := k.km.given
	_, err = k.KeysByID(t.Context(), "A", k.sent(1)...)
	k.want(err, keystore.ErrStoreKey, true)
	if s := k.Stats(); s.Waiting != 0 || k.km.given != given {
		t.Errorf("%d keys were fetched, although they can't be stored: %+v", k.km.given-given, s)
	}
}

// A change of the store key that is killed at any commit can be completed later; in
// between, both keys together open everything.
func TestRotateInterrupted(t *testing.T) {
	done := false
	for stop := 0; !done; stop++ {
		k := newKit(t, nil)
		ids := k.sent(20)
		k.get(k.Store, ids...)
		next := keystore.NewStoreKey()
		engine := &dying{Engine: k.mem.Open(nil), left: stop}
		v, err := keystore.Open(t.Context(), nil, keystore.Options{Engine: engine, Key: keystore.Keys(k.key)})
		if err != nil {
			t.Fatal(err)
		}
		done = v.Rotate(t.Context(), next) == nil
		v, err = open(t, k.mem, k.key, next)
		if err != nil {
			t.Fatalf("stopped after %d commits: %v", stop, err)
		}
		check := func() {
			t.Helper()
			if r, err := v.Check(t.Context()); sealed(r) != 20 || r.Damaged > 0 || err != nil {
				t.Errorf("stopped after %d commits: %+v, %v", stop, r, err)
			}
		}
		check()
		if stop > 0 && !done {
			if err := v.Rotate(t.Context(), keystore.NewStoreKey()); !errors.Is(err, keystore.ErrStoreKey) {
				t.Errorf("another key: %v", err)
			}
		}
		if err := v.Rotate(t.Context(), next); err != nil {
			t.Errorf("stopped after %d commits: %v", stop, err)
		}
		if v, err = open(t, k.mem, next); err != nil {
			t.Fatal(err)
		}
		check()
		if stop > 20 {
			t.Fatal("too many commits")
		}
	}
}

// A sweep puts off a record while the store key is changed: it keeps the value, sealed with
// the old key, and the change must come back to it.
func TestRotateBesideSweep(t *testing.T) {
	k := newKit(t, nil)
	ids := k.sent(3)
	k.get(k.Store, ids...)
	k.bind(k.Store, "m", ids...)
	k.clock.add(8 * day)
	next := keystore.NewStoreKey()
	sweeper := k.another(func(k *kit, o *keystore.Options) { o.Key = keystore.Keys(k.key, next) })
	engine := &overtaken{Engine: k.mem.Open(nil), by: func() { k.sweep(sweeper) }}
	v, err := keystore.Open(t.Context(), nil, keystore.Options{Engine: engine, Key: keystore.Keys(k.key)})
	if err != nil {
		t.Fatal(err)
	}
	if err := v.Rotate(t.Context(), next); err != nil {
		t.Fatal(err)
	}
	if v, err = open(t, k.mem, next); err != nil {
		t.Fatal(err)
	}
	if r, err := v.Check(t.Context()); sealed(r) != 3 || r.Damaged > 0 || err != nil {
		t.Errorf("keys can't be opened with the new store key: %+v, %v", r, err)
	}
}

// An overtaken engine lets something happen just before it changes a key.
type overtaken struct {
	engine.Engine
	by func() // once
}

func (o *overtaken) Apply(ctx context.Context, changes ...engine.Change) error {
	if by := o.by; by != nil && changes[len(changes)-1].Name().Kind == engine.Receive {
		o.by = nil
		by()
	}
	return o.Engine.Apply(ctx, changes...)
}

// A dying engine makes a number of changes and then no more.
type dying struct {
	engine.Engine
	left int
}

func (d *dying) Apply(ctx context.Context, changes ...engine.Change) error {
	if d.left--; d.left < 0 {
		return errDisk
	}
	return d.Engine.Apply(ctx, changes...)
}

// Another process has changed the store key, and this one does not have the new key
// until it is restarted. It notices this before it asks the key manager for anything:
// keys that were then given out and deleted would be lost with the restart.
func TestRotatedElsewhere(t *testing.T) {
	rotated := func(k *kit, next keystore.StoreKey) {
		k.Helper()
		other, err := open(t, k.mem, k.key)
		if err != nil {
			t.Fatal(err)
		}
		if err := other.Rotate(k.Context(), next); err != nil {
			t.Fatal(err)
		}
	}
	t.Run("receiving", func(t *testing.T) {
		k := newKit(t, nil)
		ids := k.sent(1)
		next := keystore.NewStoreKey()
		rotated(k, next)
		_, err := k.KeysByID(t.Context(), "A", ids[0])
		k.want(err, keystore.ErrStoreKey, true)
		if err := k.Close(t.Context()); err != nil {
			t.Error(err)
		}
		k.key = next
		if _, err := k.another(nil).KeysByID(t.Context(), "A", ids[0]); err != nil {
			t.Errorf("started with the new key, the key of the message is lost: %v", err)
		}
	})
	t.Run("sending", func(t *testing.T) {
		k := newKit(t, nil)
		rotated(k, keystore.NewStoreKey())
		for range 10 {
			_, err := k.GetKeys(t.Context(), "A", 256, 5)
			k.want(err, keystore.ErrStoreKey, true)
		}
		if n := len(k.km.keys); n > 0 {
			t.Errorf("%d keys of the link were burned", n)
		}
	})
	t.Run("between the look and the claim", func(t *testing.T) {
		k := newKit(t, nil)
		k.km.getting = func() {
			k.km.getting = nil
			rotated(k, keystore.NewStoreKey())
		}
		for range 10 {
			_, err := k.GetKeys(t.Context(), "A", 256, 5)
			k.want(err, keystore.ErrStoreKey, true)
		}
		if n := len(k.km.keys); n != 5 {
			t.Errorf("%d keys of the link were burned by 10 tries, want those of the first", n)
		}
	})
}
