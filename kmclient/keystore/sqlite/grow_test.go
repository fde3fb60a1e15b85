package sqlite_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/keystore"
	"github.com/qkdmail/qkdmail/kmclient/keystore/internal/engine"
	"github.com/qkdmail/qkdmail/kmclient/keystore/internal/storetest"
	"github.com/qkdmail/qkdmail/kmclient/keystore/sqlite"
)

// size returns the size of the file with nothing in its write-ahead log.
func size(t testing.TB, e *sqlite.Engine, path string) int64 {
	t.Helper()
	if err := e.Compact(context.Background()); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

func claim(t testing.TB, store *keystore.Store, n int) {
	t.Helper()
	for left := n; left > 0; left -= 128 {
		keys, err := store.GetKeys(context.Background(), "A", 256, min(left, 128))
		if err != nil {
			t.Fatal(err)
		}
		kmclient.WipeAll(keys)
	}
}

// Little is kept about a key forever: the package comment has the number.
func TestClaimSize(t *testing.T) {
	const n = 5_000
	made := 0
	for name, fresh := range map[string]func() string{
		"UUIDs": uuid.NewString,
		"as the mock's": func() string {
			made++
			return fmt.Sprintf("MOCK-KEY-%08d-20251012195642", made)
		},
	} {
		path := dbPath(t)
		store, e := newStore(t, path, &storetest.Link{Fresh: fresh})
		before := size(t, e, path)
		claim(t, store, n)
		each := float64(size(t, e, path)-before) / n
		t.Logf("%s: %.1f bytes per claim", name, each)
		if each > 30 {
			t.Errorf("%s: %.1f bytes per claim, want at most 30", name, each)
		}
	}
}

// As many keys as one call may ask for are stored in one commit, with their claims.
func TestManyKeysInOneCommit(t *testing.T) {
	store, e := newStore(t, dbPath(t), &storetest.Link{})
	ids := make([]string, kmclient.MaxRequestKeys)
	for i := range ids {
		ids[i] = uuid.NewString()
	}
	before := e.Commits()
	keys, err := store.KeysByID(t.Context(), "A", ids...)
	if err != nil {
		t.Fatal(err)
	}
	kmclient.WipeAll(keys)
	if n := e.Commits() - before; n != 1 {
		t.Errorf("%d keys were stored in %d commits, want 1", len(ids), n)
	}
}

// migrated opens a file of an older version, made with the schemas up to that version
// and some statements.
func migrated(t *testing.T, version int, statements ...string) (*sqlite.Engine, error) {
	t.Helper()
	path := dbPath(t)
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	var schemas []string
	for v := 1; v <= version; v++ {
		schema, err := os.ReadFile(fmt.Sprintf("schema%d.sql", v))
		if err != nil {
			t.Fatal(err)
		}
		schemas = append(schemas, string(schema))
	}
	marks := fmt.Sprintf("PRAGMA application_id=%d; PRAGMA user_version=%d", 0x716B6473, version)
	for _, s := range slices.Concat(schemas, statements, []string{marks}) {
		if _, err := db.Exec(s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	e, err := sqlite.Open(t.Context(), path, sqlite.Options{})
	if err == nil {
		t.Cleanup(func() { _ = e.Close() })
	}
	return e, err
}

// insert is a statement that makes a record of an older version.
func insert(kind, km, id string) string {
	return fmt.Sprintf("INSERT INTO records (kind, km, sae, id, due, version, value) VALUES ('%s', '%s', 'B', '%s', 7, 5, x'00')", kind, km, id)
}

// In a file of an older version, the IDs of sending keys are already claimed, in
// another form, but those of receiving keys are not.
func TestClaimsMigrate(t *testing.T) {
	ids := []string{"9b42e9e2-0a1b-4c2d-8e3f-0123456789ab", "9b42e9e2-0a1b-4c2d-8e3f-0123456789ac"}
	received := []string{"00000000-0a1b-4c2d-8e3f-0123456789ab", ids[0]} // and one that was also sent with
	for version, sent := range map[int]func(km, id string) string{
		1: func(km, id string) string { return insert("send", km, id) },
		2: func(km, id string) string {
			packed := "x'" + strings.ReplaceAll(id, "-", "") + "'"
			return fmt.Sprintf("INSERT INTO scopes (km, sae) VALUES ('%s', 'B') ON CONFLICT DO NOTHING; INSERT INTO claims (scope, id) SELECT n, %s FROM scopes WHERE km='%[1]s'", km, packed)
		},
	} {
		t.Run(fmt.Sprint("from version ", version), func(t *testing.T) {
			var statements []string
			want := map[engine.Name]bool{}
			add := func(kind engine.Kind, km, id, statement string) {
				statements = append(statements, statement)
				want[engine.Name{Kind: kind, KM: km, SAE: "B", ID: id}] = true
			}
			for _, km := range []string{"km", "other"} {
				for _, id := range ids {
					add(engine.Claim, km, id, sent(km, id))
				}
			}
			for _, km := range []string{"km", "third"} {
				for _, id := range received {
					add(engine.Receive, km, id, insert("receive", km, id))
					want[engine.Name{Kind: engine.Claim, KM: km, SAE: "B", ID: id}] = true
				}
			}
			add(engine.Message, "km", "m", insert("message", "km", "m"))
			e, err := migrated(t, version, statements...)
			if err != nil {
				t.Fatal(err)
			}
			records, err := e.List(t.Context(), engine.Name{}, 100)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range records {
				if !want[r.Name] {
					t.Errorf("%v is there, but should not be", r.Name)
				}
				again := engine.Change{New: &engine.Record{Name: r.Name}}
				if err := e.Apply(t.Context(), again); !errors.Is(err, engine.ErrConflict) {
					t.Errorf("%v can be made again: %v", r.Name, err)
				}
				delete(want, r.Name)
			}
			if len(want) > 0 {
				t.Errorf("missing: %v", want)
			}
		})
	}
}

// In older versions an ID that is not a UUID had another name, under which it would no
// longer be found.
func TestMigrateOnlyUUIDs(t *testing.T) {
	for _, id := range []string{"9B42E9E2-0A1B-4C2D-8E3F-0123456789AB", "9b42e9e20a1b4c2d8e3f0123456789ab",
		"9b42e9e2-0a1b-4c2d-8e3f-0123456789ax", "------------------------------------", "MOCK-KEY-00000001-20251012195642", "r"} {
		for kind, version := range map[string]int{"send": 1, "receive": 2} {
			_, err := migrated(t, version, insert(kind, "km", id))
			if !errors.Is(err, kmclient.ErrStore) || !strings.Contains(err.Error(), "no UUIDs") || !strings.Contains(err.Error(), "begin with a new store") {
				t.Errorf("%s %q from version %d: %v, want an ErrStore that says what to do", kind, id, version, err)
			}
		}
	}
}

// In a file of version 2 that was in use, a received key can't be used for sending.
func TestReceivedBeforeMigration(t *testing.T) {
	path := dbPath(t)
	km := &storetest.Link{}
	store, e := newStore(t, path, km)
	id := uuid.NewString()
	if err := errors.Join(storetest.Message(store, id), e.Close()); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", path)
	if err == nil {
		_, err = db.Exec("DELETE FROM claims; PRAGMA user_version=2")
	}
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	store, _ = newStore(t, path, km)
	km.Fresh = func() string { return id }
	if _, err := store.GetKeys(t.Context(), "A", 256, 1); !errors.Is(err, keystore.ErrReused) {
		t.Errorf("a key that was received before the migration is given out to encrypt with: %v, want ErrReused", err)
	}
}
