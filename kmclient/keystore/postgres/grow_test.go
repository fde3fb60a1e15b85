package postgres_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/qkdmail/qkdmail/kmclient/keystore"
	"github.com/qkdmail/qkdmail/kmclient/keystore/internal/storetest"
	"github.com/qkdmail/qkdmail/kmclient/keystore/postgres/pgtest"
)

// The cost of a message with many key IDs and tombstones in the store, as a multiple of
// the cost with none. The stores take turns, so that other load affects all of them;
// medians are reported. This needs about 3 GB of disk space.
func BenchmarkGrown(b *testing.B) {
	const each, sessions = 200, 20 // messages per turn
	type size struct {
		claims, tombstones int
	}
	sizes := []size{{0, 0}, {1_000_000, 0}, {10_000_000, 0}, {0, 1_000_000}}
	if testing.Short() {
		sizes = []size{{0, 0}, {100_000, 0}, {0, 10_000}}
	}
	server := pgtest.Start(b)
	var stores []*keystore.Store
	for _, n := range sizes {
		m := newStore(b, openEngine(b, newSchema(b, server)))
		storetest.Messages(b, m, 200, sessions)
		schema := schemaName()
		server.Exec(fmt.Sprintf("INSERT INTO %s.claims SELECT s.n, gen_random_uuid() FROM %[1]s.scopes s, generate_series(1, %d)", schema, n.claims))
		server.Exec(fmt.Sprintf(`INSERT INTO %s.records SELECT kind, km, sae, convert_to(gen_random_uuid()::text, 'UTF8'), due+100000000+g, version, value
			FROM (SELECT * FROM %[1]s.records WHERE kind='receive' LIMIT 1) r, generate_series(1, %d) g`, schema, n.tombstones))
		stores = append(stores, m)
	}
	server.Exec("VACUUM ANALYZE")
	times := make([][]float64, len(sizes))
	for b.Loop() {
		for i, m := range stores {
			start := time.Now()
			storetest.Messages(b, m, each, sessions)
			times[i] = append(times[i], float64(time.Since(start))/each)
		}
	}
	for i, n := range sizes {
		slices.Sort(times[i])
		t := times[i][len(times[i])/2]
		if i == 0 {
			b.ReportMetric(t/1e3, "µs/message")
			continue
		}
		b.ReportMetric(t/times[0][len(times[0])/2], fmt.Sprintf("x-of-empty/%d-claims-%d-tombstones", n.claims, n.tombstones))
	}
}
