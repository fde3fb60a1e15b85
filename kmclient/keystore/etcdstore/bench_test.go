package etcdstore_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/qkdmail/qkdmail/kmclient/keystore"
	"github.com/qkdmail/qkdmail/kmclient/keystore/etcdstore/etcdtest"
	"github.com/qkdmail/qkdmail/kmclient/keystore/storetest"
)

// tombstonesEnv adds a number of tombstones to those of the benchmarks, as with
// keystore/sqlite; a hundred thousand takes minutes to make.
const tombstonesEnv = "KEYSTORE_BENCH_TOMBSTONES"

func tombstones() []int {
	numbers := []int{0, 10_000}
	if n, err := strconv.Atoi(os.Getenv(tombstonesEnv)); err == nil {
		numbers = append(numbers, n)
	}
	return numbers
}

// withTombstones returns a store in a cluster of one node with n tombstones, and
// as many messages that were delivered, and how many octets each takes on disk.
func withTombstones(b *testing.B, n int) (m *keystore.Manager, size float64) {
	b.Helper()
	c := etcdtest.Start(b, etcdtest.Options{Args: []string{"--quota-backend-bytes=8000000000"}})
	var ahead atomic.Int64
	s := openStore(b, options(c, ""))
	m, err := manager(s, filepath.Join(b.TempDir(), "store.key"), func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) })
	if err != nil {
		b.Fatal(err)
	}
	storetest.Messages(b, m, n, 100)
	ahead.Store(int64(8 * 24 * time.Hour))
	for n > 0 && int(m.Stats().Closed) < n {
		if err := m.Sweep(context.Background()); err != nil {
			b.Fatal(err)
		}
	}
	if n == 0 {
		return m, 0
	}
	return m, settle(b, c) / float64(n)
}

// settle waits until a node has given up all that was overwritten, which would
// go on meanwhile, and returns the size of its file.
func settle(b *testing.B, c *etcdtest.Cluster) float64 {
	b.Helper()
	admin := c.Client()
	last, err := admin.Put(b.Context(), "settle", "")
	if err != nil {
		b.Fatal(err)
	}
	if _, err := admin.Compact(b.Context(), last.Header.Revision, clientv3.WithCompactPhysical()); err != nil {
		b.Fatal(err)
	}
	if _, err := admin.Defragment(b.Context(), c.Endpoints()[0]); err != nil {
		b.Fatal(err)
	}
	status, err := admin.Status(b.Context(), c.Endpoints()[0])
	if err != nil {
		b.Fatal(err)
	}
	return float64(status.DbSize)
}

// What one message costs: its key stored, bound, delivered.
func BenchmarkMessage(b *testing.B) {
	for _, n := range tombstones() {
		b.Run(fmt.Sprintf("tombstones=%d", n), func(b *testing.B) {
			m, size := withTombstones(b, n)
			for _, sessions := range []int{1, 20} {
				b.Run(fmt.Sprintf("sessions=%d", sessions), func(b *testing.B) {
					storetest.Messages(b, m, b.N, sessions)
					b.ReportMetric(size, "octets/tombstone")
				})
			}
		})
	}
}
