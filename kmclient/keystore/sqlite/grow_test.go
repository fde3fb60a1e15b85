package sqlite_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/google/uuid"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/keystore"
	"github.com/qkdmail/qkdmail/kmclient/keystore/sqlite"
	"github.com/qkdmail/qkdmail/kmclient/keystore/storetest"
)

// size returns how large the file is with nothing in its write-ahead log.
func size(t testing.TB, store *sqlite.Store, path string) int64 {
	t.Helper()
	if err := store.Compact(context.Background()); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

func claim(t testing.TB, m *keystore.Manager, n int) {
	t.Helper()
	for left := n; left > 0; left -= 128 {
		keys, err := m.GetKeys(context.Background(), "A", 256, min(left, 128))
		if err != nil {
			t.Fatal(err)
		}
		kmclient.WipeAll(keys)
	}
}

// What is kept for ever of a sending key is little: the package's comment says
// how much.
func TestClaimSize(t *testing.T) {
	const n = 5_000
	path := dbPath(t)
	m, store := manager(t, path, &storetest.Link{Fresh: uuid.NewString})
	before := size(t, store, path)
	claim(t, m, n)
	each := float64(size(t, store, path)-before) / n
	t.Logf("%.1f octets a claim", each)
	if each > 30 {
		t.Errorf("%.1f octets a claim, want 30 at most", each)
	}
}

// Claims of a file of version 1 are those of version 2.
func TestClaimsMigrate(t *testing.T) {
	path := dbPath(t)
	schema, err := os.ReadFile("schema1.sql")
	if err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec(fmt.Sprintf("%s; PRAGMA application_id=%d; PRAGMA user_version=1", schema, 0x716B6473)); err != nil {
		t.Fatal(err)
	}
	want := map[keystore.Name]bool{}
	for _, km := range []string{"km", "other"} {
		for _, id := range []string{"9b42e9e2-0a1b-4c2d-8e3f-0123456789ab", "9B42E9E2-0A1B-4C2D-8E3F-0123456789AB", "9b42e9e20a1b4c2d8e3f0123456789ab",
			"9b42e9e2-0a1b-4c2d-8e3f-0123456789ax", "------------------------------------", "MOCK-KEY-00000001-20251012195642"} {
			n := keystore.Name{Kind: keystore.KindSend, KM: km, SAE: "B", ID: id}
			want[n] = true
			if _, err := db.Exec("INSERT INTO records (kind, km, sae, id, due, version, value) VALUES (?, ?, ?, ?, 0, 5, x'')", n.Kind, n.KM, n.SAE, n.ID); err != nil {
				t.Fatal(err)
			}
		}
	}
	other := keystore.Name{Kind: keystore.KindReceive, KM: "km", SAE: "B", ID: "r"}
	if _, err := db.Exec("INSERT INTO records (kind, km, sae, id, due, version, value) VALUES (?, ?, ?, ?, 7, 5, x'00')", other.Kind, other.KM, other.SAE, other.ID); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	store, err := sqlite.Open(t.Context(), path, sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = store.Close() }()
	records, err := store.List(t.Context(), keystore.Name{}, 100)
	if err != nil || len(records) != len(want)+1 || records[0].Name != other {
		t.Fatalf("%v, %v", records, err)
	}
	for _, r := range records[1:] {
		if !want[r.Name] {
			t.Errorf("%v was not there", r.Name)
		}
		again := keystore.Change{New: &keystore.Record{Name: r.Name}}
		if err := store.Apply(t.Context(), again); !errors.Is(err, keystore.ErrConflict) {
			t.Errorf("%v is new again: %v", r.Name, err)
		}
		delete(want, r.Name)
	}
	if len(want) > 0 {
		t.Errorf("missing: %v", want)
	}
}
