package kmtest_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/qkdmail/qkdmail/cmd/internal/kmsim"
	"github.com/qkdmail/qkdmail/cmd/internal/kmtest"
	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/etsi014"
	"github.com/qkdmail/qkdmail/kmclient/keypool"
)

// clients returns the clients of two sites.
func clients(tb testing.TB) (a, b *etsi014.Client) {
	tb.Helper()
	n := kmtest.StartKMEs(tb, kmsim.TwoSites(), kmsim.Options{}, nil)
	return n.Client("SAE_A"), n.Client("SAE_B")
}

// BenchmarkETSIGetKeys takes a 256-bit key per message: keys/s over all
// callers, and the time that a caller waits.
func BenchmarkETSIGetKeys(b *testing.B) {
	for _, pooled := range []bool{false, true} {
		for _, callers := range []int{1, 32} {
			b.Run(fmt.Sprintf("pool=%t/callers=%d", pooled, callers), func(b *testing.B) {
				client, _ := clients(b)
				km := kmclient.KeyManager(client)
				if pooled {
					pool, err := keypool.New(client, keypool.Options{})
					if err != nil {
						b.Fatal(err)
					}
					defer func() { _ = pool.Close(b.Context()) }()
					km = pool
				}
				get := func() error {
					keys, err := km.GetKeys(b.Context(), "SAE_B", 256, 1)
					kmclient.WipeAll(keys)
					return err
				}
				if err := get(); err != nil { // connects
					b.Fatal(err)
				}
				measure(b, callers, get)
			})
		}
	}
}

// BenchmarkETSIKeysByID fetches one key per message, as a receiver does.
func BenchmarkETSIKeysByID(b *testing.B) {
	for _, callers := range []int{1, 32} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			sender, receiver := clients(b)
			var ids []string
			for len(ids) < b.N+1 {
				keys, err := sender.GetKeys(b.Context(), "SAE_B", 256, min(b.N+1-len(ids), kmclient.MaxRequestKeys))
				if err != nil {
					b.Fatal(err)
				}
				for _, k := range keys {
					ids = append(ids, k.ID())
				}
			}
			var next atomic.Int64
			get := func() error {
				keys, err := receiver.KeysByID(b.Context(), "SAE_A", ids[next.Add(1)-1])
				kmclient.WipeAll(keys)
				return err
			}
			if err := get(); err != nil {
				b.Fatal(err)
			}
			measure(b, callers, get)
		})
	}
}

// measure calls get, which takes a key, b.N times from some callers.
func measure(b *testing.B, callers int, get func() error) {
	waits := make([]time.Duration, b.N)
	var next atomic.Int64
	var group sync.WaitGroup
	b.ResetTimer()
	for range callers {
		group.Go(func() {
			for i := next.Add(1) - 1; i < int64(b.N); i = next.Add(1) - 1 {
				start := time.Now()
				if err := get(); err != nil {
					b.Error(err)
					return
				}
				waits[i] = time.Since(start)
			}
		})
	}
	group.Wait()
	b.StopTimer()
	slices.Sort(waits)
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "keys/s")
	b.ReportMetric(float64(waits[b.N/2].Nanoseconds())/1e3, "p50-µs")
	b.ReportMetric(float64(waits[b.N*99/100].Nanoseconds())/1e3, "p99-µs")
}

// Both sites, each with its own KME: keys taken at one are found at the other,
// through a pool, and are then deleted.
func TestETSIBothSites(t *testing.T) {
	a, b := clients(t)
	pool, err := keypool.New(a, keypool.Options{})
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	for range 3 {
		sent, err := pool.GetKeys(ctx, "SAE_B", 256, 2)
		if err != nil {
			t.Fatal(err)
		}
		received, err := b.KeysByID(ctx, "SAE_A", sent[1].ID(), sent[0].ID())
		if err != nil || string(received[0].Reveal()) != string(sent[1].Reveal()) {
			t.Errorf("the other site: %v, %v, want the same keys", received, err)
		}
		if _, err := b.KeysByID(ctx, "SAE_A", sent[0].ID()); err == nil {
			t.Error("a key came twice")
		}
	}
	if err := pool.Close(context.WithoutCancel(ctx)); err != nil {
		t.Error(err)
	}
	if s := pool.Stats(); s.Requests != 1 || s.Served != 6 || s.Fetched != s.Served+s.Discarded {
		t.Errorf("%+v: want one request for the six keys", s)
	}
}
