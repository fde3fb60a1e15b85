package keystore_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/keystore"
)

// A partKM answers each look-up with an error, and with keys that arrived all the same.
type partKM struct {
	kmclient.KeyManager
	arrived func(peer string) []*kmclient.Key
}

func (p *partKM) KeysByID(_ context.Context, peer string, _ ...string) ([]*kmclient.Key, error) {
	return p.arrived(peer), &kmclient.Error{Op: "keys by ID", Err: kmclient.ErrBadAnswer}
}

// newPartKit returns a kit in front of a partKM.
func newPartKit(t *testing.T, keys ...*kmclient.Key) (*kit, *partKM) {
	k := newKit(t, nil)
	km := &partKM{k.km, func(string) []*kmclient.Key { return keys }}
	k.Store = k.before(km, nil)
	return k, km
}

// fails looks up a key, and wants the partKM's error.
func (k *kit) fails(peer, id string) {
	k.Helper()
	if keys, err := k.KeysByID(k.Context(), peer, id); keys != nil || !errors.Is(err, kmclient.ErrBadAnswer) {
		k.Errorf("got %v, %v, want the key manager's error", keys, err)
	}
}

func textKey(id, text string) *kmclient.Key { return kmclient.NewKey(id, []byte(text)) }

// Keys that arrived with an error are in the store, under the IDs that they came with.
// Unusable keys are not kept.
func TestArrivedWithError(t *testing.T) {
	good := textKey("a", "bytes of a good key")
	k, km := newPartKit(t, textKey("b", "00000000"), good, textKey("c", strings.Repeat("01", keystore.MaxKeySize/16+1)))
	k.fails("A", "x")
	if good.Reveal() != nil {
		t.Error("the keys are not wiped")
	}
	km.arrived = func(string) []*kmclient.Key { return []*kmclient.Key{textKey("a", "bytes of a good key")} }
	k.fails("A", "x") // again
	if got := k.get(k.another(nil), "a"); string(got[0].Reveal()) != "bytes of a good key" {
		t.Error("a different key")
	}
	for _, id := range []string{"b", "c"} {
		k.wantState(id, "")
	}
	if s := k.Stats(); s.Fetched != 1 || s.Stored != 1 {
		t.Errorf("%+v", s)
	}
}

// Keys that can't be stored wait, and are stored at the next call.
func TestArrivedWait(t *testing.T) {
	k, km := newPartKit(t)
	km.arrived = func(string) []*kmclient.Key { return []*kmclient.Key{textKey("a", "bytes of a key")} }
	k.engine.set(errDisk, false)
	k.fails("A", "x")
	if s := k.Stats(); s.Waiting != 1 || s.Fetched != 1 {
		t.Errorf("%+v", s)
	}
	k.engine.set(nil, false)
	k.fails("A", "y")
	k.get(k.another(nil), "a")
	if err := k.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// If the store was closed without waiting for keys, and they come later, they can't be
// stored; this is logged.
func TestArrivedAfterClose(t *testing.T) {
	k, km := newPartKit(t)
	asked, late := make(chan struct{}), make(chan struct{})
	key := textKey("late", "bytes of a key")
	km.arrived = func(string) []*kmclient.Key {
		close(asked)
		<-late
		return []*kmclient.Key{key}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		k.fails("A", "x")
	}()
	<-asked
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := k.Close(ctx); err == nil || !strings.Contains(err.Error(), "still being fetched and will be lost if they come: 1") {
		t.Errorf("got %v, want how many keys may be lost", err)
	}
	k.engine.set(errDisk, false)
	close(late)
	<-done
	if key.Reveal() != nil || k.Stats().Waiting != 0 || !strings.Contains(k.log.String(), "they are lost") {
		t.Errorf("%+v, log: %s", k.Stats(), k.log)
	}
}

// While Close waits for a fetch, no other is begun.
func TestNoFetchWhileClosing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t, nil)
		ids, answer := k.sent(2), make(chan struct{})
		k.km.finding = func(...string) { <-answer }
		first, closed := make(chan error, 1), make(chan error, 1)
		go func() { _, err := k.KeysByID(t.Context(), "A", ids[0]); first <- err }()
		synctest.Wait()
		go func() { closed <- k.Close(t.Context()) }()
		synctest.Wait()
		_, err := k.KeysByID(t.Context(), "A", ids[1])
		k.want(err, kmclient.ErrUnavailable, true)
		_, err = k.GetKeys(t.Context(), "A", 256, 1)
		k.want(err, kmclient.ErrUnavailable, true)
		close(answer)
		if err := errors.Join(<-first, <-closed); err != nil {
			t.Error(err)
		}
		if k.km.calls != 1 {
			t.Errorf("%d look-ups, want the one that was under way", k.km.calls)
		}
	})
}

// Without a Status, keys are asked for one at a time.
func TestNoStatusOneKeyAtATime(t *testing.T) {
	k := newKit(t, nil)
	k.km.noStatus = kmclient.ErrUnavailable
	k.get(k.Store, k.sent(3)...)
	if k.km.calls != 3 || k.km.statuses != 1 {
		t.Errorf("%d look-ups for 3 keys, %d times asked for the status; want 3 and 1", k.km.calls, k.km.statuses)
	}
}

// No more keys are asked for at a time than the key manager gives in one request, and
// each request's keys are on disk before the next request.
func TestOneRequestAtATime(t *testing.T) {
	k := newKit(t, nil)
	k.km.limit = 2
	ids := k.sent(9)
	var early []string
	k.km.finding = func(asked ...string) {
		if before := slices.Index(ids, asked[0]); len(asked) > 2 || before > 0 && k.state(ids[before-1]) == "" {
			early = append(early, asked[0])
		}
	}
	k.get(k.Store, ids[:5]...)
	k.get(k.Store, ids[5:]...)
	if k.km.calls != 5 || len(early) > 0 || k.km.statuses != 1 {
		t.Errorf("%d look-ups, %d of them too early or too large; the limit was asked for %d times", k.km.calls, len(early), k.km.statuses)
	}
}

// While a key that came can't be stored, no other is fetched.
func TestStopsWhereNothingIsStored(t *testing.T) {
	k := newKit(t, nil)
	k.km.limit = 2
	k.engine.set(errDisk, false)
	_, err := k.KeysByID(t.Context(), "A", k.sent(5)...)
	k.want(err, kmclient.ErrStore, true)
	if n := k.Stats().Waiting; k.km.calls != 1 || n != 2 {
		t.Errorf("%d look-ups, %d keys wait; want 1 and 2", k.km.calls, n)
	}
}

// A caller waits no longer than FetchTimeout. The fetch goes on, and its keys are
// stored.
func TestLateKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKit(t, func(_ *kit, o *keystore.Options) { o.FetchTimeout = time.Second })
		ids := k.sent(1)
		k.km.finding = func(...string) { time.Sleep(time.Minute) }
		start := time.Now()
		_, err := k.KeysByID(t.Context(), "A", ids...)
		k.want(err, kmclient.ErrUnavailable, true)
		if took := time.Since(start); took != time.Second {
			t.Errorf("the caller waited for %v", took)
		}
		time.Sleep(time.Hour)
		k.wantState(ids[0], kmclient.StateInUse)
		if err := k.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}
