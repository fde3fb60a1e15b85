package keystore_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/keystore"
	"github.com/qkdmail/qkdmail/kmclient/keystore/internal/engine"
)

const day = 24 * time.Hour

func closing(p keystore.Policy) func(*kit, *keystore.Options) {
	return func(_ *kit, o *keystore.Options) { o.Close = p }
}

// The IDs of sending keys are claimed in one commit, before use and forever.
func TestClaim(t *testing.T) {
	k := newKit(t, nil)
	before := k.engine.applies()
	keys, err := k.GetKeys(t.Context(), "A", 256, 10)
	if err != nil || len(keys) != 10 || k.engine.applies() != before+1 {
		t.Fatalf("%d keys, %d commits, %v", len(keys), k.engine.applies()-before, err)
	}
	k.clock.add(10 * 365 * day)
	k.sweep(k.Store)
	k.km.next = []string{"fresh", strings.ToUpper(keys[7].ID())}
	again, err := k.another(nil).GetKeys(t.Context(), "A", 256, 3)
	k.want(err, keystore.ErrReused, true)
	if again != nil || !strings.Contains(k.log.String(), "alarm=reused") || strings.Count(strings.ToLower(k.log.String()), keys[7].ID()) != 1 {
		t.Errorf("%v, log: %s", again, k.log)
	}
	if _, err = k.GetKeys(t.Context(), "A", 256, 40); err != nil { // in several commits
		t.Error(err)
	}
	k.engine.set(errDisk, false)
	m := k.another(nil)
	k.engine.set(errDisk, false)
	_, err = m.GetKeys(t.Context(), "A", 256, 1)
	k.want(err, kmclient.ErrStore, true)
	if s := k.Stats(); s.Claimed != 50 {
		t.Errorf("%+v", s)
	}
	made := len(k.km.keys) // no more are fetched while keys can't be used
	_, err = m.GetKeys(t.Context(), "A", 256, 1)
	k.want(err, kmclient.ErrStore, true)
	if len(k.km.keys) != made {
		t.Error("keys were fetched in vain")
	}
	for range 2 {
		k.engine.set(nil, false)
		if _, err = m.GetKeys(t.Context(), "A", 256, 1); err != nil {
			t.Error(err)
		}
		k.engine.set(errDisk, false)
		_, err = m.GetKeys(t.Context(), "A", 256, 1)
		k.want(err, kmclient.ErrStore, true)
	}
}

// The bytes of sending keys are nowhere in the store.
func TestSendingKeysNotStored(t *testing.T) {
	k := newKit(t, nil)
	if _, err := k.GetKeys(t.Context(), "A", 256, 5); err != nil {
		t.Fatal(err)
	}
	records, err := k.mem.Open(nil).List(t.Context(), engine.Name{Kind: engine.Claim}, 100)
	n := 0
	for _, r := range records {
		if r.Kind == engine.Claim {
			n++
			if len(r.Value) != 0 || !r.Due.IsZero() {
				t.Errorf("%v has a value or a date", r.Name)
			}
		}
	}
	if err != nil || n != 5 {
		t.Errorf("%d claims (%v)", n, err)
	}
}

func TestDelivered(t *testing.T) {
	k := newKit(t, nil)
	ids := k.sent(3)
	k.get(k.Store, ids...)
	k.want(k.RecordDelivered(t.Context(), "A", id("message"), ids[0], "a@x"), kmclient.ErrBadRequest, false)
	k.want(k.RecordDelivered(t.Context(), "A", id("message"), "unknown", "a@x"), kmclient.ErrKeyNotFound, false)
	k.bind(k.Store, "message", ids[:2]...)
	k.bind(k.Store, "another", ids[2])
	has := func(m *keystore.Store, id string, want ...bool) {
		t.Helper()
		got, err := m.Delivered(t.Context(), "A", k.message(id), id, "a@x.example", "b@x.example", "A@x.example")
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%v, %v, want %v", got, err, want)
		}
	}
	has(k.Store, ids[0], false, false, false)
	has(k.Store, "unknown", false, false, false)
	k.deliver(k.Store, ids[0], "a@X.example")
	has(k.Store, ids[0], true, false, false)
	has(k.Store, ids[1], true, false, false) // another key of the same message
	has(k.Store, ids[2], false, false, false)
	k.deliver(k.another(nil), ids[1], "a@x.example", "b@x.example", "b@x.example")
	has(k.Store, ids[0], true, true, false)
	info, err := k.show(k.Store, ids[0])
	if err != nil || info.Recipients != 2 || !info.Delivered.Equal(k.clock.Now()) || len(info.Message) != 64 {
		t.Errorf("%+v, %v", info, err)
	}
}

