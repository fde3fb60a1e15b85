//go:build unix

package sqlite_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/qkdmail/qkdmail/kmclient/keystore"
	"github.com/qkdmail/qkdmail/kmclient/keystore/internal/engine"
	"github.com/qkdmail/qkdmail/kmclient/keystore/internal/storetest"
	"github.com/qkdmail/qkdmail/kmclient/keystore/sqlite"
)

// settled returns the two records left of a message whose key is closed, in their real
// length.
func settled(t testing.TB) (key, msg *engine.Record) {
	t.Helper()
	store, e := newStore(t, dbPath(t), &storetest.Link{})
	id := uuid.NewString()
	if err := storetest.Message(store, id); err != nil {
		t.Fatal(err)
	}
	if err := store.CloseKey(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	list, err := e.List(t.Context(), engine.Name{}, 10)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range list {
		switch r.Kind {
		case engine.Receive:
			key = r
		case engine.Message:
			msg = r
		}
	}
	return key, msg
}

// fill adds the records of n messages that were delivered and closed in the
// last two months.
func fill(t testing.TB, e *sqlite.Engine, n int) {
	t.Helper()
	key, msg := settled(t)
	like := func(r *engine.Record, id string, i int) engine.Change {
		c := *r
		c.ID, c.Value = id, make([]byte, len(r.Value))
		c.Due = time.Now().Add(time.Duration(i%60+1) * 24 * time.Hour).Truncate(time.Second)
		_, _ = rand.Read(c.Value)
		return engine.Change{New: &c}
	}
	const each = 1000
	for from := 0; from < n; from += each {
		var changes []engine.Change
		for i := range each {
			id := uuid.NewString()
			claim := engine.Name{Kind: engine.Claim, KM: key.KM, SAE: key.SAE, ID: id}
			changes = append(changes, engine.Change{New: &engine.Record{Name: claim}},
				like(key, id, i), like(msg, fmt.Sprintf("%x", storetest.Identity(id)), i))
		}
		if err := e.Apply(context.Background(), changes...); err != nil {
			t.Fatal(err)
		}
	}
}

// The cost of a message with many tombstones in the file, as a multiple of the cost
// with none. The files take turns, so that other load affects all of them; medians of
// the time and of the processor time are reported.
func BenchmarkTombstones(b *testing.B) {
	const each = 20 // messages per turn
	numbers := []int{0, 100_000, 1_000_000}
	if testing.Short() {
		numbers = numbers[:2]
	}
	var stores []*keystore.Store
	var stored float64 // a message that was delivered and closed
	for _, n := range numbers {
		path := dbPath(b)
		store, e := newStore(b, path, &storetest.Link{})
		before := size(b, e, path)
		fill(b, e, n)
		stored = float64(size(b, e, path)-before) / float64(max(n, 1))
		storetest.Messages(b, store, 100, 1)
		stores = append(stores, store)
	}
	wall, cpu := make([][]float64, len(numbers)), make([][]float64, len(numbers))
	for b.Loop() {
		for i, store := range stores {
			start, before := time.Now(), cpuTime(b)
			storetest.Messages(b, store, each, 1)
			wall[i] = append(wall[i], float64(time.Since(start))/each)
			cpu[i] = append(cpu[i], float64(cpuTime(b)-before)/each)
		}
	}
	b.ReportMetric(stored, "bytes-stored/message")
	for i, n := range numbers {
		if i == 0 {
			b.ReportMetric(median(wall[0])/1e3, "µs/message")
			b.ReportMetric(median(cpu[0])/1e3, "cpu-µs/message")
			continue
		}
		b.ReportMetric(median(wall[i])/median(wall[0]), fmt.Sprintf("x-of-empty/%d", n))
		b.ReportMetric(median(cpu[i])/median(cpu[0]), fmt.Sprintf("cpu-x-of-empty/%d", n))
	}
}

func median(values []float64) float64 {
	slices.Sort(values)
	return values[len(values)/2]
}

// The cost of a single message, and of one together with 19 others that share its
// commits.
func BenchmarkMessage(b *testing.B) {
	for _, sessions := range []int{1, 20} {
		b.Run(fmt.Sprintf("sessions=%d", sessions), func(b *testing.B) {
			store, e := newStore(b, dbPath(b), &storetest.Link{})
			b.ResetTimer()
			before, cpu := e.Commits(), cpuTime(b)
			storetest.Messages(b, store, b.N, sessions)
			b.ReportMetric(float64(e.Commits()-before)/float64(b.N), "fsyncs/op")
			b.ReportMetric(float64((cpuTime(b)-cpu).Microseconds())/float64(b.N), "cpu-µs/op")
		})
	}
}

// cpuTime returns the processor time of this process, which tells more than the clock
// on a machine with other load.
func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// The cost of claiming the IDs of 128 sending keys, in one commit.
func BenchmarkClaim(b *testing.B) {
	store, _ := newStore(b, dbPath(b), &storetest.Link{Fresh: uuid.NewString})
	for b.Loop() {
		claim(b, store, 128)
	}
}

// Twenty messages at the same time share commits, while each alone needs three. The
// file is locked until all have reached a commit, as with a slow disk.
func TestCommitsAreShared(t *testing.T) {
	const sessions = 20
	path := dbPath(t)
	store, e := newStore(t, path, &storetest.Link{})
	before := e.Commits()
	storetest.Messages(t, store, 10, 1)
	if n := e.Commits() - before; n != 30 {
		t.Errorf("%d commits for 10 messages, want 30", n)
	}
	before = e.Commits()
	ids := make([]string, sessions)
	for i := range ids {
		ids[i] = uuid.NewString()
	}
	for i, step := range []func(id string) error{
		func(id string) error { _, err := store.KeysByID(t.Context(), "A", id); return err },
		func(id string) error { return store.BindKeys(t.Context(), "A", storetest.Identity(id), 0, id) },
		func(id string) error {
			return store.RecordDelivered(t.Context(), "A", storetest.Identity(id), id, "someone@example.org")
		},
	} {
		release := lockFile(t, path)
		var all sync.WaitGroup
		for _, id := range ids {
			all.Go(func() {
				if err := step(id); err != nil {
					t.Errorf("step %d: %v", i, err)
				}
			})
		}
		time.Sleep(100 * time.Millisecond) // for them to queue up
		release()
		all.Wait()
	}
	n := e.Commits() - before
	t.Logf("%.2f commits per message with %d at a time", float64(n)/sessions, sessions)
	if n > sessions {
		t.Errorf("%d commits for %d messages, want at most one each", n, sessions)
	}
}

// How much a message writes does not depend on how many came before. Times differ too
// much between runs for a test; BenchmarkTombstones measures them.
func TestFlat(t *testing.T) {
	const each = 20
	path := dbPath(t)
	store, e := newStore(t, path, &storetest.Link{})
	cost := func() int64 {
		if err := e.Compact(t.Context()); err != nil {
			t.Fatal(err)
		}
		storetest.Messages(t, store, each, 1)
		log, err := os.Stat(path + "-wal")
		if err != nil {
			t.Fatal(err)
		}
		return log.Size() / each
	}
	cost()
	empty := cost()
	fill(t, e, 5_000)
	full := cost()
	t.Logf("a message writes %d bytes at the beginning and %d after 5,000", empty, full)
	if 2*full > 3*empty {
		t.Error("the cost grows with the number of messages")
	}
}
