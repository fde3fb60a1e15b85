package keystore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/keystore"
)

// A key that the key manager has given out once can be read any number of times, in any
// process, in any spelling.
func TestKept(t *testing.T) {
	k := newKit(t, nil)
	ids := k.sent(3)
	first := k.get(k.Store, ids...)
	again := k.get(k.another(nil), ids[2], strings.ToUpper(ids[0]))
	if !bytes.Equal(first[2].Reveal(), again[0].Reveal()) || !bytes.Equal(first[0].Reveal(), again[1].Reveal()) {
		t.Error("the key has different bytes")
	}
	if k.km.calls != 1 || k.km.given != 3 {
		t.Errorf("%d calls, %d keys", k.km.calls, k.km.given)
	}
	if s := k.Stats(); s.Fetched != 3 || s.Stored != 3 || s.FromStore != 0 {
		t.Errorf("%+v", s)
	}
	k.wantState(ids[0], kmclient.StateInUse)
	if k.DeletesOnDelivery() {
		t.Error("DeletesOnDelivery is true")
	}
}

// A frame's keys take one call and one commit; only missing keys are fetched.
func TestFrame(t *testing.T) {
	k := newKit(t, nil)
	ids := k.sent(10)
	k.get(k.Store, ids[:4]...)
	before := k.engine.applies()
	k.get(k.Store, ids...)
	if k.km.calls != 2 || k.km.given != 10 || k.engine.applies() != before+1 {
		t.Errorf("%d calls, %d keys, %d commits", k.km.calls, k.km.given, k.engine.applies()-before)
	}
	if s := k.Stats(); s.FromStore != 4 || s.Fetched != 10 {
		t.Errorf("%+v", s)
	}
	many := k.sent(100) // more than the engine accepts at once
	k.get(k.Store, many...)
	k.bind(k.Store, "many", many...)
}

func TestBadRequests(t *testing.T) {
	k := newKit(t, nil)
	id := k.sent(1)[0]
	for name, ids := range map[string][]string{
		"none": {}, "empty": {""}, "blank": {"a b"}, "twice": {id, strings.ToUpper(id)}, "long": {strings.Repeat("x", 256)},
	} {
		_, err := k.KeysByID(t.Context(), "A", ids...)
		k.want(err, kmclient.ErrBadRequest, false)
		if t.Failed() {
			t.Fatal(name)
		}
	}
	if k.km.calls != 0 {
		t.Error("the key manager was asked")
	}
}

// The error of a failed fetch is the key manager's.
func TestFetchFails(t *testing.T) {
	k := newKit(t, nil)
	ids := k.sent(2)
	_, err := k.KeysByID(t.Context(), "A", ids[0], "unknown")
	k.want(err, kmclient.ErrKeyNotFound, false)
	k.km.failing = &kmclient.Error{Op: "keys by ID", Retry: true, Err: kmclient.ErrUnavailable}
	_, err = k.KeysByID(t.Context(), "A", ids...)
	k.want(err, kmclient.ErrUnavailable, true)
	k.km.failing = nil
	k.get(k.Store, ids...)
}

// While the disk is full, nothing is lost, nothing is returned, and nothing else is
// fetched.
func TestDiskFull(t *testing.T) {
	k := newKit(t, nil)
	ids := k.sent(4)
	k.engine.set(errDisk, false)
	_, err := k.KeysByID(t.Context(), "A", ids[:2]...)
	k.want(err, kmclient.ErrStore, true)
	_, err = k.KeysByID(t.Context(), "A", ids[2:]...)
	k.want(err, kmclient.ErrStore, true)
	if s := k.Stats(); k.km.given != 2 || s.Waiting != 2 || s.Stored != 0 || s.StoreErrors == 0 {
		t.Errorf("%d keys fetched, %+v", k.km.given, s)
	}
	k.engine.set(nil, false)
	k.get(k.Store, ids[0], ids[3])
	k.get(k.another(nil), ids[1])
	if s := k.Stats(); s.Waiting != 0 || s.Stored != 3 {
		t.Errorf("%+v", s)
	}
}