// Deliveries of one message that end at the same time are all recorded.
func TestDeliveredRace(t *testing.T) {
	k := newKit(t, nil)
	other := k.another(nil)
	ids := k.sent(1)
	k.get(k.Store, ids...)
	k.bind(k.Store, "message", ids...)
	var wg sync.WaitGroup
	for i := range 60 {
		wg.Go(func() {
			m := []*keystore.Store{k.Store, other}[i%2]
			if err := m.RecordDelivered(t.Context(), "A", id("message"), ids[0], fmt.Sprint(i)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if info, err := k.show(k.Store, ids[0]); err != nil || info.Recipients != 60 {
		t.Errorf("%d recorded, %v", info.Recipients, err)
	}
}

// The life of keys under the default policy.
func TestCloseAfter(t *testing.T) {
	k := newKit(t, nil)
	ids := k.sent(4)
	k.get(k.Store, ids...)
	k.bind(k.Store, "delivered", ids[:2]...)
	k.bind(k.Store, "waiting", ids[2])
	k.clock.add(day)
	k.deliver(k.Store, ids[0], "a@x")
	k.clock.add(6 * day)
	k.sweep(k.Store)
	k.wantState(ids[0], kmclient.StateUsed)
	k.clock.add(day + time.Minute)
	k.sweep(k.Store)
	k.wantState(ids[0], kmclient.StateClosed)
	k.wantState(ids[1], kmclient.StateClosed)

	_, err := k.KeysByID(t.Context(), "A", ids[1])
	k.want(err, keystore.ErrClosed, false)
	k.want(k.BindKeys(t.Context(), "A", id("delivered"), 0, ids[0]), keystore.ErrClosed, false)
	for n, rcpts := range [][]string{{"a@x"}, {"a@x", "b@x"}} { // the second is an alarm
		if has, err := k.Delivered(t.Context(), "A", id("delivered"), ids[0], rcpts...); err != nil || !has[0] || n == 1 && has[1] {
			t.Errorf("a repeat is not recognised: %v, %v", has, err)
		}
		if got := strings.Count(k.log.String(), "alarm=closed"); got != n {
			t.Errorf("%v: %d alarms, want %d", rcpts, got, n)
		}
	}
	k.clock.add(59 * day)
	k.sweep(k.Store)
	k.wantState(ids[0], kmclient.StateClosed)
	k.clock.add(2 * day)
	k.sweep(k.Store)
	k.wantState(ids[0], "")
	k.wantState(ids[2], kmclient.StateUsed) // never delivered, and still there
	k.wantState(ids[3], kmclient.StateInUse)
	k.clock.add(30 * day)
	k.sweep(k.Store)
	records, err := k.mem.Open(nil).List(t.Context(), engine.Name{Kind: engine.Message}, 10)
	if err != nil || len(records) != 3 || records[0].Kind == engine.Message { // two keys, and the store's own
		t.Errorf("left: %v, %v", records, err)
	}
	if s := k.Stats(); s.Closed != 2 || s.Tombstones != 2 || s.ClosedRefused != 1 || s.ClosedAtKM != 0 || len(k.km.closed) != 0 {
		t.Errorf("%+v", s)
	}
}

// A late delivery, long after the first verification, is noticed.
func TestLateDelivery(t *testing.T) {
	k := newKit(t, closing(keystore.After(0)))
	ids := k.sent(2)
	k.get(k.Store, ids...)
	k.bind(k.Store, "message", ids...)
	for range 4 * 24 {
		k.clock.add(time.Hour)
		k.sweep(k.Store)
	}
	k.wantState(ids[1], kmclient.StateUsed)
	k.deliver(k.Store, ids[0], "a@x")
	k.clock.add(day + time.Hour)
	k.sweep(k.Store)
	k.wantState(ids[0], kmclient.StateClosed)
	k.wantState(ids[1], kmclient.StateClosed)
}

func TestNeverAndUndelivered(t *testing.T) {
	never := newKit(t, closing(keystore.Never()))
	drop := newKit(t, func(_ *kit, o *keystore.Options) { o.Undelivered = 40 * day })
	for _, k := range []*kit{never, drop} {
		ids := k.sent(3)
		k.get(k.Store, ids...)
		k.bind(k.Store, "delivered", ids[0])
		k.bind(k.Store, "not", ids[1])
		k.deliver(k.Store, ids[0], "a@x")
		k.clock.add(39 * day)
		k.sweep(k.Store)
		k.wantState(ids[2], kmclient.StateInUse)
		k.wantState(ids[1], kmclient.StateUsed)
		k.clock.add(9 * day)
		k.sweep(k.Store)
		want := kmclient.StateClosed
		if k == never {
			want = kmclient.StateUsed
		}
		k.wantState(ids[0], want)
		k.wantState(ids[1], want)
		if k == drop {
			k.wantState(ids[2], kmclient.StateClosed)
		}
	}
}

// A changed policy also applies to existing keys.
func TestPolicyChanged(t *testing.T) {
	k := newKit(t, closing(keystore.Never()))
	ids := k.sent(1)
	k.get(k.Store, ids...)
	k.bind(k.Store, "m", ids...)
	k.deliver(k.Store, ids[0], "a@x")
	k.clock.add(31 * day)
	k.sweep(k.another(closing(keystore.After(0))))
	k.wantState(ids[0], kmclient.StateClosed)
}

// At a key manager that keeps keys, they are closed as soon as possible.
func TestCloseAtKM(t *testing.T) {
	k := newKit(t, closing(keystore.After(0)))
	k.km.keeps = true
	ids := k.sent(3)
	k.get(k.Store, ids...)
	k.bind(k.Store, "m", ids[:2]...)
	k.deliver(k.Store, ids[0], "a@x")
	k.km.failing = &kmclient.Error{Op: "close key", Err: kmclient.ErrUnavailable}
	k.clock.add(2 * time.Minute)
	k.sweep(k.Store)
	k.wantState(ids[0], kmclient.StateClosed)
	if s := k.Stats(); len(k.km.closed) != 0 || s.Closed != 2 || s.ClosedAtKM != 0 {
		t.Errorf("%v, %+v", k.km.closed, s)
	}
	for range 2 { // the second only tells the key manager again
		k.want(k.CloseKey(t.Context(), ids[2]), kmclient.ErrUnavailable, false)
		k.wantState(ids[2], kmclient.StateClosed)
	}
	k.km.failing = nil
	k.clock.add(2 * time.Hour)
	k.sweep(k.Store)
	if s := k.Stats(); len(k.km.closed) != 3 || s.Closed != 3 || s.ClosedAtKM != 3 {
		t.Errorf("%v, %+v", k.km.closed, s)
	}
	k.sweep(k.Store)
	if len(k.km.closed) != 3 {
		t.Error("told twice")
	}
}

func TestCloseKey(t *testing.T) {
	for _, keeps := range []bool{false, true} {
		k := newKit(t, nil)
		k.km.keeps = keeps
		ids := k.sent(2)
		k.get(k.Store, ids[0])
		if err := k.CloseKey(t.Context(), ids[0]); err != nil {
			t.Error(err)
		}
		k.want(k.CloseKey(t.Context(), ids[0]), keystore.ErrClosed, false)
		if err := k.CloseKey(t.Context(), ids[1]); err != nil { // a key that is not here
			t.Error(err)
		}
		if want := map[bool][]string{false: {ids[1]}, true: ids}[keeps]; !slices.Equal(k.km.closed, want) {
			t.Errorf("%v, want %v", k.km.closed, want)
		}
	}
}

// A clock that goes back, or far ahead and back again, does not close a key in use.
func TestClockSteps(t *testing.T) {
	k := newKit(t, nil)
	ids := k.sent(3)
	k.get(k.Store, ids...)
	k.bind(k.Store, "m", ids[0])
	k.clock.add(-20 * 365 * day)
	k.sweep(k.Store)
	k.bind(k.Store, "n", ids[1])
	k.get(k.Store, ids...)
	k.clock.add(60 * 365 * day)
	k.sweep(k.Store)
	k.clock.add(-40 * 365 * day)
	k.get(k.Store, ids...)
	k.deliver(k.Store, ids[0], "a@x")
	k.sweep(k.Store)
	k.wantState(ids[0], kmclient.StateUsed)
}

// Many records in many pages, and two sweeps at the same time.
func TestSweepMany(t *testing.T) {
	k := newKit(t, closing(keystore.After(0)))
	other := k.another(closing(keystore.After(0)))
	ids := k.sent(1000)
	for part := range slices.Chunk(ids, 100) {
		k.get(k.Store, part...)
		k.bind(k.Store, part[0], part...)
		k.deliver(k.Store, part[0], "a@x")
	}
	k.clock.add(time.Hour)
	var wg sync.WaitGroup
	for _, m := range []*keystore.Store{k.Store, other} {
		wg.Go(func() { k.sweep(m) })
	}
	wg.Wait()
	n := 0
	for info, err := range k.List(t.Context()) {
		if err != nil || info.State != kmclient.StateClosed {
			t.Fatal(info, err)
		}
		n++
	}
	if infos, err := k.ListKeys(t.Context()); n != 1000 || err != nil || len(infos) != 0 {
		t.Errorf("%d tombstones, %d keys, %v", n, len(infos), err)
	}
}

// A damaged record is logged, and the others are swept and listed.
func TestDamaged(t *testing.T) {
	k := newKit(t, closing(keystore.After(0)))
	ids := k.sent(3)
	k.get(k.Store, ids...)
	k.bind(k.Store, "m", ids...)
	k.deliver(k.Store, ids[0], "a@x")
	name := engine.Name{Kind: engine.Receive, KM: "km", SAE: "B", ID: ids[1]}
	store := k.mem.Open(nil)
	records, err := store.Get(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	bad := *records[0]
	bad.Value = slices.Clone(bad.Value)
	bad.Value[len(bad.Value)-1] ^= 1
	if err := store.Apply(t.Context(), engine.Change{Old: records[0], New: &bad}); err != nil {
		t.Fatal(err)
	}
	_, err = k.KeysByID(t.Context(), "A", ids[1])
	k.want(err, keystore.ErrRecord, true)
	k.clock.add(time.Hour)
	k.sweep(k.Store)
	k.wantState(ids[0], kmclient.StateClosed)
	k.wantState(ids[2], kmclient.StateClosed)
	seen, failed := 0, 0
	for info, err := range k.List(t.Context()) {
		if seen++; errors.Is(err, keystore.ErrRecord) && info.ID == ids[1] {
			failed++
		}
	}
	r, err := k.Check(t.Context())
	if seen != 3 || failed != 1 || sealed(r) != 3 || err != nil || r.Damaged != 1 || r.Damages[0].ID != name.ID {
		t.Errorf("%d listed, %d damaged, check: %+v, %v", seen, failed, r, err)
	}
}
