package keystore_test

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"testing"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/keystore"
	"github.com/qkdmail/qkdmail/kmclient/keystore/internal/engine"
)

// A key manager that binds no key to a pair of SAEs gives it out for any peer. Until a
// key belongs to a message, a rubbish message can't take it away from the real one.
func TestContested(t *testing.T) {
	k := newKit(t, nil)
	k.km.keeps = true
	ids := k.sent(2)
	if _, err := k.KeysByID(t.Context(), "C", ids...); err != nil { // rubbish that claims to be from C
		t.Fatal(err)
	}
	k.get(k.Store, ids...)
	k.get(k.another(nil), ids...)
	k.bind(k.Store, "m", ids[0])
	k.wantState(ids[0], kmclient.StateUsed)
	if info, err := k.show(k.Store, ids[0]); err != nil || info.Peer != "A" {
		t.Errorf("once bound, the key belongs to peer %q (%v), want A", info.Peer, err)
	}
	_, err := k.KeysByID(t.Context(), "C", ids[0])
	k.want(err, kmclient.ErrKeyNotFound, false)
	k.want(k.BindKeys(t.Context(), "C", id("rubbish"), 0, ids[0]), kmclient.ErrKeyNotFound, false)

	down := &kmclient.Error{Op: "keys by ID", Retry: true, Err: kmclient.ErrUnavailable}
	k.km.failing = down
	if _, err = k.KeysByID(t.Context(), "A", ids[1]); !errors.Is(err, down) {
		t.Errorf("with a key manager that can't be asked: %v, want %v", err, down)
	}
	k.km.failing = nil
	_, _ = rand.Read(k.km.keys[ids[1]])
	_, err = k.KeysByID(t.Context(), "A", ids[1])
	k.want(err, kmclient.ErrKeyNotFound, false) // A's key with this ID is a different one
}

// The keys of an answer that is refused are kept: the key manager has deleted them.
func TestRefusedAnswerIsKept(t *testing.T) {
	k := newKit(t, nil)
	ids := k.sent(2)
	k.km.reorder = true
	_, err := k.KeysByID(t.Context(), "A", ids...)
	k.want(err, kmclient.ErrBadKey, false)
	k.get(k.another(nil), ids...)
	if k.km.calls != 1 {
		t.Errorf("the key manager was asked %d times, want once", k.km.calls)
	}
}

// Another process binds a key of a call between the two commits that it takes.
func TestBoundBetweenCommits(t *testing.T) {
	k := newKit(t, nil)
	ids := k.sent(30) // twice as many as the engine accepts
	k.get(k.Store, ids...)
	engine := k.engine
	other := k.another(nil)
	engine.Engine = &betweenApplies{Engine: engine.Engine, do: func() { k.bind(other, "other", ids[29]) }}
	k.want(k.BindKeys(t.Context(), "A", id("m"), 0, ids...), keystore.ErrBound, false)
	info, err := k.show(k.Store, ids[29])
	if want := id("other"); err != nil || info.Message != hex.EncodeToString(want[:]) {
		t.Errorf("the key belongs to %s (%v), want the message that came first", info.Message, err)
	}
	k.bind(k.Store, "m", ids[:14]...) // those of the first commit stay as they are
	k.want(k.BindKeys(t.Context(), "A", id("third"), 0, ids[0]), keystore.ErrBound, false)
}

// If others change a record whenever this process wants to, the store is busy. The key
// manager has nothing to do with it.
func TestConflictWithoutEnd(t *testing.T) {
	k := newKit(t, nil)
	ids := k.sent(1)
	k.get(k.Store, ids...)
	k.engine.set(engine.ErrConflict, false)
	err := k.BindKeys(t.Context(), "A", id("m"), 0, ids...)
	k.want(err, kmclient.ErrStoreBusy, true)
	if errors.Is(err, kmclient.ErrUnavailable) || k.Stats().StoreErrors != 1 {
		t.Errorf("%v, and %+v: want one error of the store", err, k.Stats())
	}
}

// betweenApplies does something before the second Apply.
type betweenApplies struct {
	engine.Engine
	n  int
	do func()
}

func (b *betweenApplies) Apply(ctx context.Context, changes ...engine.Change) error {
	if b.n++; b.n == 2 {
		b.do()
	}
	return b.Engine.Apply(ctx, changes...)
}
