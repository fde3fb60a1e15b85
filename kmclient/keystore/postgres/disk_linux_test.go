package postgres_test

import (
	"crypto/rand"
	"testing"

	"github.com/qkdmail/qkdmail/kmclient/keystore/internal/engine"
	"github.com/qkdmail/qkdmail/kmclient/keystore/postgres"
	"github.com/qkdmail/qkdmail/kmclient/keystore/postgres/pgtest"
)

// The server's disk is full: the error says so, nothing is half done, and the store
// works again once there is space.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	server := pgtest.Start(t)
	s := openEngine(t, newSchema(t, server))
	grow := server.SmallDisk("small", "8m")
	server.Exec("ALTER TABLE " + postgres.SchemaOf(s) + ".records SET TABLESPACE small")
	value := make([]byte, 1<<20)
	_, _ = rand.Read(value)
	fill := func(id string) error {
		r := record(id, string(value))
		return s.Apply(t.Context(), engine.Change{New: record(id+"first", "v")}, engine.Change{New: r})
	}
	for i := 0; ; i++ {
		id := string(rune('a' + i))
		err := fill(id)
		if err == nil && i < 20 {
			continue
		}
		wantRefused(t, err, "disk is full")
		if get(t, s, id+"first") != nil {
			t.Error("half of an Apply was done")
		}
		break
	}
	grow("64m")
	if err := fill("z"); err != nil {
		t.Error(err)
	}
}
