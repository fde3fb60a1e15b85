package etcdstore_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/keystore"
	"github.com/qkdmail/qkdmail/kmclient/keystore/etcdstore"
	"github.com/qkdmail/qkdmail/kmclient/keystore/etcdstore/etcdtest"
)

// A ledger is what a writer knows: what it has written and what it may have.
type ledger struct {
	sure    []string
	unsure  map[string]bool
	counted int // increments of the counter that were acknowledged
	maybe   int // and those of which it is not known
}

// write makes records and increments the counter, until done is closed.
func (l *ledger) write(t *testing.T, s keystore.Store, who int, done chan struct{}) {
	l.unsure = map[string]bool{}
	for i := 0; ; i++ {
		select {
		case <-done:
			return
		default:
		}
		id := fmt.Sprintf("%d-%d", who, i)
		changes := []keystore.Change{{New: record(id, "v")}}
		old, err := s.Get(context.Background(), name("counter"))
		if err != nil {
			wantTemporary(t, err)
			continue
		}
		counts := i%3 == 0
		if counts {
			changes = append(changes, keystore.Change{Old: old[0], New: record("counter", string(old[0].Value)+"x")})
		}
		switch err := s.Apply(context.Background(), changes...); {
		case err == nil:
			l.sure = append(l.sure, id)
			if counts {
				l.counted++
			}
		case errors.Is(err, keystore.ErrConflict):
			if !counts {
				t.Errorf("the new record %s meets a conflict: it was written twice", id)
			}
		default:
			wantTemporary(t, err)
			l.unsure[id] = true
			if counts {
				l.maybe++
			}
		}
	}
}

func wantTemporary(t *testing.T, err error) {
	t.Helper()
	if !errors.Is(err, kmclient.ErrStore) {
		t.Errorf("got %v, want an ErrStore", err)
	}
}

// The leader is killed, again and again, while several write: what was
// acknowledged is there, nothing was done twice, and no half of an Apply.
func TestLeaderKilled(t *testing.T) {
	const writers, kills = 6, 3
	c := etcdtest.Start(t, etcdtest.Options{Nodes: 3, TLS: true})
	var stores []keystore.Store
	for range 2 {
		stores = append(stores, openStore(t, options(c, "")))
	}
	put(t, stores[0], record("counter", ""))
	done := make(chan struct{})
	ledgers := make([]ledger, writers)
	var all sync.WaitGroup
	for w := range writers {
		all.Go(func() { ledgers[w].write(t, stores[w%len(stores)], w, done) })
	}
	for range kills {
		time.Sleep(300 * time.Millisecond) // for work to be under way
		leader := c.Leader()
		c.Kill(leader)
		time.Sleep(2 * time.Second) // for the others to find a new one
		c.Restart(leader)
	}
	close(done)
	all.Wait()
	checkLedgers(t, stores[0], ledgers)
}

func checkLedgers(t *testing.T, s keystore.Store, ledgers []ledger) {
	t.Helper()
	there := map[string]int{}
	for after := (keystore.Name{}); ; {
		some, err := s.List(t.Context(), after, 1000)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range some {
			there[r.ID] = len(r.Value)
			after = r.Name
		}
		if len(some) < 1000 {
			break
		}
	}
	count := there["counter"]
	delete(there, "counter")
	sure, unsure, counted, maybe := 0, 0, 0, 0
	for _, l := range ledgers {
		for _, id := range l.sure {
			if _, ok := there[id]; !ok {
				t.Errorf("%s was acknowledged and is not there", id)
			}
			delete(there, id)
		}
		for id := range l.unsure {
			delete(there, id)
		}
		sure, unsure = sure+len(l.sure), unsure+len(l.unsure)
		counted, maybe = counted+l.counted, maybe+l.maybe
	}
	for id := range there {
		t.Errorf("%s was refused and is there", id)
	}
	if count < counted || count > counted+maybe {
		t.Errorf("the counter is %d, with %d increments acknowledged and %d unknown", count, counted, maybe)
	}
	t.Logf("%d changes acknowledged, %d unknown; the counter is %d, with %d acknowledged and %d unknown", sure, unsure, count, counted, maybe)
	if sure < 100 {
		t.Error("too little was done for this to tell anything")
	}
}