// Waiting keys are stored by Close at the latest, or its error says that they are lost.
// Afterwards nothing is fetched.
func TestWaitingAtClose(t *testing.T) {
	for _, full := range []bool{false, true} {
		k := newKit(t, nil)
		ids := k.sent(1)
		k.engine.set(errDisk, false)
		_, err := k.KeysByID(t.Context(), "A", ids...)
		k.want(err, kmclient.ErrStore, true)
		if !full {
			k.engine.set(nil, false)
		}
		if err := k.Close(t.Context()); (err != nil) != full {
			t.Errorf("full %v: %v", full, err)
		}
		if !full {
			k.get(k.another(nil), ids...)
		}
		given := k.km.given
		_, err = k.KeysByID(t.Context(), "A", k.sent(1)...)
		k.want(err, kmclient.ErrStore, true)
		if k.km.given != given {
			t.Error("a key was fetched for a closed store")
		}
	}
}

// The commit was made and its answer lost: the key is there.
func TestCommitAnswerLost(t *testing.T) {
	k := newKit(t, nil)
	ids := k.sent(2)
	k.engine.set(errDisk, true)
	_, err := k.KeysByID(t.Context(), "A", ids...)
	k.want(err, kmclient.ErrStore, true)
	k.engine.set(nil, false)
	k.get(k.Store, ids...)
	k.get(k.Store, k.sent(1)...) // flushes waiting keys
	if s := k.Stats(); s.Waiting != 0 {
		t.Errorf("%+v", s)
	}
}

// The key of a caller that gives up is stored.
func TestGivesUp(t *testing.T) {
	k := newKit(t, nil)
	ids := k.sent(1)
	k.km.delay = make(chan struct{})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	_, err := k.KeysByID(ctx, "A", ids...)
	k.want(err, kmclient.ErrUnavailable, true)
	close(k.km.delay)
	if err := k.Close(t.Context()); err != nil {
		t.Error(err)
	}
	k.get(k.another(nil), ids...)
}

