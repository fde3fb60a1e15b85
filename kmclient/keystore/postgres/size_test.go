package postgres_test

import (
	"errors"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/qkdmail/qkdmail/kmclient/keystore/internal/engine"
	"github.com/qkdmail/qkdmail/kmclient/keystore/internal/storetest"
)

// A claim stays forever, and takes few bytes.
func TestClaimSize(t *testing.T) {
	server := shared(t)
	s := openEngine(t, newSchema(t, server))
	const batches, batch, most = 10, 4096, 64
	for range batches {
		changes := make([]engine.Change, batch)
		for i := range changes {
			changes[i].New = &engine.Record{Name: engine.Name{Kind: engine.Claim, KM: "km", SAE: "sae", ID: uuid.NewString()}}
		}
		if err := s.Apply(t.Context(), changes...); err != nil {
			t.Fatal(err)
		}
	}
	size := func(what string) float64 {
		n, err := strconv.ParseFloat(server.Query(fmt.Sprintf("SELECT %s('%s.claims')", what, schemaName())), 64)
		if err != nil {
			t.Fatal(err)
		}
		return n / (batches * batch)
	}
	heap, index := size("pg_relation_size"), size("pg_indexes_size")
	if heap > most {
		t.Errorf("a claim takes %.1f bytes, want at most %d", heap, most)
	}
	t.Logf("a claim takes %.1f bytes, and %.1f in the index", heap, index)
}

// Every statement finds its rows by an index, even while the tables are small: a plan
// made then stays in use when they have grown.
func TestIndexes(t *testing.T) {
	server := shared(t)
	s := openEngine(t, newSchema(t, server))
	scans := func() string {
		return server.Query("SELECT sum(seq_scan)::text FROM pg_stat_user_tables WHERE schemaname='" + schemaName() +
			"' AND relname IN ('records', 'claims', 'other_claims', 'scopes')")
	}
	m := newStore(t, s)
	storetest.Messages(t, m, 20, 2)
	server.Exec("ANALYZE") // now the planner knows how small they are
	before := scans()
	storetest.Messages(t, m, 20, 2)
	if err := m.Sweep(t.Context()); err != nil {
		t.Error(err)
	}
	put(t, s, "a")
	r := get(t, s, "a")
	claims := engine.Name{Kind: engine.Claim}
	_, err := s.Get(t.Context(), name("a"), claims, engine.Name{Kind: engine.Claim, ID: uuid.NewString()})
	_, err2 := s.List(t.Context(), engine.Name{}, 1000)
	_, err3 := s.List(t.Context(), claims, 1000)
	_, err4 := s.Due(t.Context(), "km", "B", time.Now(), 1000)
	err5 := s.Apply(t.Context(), engine.Change{Old: r, New: r}, engine.Change{New: record("b", "v")}, engine.Change{New: &engine.Record{Name: claims}})
	err6 := s.Apply(t.Context(), engine.Change{Old: r})
	if err := errors.Join(err, err2, err3, err4, err5, err6, s.Close()); err != nil { // the end of a connection makes it write its counts
		t.Fatal(err)
	}
	server.Wait("SELECT sum(idx_scan)>100 FROM pg_stat_user_tables WHERE schemaname='" + schemaName() + "'")
	if after := scans(); after != before {
		t.Errorf("%s scans of whole tables, %s before", after, before)
	}
}
