package postgres_test

import (
	"fmt"
	"strconv"
	"testing"

	"github.com/google/uuid"

	"github.com/qkdmail/qkdmail/kmclient/keystore"
)

// A claim is there for ever, and takes few octets.
func TestClaimSize(t *testing.T) {
	server := shared(t)
	s := openStore(t, newSchema(t, server))
	const batches, batch, most = 10, 4096, 64
	for range batches {
		changes := make([]keystore.Change, batch)
		for i := range changes {
			changes[i].New = &keystore.Record{Name: keystore.Name{Kind: keystore.KindClaim, KM: "km", SAE: "sae", ID: uuid.NewString()}}
		}
		if err := s.Apply(t.Context(), changes...); err != nil {
			t.Fatal(err)
		}
	}
	octets := func(what string) float64 {
		n, err := strconv.ParseFloat(server.Query(fmt.Sprintf("SELECT %s('%s.claims')", what, schemaName())), 64)
		if err != nil {
			t.Fatal(err)
		}
		return n / (batches * batch)
	}
	heap, index := octets("pg_relation_size"), octets("pg_indexes_size")
	if heap > most {
		t.Errorf("a claim takes %.1f octets, want %d at most", heap, most)
	}
	t.Logf("a claim takes %.1f octets, and %.1f of the index", heap, index)
}