// Without a quorum every call ends within its time, and says why; with it the
// store works again.
func TestQuorum(t *testing.T) {
	t.Parallel()
	c := etcdtest.Start(t, etcdtest.Options{Nodes: 3})
	o := options(c, "")
	o.Timeout = 2 * time.Second
	s := openStore(t, o)
	put(t, s, record("a", "1"))
	c.Kill(0)
	c.Kill(1)
	for name, call := range map[string]func(context.Context) error{
		"Get":     func(ctx context.Context) error { return second(s.Get(ctx, name("a"))) },
		"Apply":   func(ctx context.Context) error { return s.Apply(ctx, keystore.Change{New: record("b", "1")}) },
		"List":    func(ctx context.Context) error { return second(s.List(ctx, keystore.Name{}, 10)) },
		"Due":     func(ctx context.Context) error { return second(s.Due(ctx, "km", "sae", time.Now(), 10)) },
		"Compact": s.Compact,
		"Open":    func(ctx context.Context) error { return second(etcdstore.Open(ctx, o)) },
	} {
		err := call(context.Background())
		t.Logf("%s: %v", name, err)
		if !errors.Is(err, kmclient.ErrStore) || !strings.Contains(err.Error(), o.Endpoints[2]) {
			t.Errorf("%s: %v, want an ErrStore that names the endpoints", name, err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		if err := call(ctx); !errors.Is(err, kmclient.ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v, want an ErrUnavailable of the caller's context", name, err)
		}
		cancel()
	}
	c.Restart(0)
	if r := get(t, s, "a"); r == nil || string(r.Value) != "1" {
		t.Errorf("after that: %v", r)
	}
	err := s.Apply(t.Context(), keystore.Change{New: record("b", "1")})
	if err != nil && !errors.Is(err, keystore.ErrConflict) { // the one without an answer may have been made
		t.Error(err)
	}
	put(t, s, record("c", "1"))
}

// When the space quota is used up, that is said; deleting still works, and once
// there is room so does the rest.
func TestNoSpace(t *testing.T) {
	t.Parallel()
	c := etcdtest.Start(t, etcdtest.Options{Args: []string{"--quota-backend-bytes=2000000"}})
	s := openStore(t, options(c, ""))
	var err error
	n := 0
	for ; err == nil && n < 100; n++ {
		err = s.Apply(t.Context(), keystore.Change{New: record(fmt.Sprint(n), strings.Repeat("v", 100_000))})
	}
	n--
	if !errors.Is(err, kmclient.ErrStore) || !strings.Contains(err.Error(), "space quota is used up") {
		t.Fatalf("after %d records: %v", n, err)
	}
	t.Log(err)
	for i := range n - 1 {
		if err := s.Apply(t.Context(), keystore.Change{Old: get(t, s, fmt.Sprint(i))}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	admin := c.Client()
	if _, err := admin.Defragment(t.Context(), c.Endpoints()[0]); err != nil {
		t.Fatal(err)
	}
	if _, err := admin.AlarmDisarm(t.Context(), &clientv3.AlarmMember{}); err != nil {
		t.Fatal(err)
	}
	put(t, s, record("new", strings.Repeat("v", 100_000)))
	if get(t, s, fmt.Sprint(n-1)) == nil || get(t, s, "new") == nil {
		t.Error("a record is gone")
	}
}

// What was deleted and overwritten can't be read after Compact at any revision,
// and what is there can.
func TestCompact(t *testing.T) {
	t.Parallel()
	c := etcdtest.Start(t, etcdtest.Options{})
	s := openStore(t, options(c, "/p"))
	put(t, s, record("gone", "secret"))
	put(t, s, record("changed", "secret"))
	gone, changed := get(t, s, "gone"), get(t, s, "changed")
	if err := s.Apply(t.Context(), keystore.Change{Old: gone}, keystore.Change{Old: changed, New: record("changed", "new")}); err != nil {
		t.Fatal(err)
	}
	raw := c.Client()
	for id, r := range map[string]*keystore.Record{"gone": gone, "changed": changed} {
		key := "/p/r\x00receive\x00km\x00sae\x00" + id
		old, err := raw.Get(t.Context(), key, clientv3.WithRev(r.Version))
		if err != nil || len(old.Kvs) != 1 || !strings.Contains(string(old.Kvs[0].Value), "secret") {
			t.Errorf("%s, before: %v, %v", id, old, err)
		}
	}
	for range 2 { // the second has nothing to do
		if err := s.Compact(t.Context()); err != nil {
			t.Error(err)
		}
	}
	now, err := raw.Get(t.Context(), "x")
	if err != nil {
		t.Fatal(err)
	}
	for revision := int64(1); revision <= now.Header.Revision; revision++ {
		all, err := raw.Get(t.Context(), "\x00", clientv3.WithFromKey(), clientv3.WithRev(revision))
		if revision < now.Header.Revision {
			if !errors.Is(err, rpctypes.ErrCompacted) {
				t.Errorf("revision %d: %v", revision, err)
			}
			continue
		}
		if err != nil || len(all.Kvs) != 1 || strings.Contains(all.Kvs[0].String(), "secret") {
			t.Errorf("the present: %v, %v", all, err)
		}
	}
	if r := get(t, s, "changed"); r == nil || string(r.Value) != "new" {
		t.Errorf("what is there: %v", r)
	}
}

// Endpoints of two clusters, each of which would let a key open a message, are
// noticed.
func TestTwoClusters(t *testing.T) {
	t.Parallel()
	a, b := etcdtest.Start(t, etcdtest.Options{}), etcdtest.Start(t, etcdtest.Options{})
	o := options(a, "")
	o.Endpoints = append(o.Endpoints, b.Endpoints()...)
	s, err := etcdstore.Open(t.Context(), o)
	for range 20 {
		if err == nil {
			_, err = s.Get(t.Context(), name("a"))
		}
	}
	if !errors.Is(err, kmclient.ErrStore) || !strings.Contains(err.Error(), "name the members of one cluster only") {
		t.Errorf("got %v", err)
	}
}

// The keys of others in the range of the store don't stop the rest.
func TestMeddled(t *testing.T) {
	t.Parallel()
	c := etcdtest.Start(t, etcdtest.Options{})
	s := openStore(t, options(c, "/p"))
	r := record("right", "v")
	r.Due = time.Unix(1000, 0)
	put(t, s, r)
	put(t, s, record("later", "v"))
	raw := c.Client()
	const due = "/p/d\x00km\x00sae\x00\x80\x00\x00\x00\x00\x00\x00"
	for _, key := range []string{due + "\x01receive\x00no such", due + "\x01receive\x00later", due + "\x01odd", due[:10] + "km\x00sae\x00x"} {
		if _, err := raw.Put(t.Context(), key, ""); err != nil {
			t.Fatal(err)
		}
	}
	for _, limit := range []int{1, 10} {
		got, err := s.Due(t.Context(), "km", "sae", time.Now(), limit)
		if err != nil || len(got) != 1 || got[0].ID != "right" {
			t.Errorf("limit %d: %v, %v", limit, got, err)
		}
	}
	if _, err := raw.Put(t.Context(), "/p/r\x00receive\x00km\x00sae\x00odd", "odd"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get(t.Context(), name("odd")); !errors.Is(err, kmclient.ErrStore) || !strings.Contains(err.Error(), `"odd"`) {
		t.Errorf("a record of somebody else: %v", err)
	}
}
