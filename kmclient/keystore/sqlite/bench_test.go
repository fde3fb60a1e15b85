//go:build unix

package sqlite_test

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/keystore"
	"github.com/qkdmail/qkdmail/kmclient/keystore/sqlite"
)

// tombstonesEnv adds a number of tombstones to those of the benchmarks; a
// million takes minutes to make.
const tombstonesEnv = "KEYSTORE_BENCH_TOMBSTONES"

func tombstones() []int {
	numbers := []int{0, 100_000}
	if n, err := strconv.Atoi(os.Getenv(tombstonesEnv)); err == nil {
		numbers = append(numbers, n)
	}
	return numbers
}

// message does all that one message costs: three commits.
func message(m *keystore.Manager, id string) error {
	keys, err := m.KeysByID(context.Background(), "A", id)
	if err != nil {
		return err
	}
	kmclient.WipeAll(keys)
	if err := m.BindKeys(context.Background(), "A", identity(id), 0, id); err != nil {
		return err
	}
	return m.RecordDelivered(context.Background(), id, "someone@example.org")
}

// withTombstones returns a file with n tombstones, and as many messages that
// were delivered.
func withTombstones(b *testing.B, n int, ids *counter) (*keystore.Manager, *sqlite.Store) {
	b.Helper()
	var ahead atomic.Int64
	path := dbPath(b)
	m, store, err := open(path, &linkKM{}, func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) })
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = store.Close() })
	var all sync.WaitGroup
	for w := range 100 {
		all.Go(func() {
			for i := w; i < n; i += 100 {
				if err := message(m, ids.id()); err != nil {
					b.Error(err)
				}
			}
		})
	}
	all.Wait()
	ahead.Store(int64(8 * 24 * time.Hour))
	for n > 0 && int(m.Stats().Closed) < n {
		if err := m.Sweep(context.Background()); err != nil {
			b.Fatal(err)
		}
	}
	return m, store
}

// What one message costs: its key stored, bound, delivered.
func BenchmarkMessage(b *testing.B) {
	for _, n := range tombstones() {
		ids := &counter{}
		m, store := withTombstones(b, n, ids)
		for _, sessions := range []int{1, 20} {
			b.Run(fmt.Sprintf("tombstones=%d/sessions=%d", n, sessions), func(b *testing.B) {
				before, cpu := store.Commits(), cpuTime(b)
				var left atomic.Int64
				left.Store(int64(b.N))
				var all sync.WaitGroup
				for range sessions {
					all.Go(func() {
						for left.Add(-1) >= 0 {
							if err := message(m, ids.id()); err != nil {
								b.Error(err)
							}
						}
					})
				}
				all.Wait()
				b.ReportMetric(float64(store.Commits()-before)/float64(b.N), "fsyncs/op")
				b.ReportMetric(float64((cpuTime(b)-cpu).Microseconds())/float64(b.N), "cpu-µs/op")
			})
		}
	}
}

// cpuTime returns what this process has used, which says more than the clock on
// a machine that others use as well.
func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// A batch of 128 sending keys' IDs, in one commit.
func BenchmarkClaim(b *testing.B) {
	ids := &counter{}
	m, _ := manager(b, dbPath(b), &linkKM{fresh: ids.id})
	for b.Loop() {
		keys, err := m.GetKeys(context.Background(), "A", 256, 128)
		if err != nil {
			b.Fatal(err)
		}
		kmclient.WipeAll(keys)
	}
}

// What a message costs does not depend on how many there were. Times differ too
// much from run to run for a test, so this measures what is written.
func TestFlat(t *testing.T) {
	ids := &counter{}
	path := dbPath(t)
	m, store := manager(t, path, &linkKM{})
	cost := func() int64 {
		if err := store.Compact(t.Context()); err != nil {
			t.Fatal(err)
		}
		for range 20 {
			if err := message(m, ids.id()); err != nil {
				t.Fatal(err)
			}
		}
		log, err := os.Stat(path + "-wal")
		if err != nil {
			t.Fatal(err)
		}
		return log.Size() / 20
	}
	cost()
	empty := cost()
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			for range 40 {
				if err := message(m, ids.id()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	full := cost()
	t.Logf("a message writes %d octets at the beginning and %d after 2000", empty, full)
	if 2*full > 3*empty {
		t.Error("that is not flat")
	}
}