// Many callers ask for the same keys at the same time, in two processes: the key
// manager gives them out once, and every caller gets them.
func TestSameTime(t *testing.T) {
	k := newKit(t, nil)
	other := k.another(nil)
	ids := k.sent(3)
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			m := k.Store
			if i%2 == 1 {
				m = other
			}
			keys, err := m.KeysByID(t.Context(), "A", ids[i%3], ids[(i+1)%3])
			if err != nil || len(keys) != 2 {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if k.km.given != 3 {
		t.Errorf("%d keys given out", k.km.given)
	}
}

// Another relay has just fetched one of a frame's keys: the others are still fetched.
func TestPartlyTaken(t *testing.T) {
	k := newKit(t, nil)
	other := k.another(nil)
	ids := k.sent(3)
	k.km.delay = make(chan struct{})
	done := make(chan error)
	go func() {
		_, err := k.KeysByID(t.Context(), "A", ids...)
		done <- err
	}()
	time.Sleep(10 * time.Millisecond) // by now it has looked in the store, and is asking
	k.km.mu.Lock()
	delay := k.km.delay
	k.km.delay = nil
	k.km.mu.Unlock()
	k.get(other, ids[1])
	close(delay)
	if err := <-done; err != nil || k.km.given != 3 {
		t.Errorf("%d given out, %v", k.km.given, err)
	}
}

// A key is not for another peer's message.
func TestOtherPeer(t *testing.T) {
	k := newKit(t, nil)
	ids := k.sent(1)
	k.get(k.Store, ids...)
	_, err := k.KeysByID(t.Context(), "C", ids...)
	k.want(err, kmclient.ErrKeyNotFound, false)
	k.want(k.BindKeys(t.Context(), "C", id("c"), 0, ids...), kmclient.ErrKeyNotFound, false)
	k.bind(k.Store, "a", ids...)
}

// Keys of another key manager or SAE are other keys, and sending keys are not stored.
func TestIndex(t *testing.T) {
	k := newKit(t, nil)
	ids := k.sent(1)
	k.get(k.Store, ids...)
	for _, o := range []keystore.Options{{KM: "other", SAE: "B"}, {KM: "km", SAE: "other"}} {
		m := k.another(func(_ *kit, set *keystore.Options) { set.KM, set.SAE = o.KM, o.SAE })
		_, err := m.KeysByID(t.Context(), "A", ids...)
		k.want(err, kmclient.ErrKeyNotFound, false)
	}
	keys, err := k.GetKeys(t.Context(), "A", 256, 1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.Show(t.Context(), keys[0].ID()); !errors.Is(err, kmclient.ErrKeyNotFound) {
		t.Error("a sending key is shown as a receiving one")
	}
}

// The key belongs to the first verified message, and to no other.
func TestBind(t *testing.T) {
	k := newKit(t, nil)
	other := k.another(nil)
	ids := k.sent(4)
	k.get(k.Store, ids...)
	k.bind(k.Store, "message", ids[:2]...)
	k.bind(other, "message", ids[:2]...)
	k.wantState(ids[0], kmclient.StateUsed)
	k.wantState(ids[2], kmclient.StateInUse)
	bind := func(identity string, frame uint64, ids ...string) error {
		return other.BindKeys(t.Context(), "A", id(identity), frame, ids...)
	}
	k.want(bind("another", 0, ids[0]), keystore.ErrBound, false)
	k.want(bind("message", 1, ids[0]), keystore.ErrBound, false)
	k.want(bind("another", 0, ids[2], ids[1]), keystore.ErrBound, false)
	k.wantState(ids[2], kmclient.StateInUse)
	k.want(bind("message", 0, "unknown"), kmclient.ErrKeyNotFound, false)
	if s := other.Stats(); s.BoundRefused != 3 {
		t.Errorf("%+v", s)
	}
	if log := k.log.String(); strings.Count(log, "alarm=bound") != 3 {
		t.Errorf("log: %s", log)
	}
	// A binding that fails binds nothing.
	k.engine.set(errDisk, false)
	k.want(bind("third", 0, ids[3]), kmclient.ErrStore, true)
	k.engine.set(nil, false)
	if err := bind("third", 1, ids[3]); err != nil {
		t.Error(err)
	}
}

// If many identities are verified at the same time, only one gets the key.
func TestBindRace(t *testing.T) {
	k := newKit(t, nil)
	managers := []*keystore.Store{k.Store, k.another(nil), k.another(nil)}
	for range 20 {
		ids := k.sent(2)
		k.get(k.Store, ids...)
		var mu sync.Mutex
		won := map[kmclient.Identity]int{}
		var wg sync.WaitGroup
		for i := range 12 {
			wg.Go(func() {
				identity := id(fmt.Sprint(i % 4))
				err := managers[i%3].BindKeys(t.Context(), "A", identity, 0, ids...)
				if err == nil {
					mu.Lock()
					won[identity]++
					mu.Unlock()
				} else if !errors.Is(err, keystore.ErrBound) {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if len(won) != 1 || won[id("0")]+won[id("1")]+won[id("2")]+won[id("3")] != 3 {
			t.Fatalf("bound to %v", won)
		}
	}
}

// If a key manager gives out different bytes under the same ID, every caller gets those
// that were stored first, and the other keys are not lost.
func TestOtherOctets(t *testing.T) {
	k := newKit(t, nil)
	k.km.keeps = true
	ids := k.sent(2)
	k.engine.set(errDisk, false)
	_, err := k.KeysByID(t.Context(), "A", ids...) // they wait
	k.want(err, kmclient.ErrStore, true)
	first := k.engine
	k.km.keys[ids[0]] = bytes.Repeat([]byte("ab"), 16)
	stored := k.get(k.another(nil), ids[0])
	first.set(nil, false)
	k.km.failing = errors.New("not asked")
	k.sweep(k.Store)
	if keys := k.get(k.Store, ids...); !bytes.Equal(keys[0].Reveal(), stored[0].Reveal()) {
		t.Error("the bytes are not those stored first")
	}
	if !strings.Contains(k.log.String(), "alarm=changed") || k.Stats().Changed != 1 {
		t.Error(k.log)
	}
}
