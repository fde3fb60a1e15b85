package keydb

import (
	"bytes"
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"
	_ "modernc.org/sqlite" // another program that has the file open

	"github.com/qkdmail/qkdmail/kmclient"
)

// open opens a database that the test closes.
func open(t testing.TB, path string) *DB {
	t.Helper()
	db, err := Open(t.Context(), path, Options{})
	if err != nil {
		t.Fatalf("Open(%q): %v", path, err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return db
}

// fresh makes keys of 256 bits.
func fresh(n int) []*kmclient.Key {
	keys := make([]*kmclient.Key, n)
	for i := range keys {
		octets := make([]byte, 32)
		_, _ = rand.Read(octets)
		keys[i] = kmclient.NewKey(uuid.NewString(), octets)
	}
	return keys
}

func put(t testing.TB, db *DB, pool string, g Grant, n int) []*kmclient.Key {
	t.Helper()
	keys := fresh(n)
	if err := db.Put(t.Context(), pool, g, keys...); err != nil {
		t.Fatalf("Put: %v", err)
	}
	return keys
}

func count(t testing.TB, db *DB, pool string) int {
	t.Helper()
	n, err := db.Count(t.Context(), pool)
	if err != nil {
		t.Fatalf("Count: %v", err)
	}
	return n
}

// both runs a test on a file and in memory.
func both(t *testing.T, f func(t *testing.T, db *DB)) {
	t.Run("file", func(t *testing.T) { f(t, open(t, filepath.Join(t.TempDir(), "keys.db"))) })
	t.Run("memory", func(t *testing.T) { f(t, open(t, "")) })
}

func TestPutGetDelete(t *testing.T) {
	both(t, func(t *testing.T, db *DB) {
		keys := put(t, db, "", Grant{}, 3)
		got, err := db.Get(t.Context(), "", keys[2].ID(), strings.ToUpper(keys[0].ID()))
		if err != nil || len(got) != 2 {
			t.Fatalf("Get: %v, %v", got, err)
		}
		if !bytes.Equal(got[0].Reveal(), keys[2].Reveal()) || !bytes.Equal(got[1].Reveal(), keys[0].Reveal()) {
			t.Error("Get returns other keys, or in another order")
		}
		if _, err := db.Get(t.Context(), "other", keys[0].ID()); !errors.Is(err, kmclient.ErrKeyNotFound) {
			t.Errorf("Get from another pool: %v, want ErrKeyNotFound", err)
		}
		if err := db.Delete(t.Context(), "other", keys[0].ID()); !errors.Is(err, kmclient.ErrKeyNotFound) {
			t.Errorf("Delete from another pool: %v, want ErrKeyNotFound", err)
		}
		if err := db.Delete(t.Context(), "", keys[0].ID(), "none"); !errors.Is(err, kmclient.ErrKeyNotFound) {
			t.Errorf("Delete of a key that is not there: %v, want ErrKeyNotFound", err)
		}
		if n := count(t, db, ""); n != 3 {
			t.Errorf("%d keys after a failed Delete, want 3", n)
		}
		if err := db.Delete(t.Context(), "", keys[0].ID(), keys[1].ID()); err != nil {
			t.Errorf("Delete: %v", err)
		}
		if got, err := db.Get(t.Context(), "", keys[2].ID(), keys[0].ID()); !errors.Is(err, kmclient.ErrKeyNotFound) || got != nil {
			t.Errorf("Get of a deleted key: %v, %v, want ErrKeyNotFound", got, err)
		}
		if n := count(t, db, ""); n != 1 {
			t.Errorf("%d keys, want 1", n)
		}
	})
}

func TestPutAllOrNone(t *testing.T) {
	both(t, func(t *testing.T, db *DB) {
		keys := put(t, db, "", Grant{}, 1)
		more := append(fresh(1), kmclient.NewKey(strings.ToUpper(keys[0].ID()), []byte("other bytes")))
		if err := db.Put(t.Context(), "p", Grant{}, more...); !errors.Is(err, ErrExists) {
			t.Errorf("an ID that is taken: %v, want ErrExists", err)
		}
		if n := count(t, db, "p"); n != 0 {
			t.Errorf("%d keys stored all the same", n)
		}
		for name, k := range map[string]*kmclient.Key{
			"no octets":  kmclient.NewKey("empty", nil),
			"no ID":      kmclient.NewKey("", []byte("octets")),
			"large":      kmclient.NewKey("large", make([]byte, MaxKeySize/8+1)),
			"ID with LF": kmclient.NewKey("a\nb", []byte("octets")),
		} {
			if err := db.Put(t.Context(), "p", Grant{}, k); !errors.Is(err, kmclient.ErrBadKey) {
				t.Errorf("%s: %v, want ErrBadKey", name, err)
			}
		}
		if err := db.Put(t.Context(), "p", Grant{Master: "A"}, fresh(1)...); !errors.Is(err, kmclient.ErrBadRequest) {
			t.Errorf("a master without readers: %v, want ErrBadRequest", err)
		}
	})
}

func TestFetch(t *testing.T) {
	both(t, func(t *testing.T, db *DB) {
		ctx := t.Context()
		keys := put(t, db, "A/B", Grant{Master: "A", Readers: []string{"B", "C"}}, 2)
		loose := put(t, db, "", Grant{}, 1)
		id := []string{keys[0].ID(), keys[1].ID()}
		refused := []struct {
			name  string
			claim Claim
			ids   []string
			want  error
		}{
			{"not a reader", Claim{Master: "A", Reader: "D"}, id, ErrNotGranted},
			{"the master itself", Claim{Master: "A", Reader: "A"}, id, ErrNotGranted},
			{"another master", Claim{Master: "D", Reader: "B"}, id, ErrNotGranted},
			{"one missing", Claim{Master: "A", Reader: "B"}, []string{id[0], "none", id[1]}, kmclient.ErrKeyNotFound},
			{"one twice", Claim{Master: "A", Reader: "B"}, []string{id[0], id[0]}, kmclient.ErrKeyNotFound},
			{"without a grant", Claim{Master: "A", Reader: "B"}, []string{loose[0].ID()}, kmclient.ErrKeyNotFound},
			{"without a grant, no names", Claim{}, []string{loose[0].ID()}, kmclient.ErrKeyNotFound},
		}
		for _, r := range refused {
			if got, err := db.Fetch(ctx, r.claim, r.ids...); !errors.Is(err, r.want) || got != nil {
				t.Errorf("%s: %v, %v, want %v", r.name, got, err, r.want)
			}
		}
		for _, step := range []struct {
			reader string
			left   int
		}{{"B", 2}, {"C", 0}} {
			claim := Claim{Master: "A", Reader: step.reader, Keep: true}
			for _, claim.Keep = range []bool{true, true, false} {
				got, err := db.Fetch(ctx, claim, id[1], id[0])
				if err != nil || !bytes.Equal(got[0].Reveal(), keys[1].Reveal()) || !bytes.Equal(got[1].Reveal(), keys[0].Reveal()) {
					t.Fatalf("%+v: %v, %v", claim, got, err)
				}
			}
			if _, err := db.Fetch(ctx, claim, id...); !errors.Is(err, kmclient.ErrKeyNotFound) {
				t.Errorf("%s fetches a second time: %v, want ErrKeyNotFound", step.reader, err)
			}
			if n := count(t, db, "A/B"); n != step.left {
				t.Errorf("%d keys once %s has its copies, want %d", n, step.reader, step.left)
			}
		}
	})
}

func TestListInPages(t *testing.T) {
	both(t, func(t *testing.T, db *DB) {
		keys := put(t, db, "p", Grant{}, 2*page)
		put(t, db, "other", Grant{}, 1)
		i := 0
		for info, err := range db.List(t.Context(), "p") {
			if err != nil || info.ID != keys[i].ID() || info.Size != 256 || info.Time.IsZero() || info.State != kmclient.StateInUse {
				t.Fatalf("key %d: %+v, %v", i, info, err)
			}
			i++
		}
		if i != len(keys) {
			t.Errorf("%d keys listed, want %d", i, len(keys))
		}
		for range db.List(t.Context(), "p") {
			break
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		for _, err := range db.List(ctx, "p") {
			if !errors.Is(err, context.Canceled) {
				t.Errorf("List with a context that has ended: %v", err)
			}
		}
	})
}

func TestMaxKeys(t *testing.T) {
	db, err := Open(t.Context(), "", Options{MaxKeys: 3})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	put(t, db, "p", Grant{}, 2)
	if err := db.Put(t.Context(), "p", Grant{}, fresh(2)...); !errors.Is(err, ErrFull) {
		t.Errorf("over the limit: %v, want ErrFull", err)
	}
	put(t, db, "p", Grant{}, 1)
	put(t, db, "q", Grant{}, 3)
}

func TestReopen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "below", "a?b #%41 folder", "keys.db")
	db, err := Open(t.Context(), path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	keys := put(t, db, "A/B", Grant{Master: "A", Readers: []string{"B"}}, 5)
	if err := errors.Join(db.Close(), db.Close()); err != nil {
		t.Errorf("Close: %v", err)
	}
	if err := db.Put(t.Context(), "", Grant{}, fresh(1)...); !errors.Is(err, ErrClosed) {
		t.Errorf("Put after Close: %v, want ErrClosed", err)
	}
	if _, err := db.Count(t.Context(), ""); !errors.Is(err, ErrClosed) {
		t.Errorf("Count after Close: %v, want ErrClosed", err)
	}
	for name, want := range map[string]os.FileMode{path: 0o600, filepath.Dir(path): 0o700 | os.ModeDir} {
		if info, err := os.Stat(name); err != nil || info.Mode() != want {
			t.Errorf("%s has mode %v (%v), want %v", name, info.Mode(), err, want)
		}
	}
	db = open(t, path)
	for _, suffix := range []string{"-wal", "-shm"} {
		if info, err := os.Stat(path + suffix); err != nil || info.Mode() != 0o600 {
			t.Errorf("%s has mode %v (%v), want 0600", suffix, info.Mode(), err)
		}
	}
	if n := count(t, db, "A/B"); n != 5 {
		t.Errorf("%d keys after a restart, want 5", n)
	}
	got, err := db.Fetch(t.Context(), Claim{Master: "A", Reader: "B"}, keys[4].ID())
	if err != nil || !bytes.Equal(got[0].Reveal(), keys[4].Reveal()) {
		t.Errorf("Fetch after a restart: %v, %v", got, err)
	}
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	later, other := filepath.Join(dir, "later.db"), filepath.Join(dir, "other.db")
	raw(t, later, fmt.Sprintf("CREATE TABLE t (x); PRAGMA application_id=%d; PRAGMA user_version=%d", format().Application, len(format().Migrations)+1))
	raw(t, other, "CREATE TABLE t (x)")
	text, empty := filepath.Join(dir, "keys.json"), filepath.Join(dir, "short.db")
	write(t, text, `{"keys": {}, "keys_generated": 0}`)
	write(t, empty, "SQLite")
	broken := filepath.Join(dir, "broken.db")
	write(t, broken, "SQLite format 3\x00"+strings.Repeat("nonsense", 1000))
	for path, want := range map[string]string{
		later: "later version", other: "another program", text: "not a SQLite database", empty: "not a SQLite database",
		broken: "file is not a database", dir: "not a regular file",
	} {
		before, _ := os.ReadFile(path)
		db, err := Open(t.Context(), path, Options{})
		if db != nil || !errors.Is(err, kmclient.ErrStore) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want an ErrStore that says %q", path, err, want)
		}
		if after, _ := os.ReadFile(path); !bytes.Equal(before, after) {
			t.Errorf("%s was changed", path)
		}
	}
	if _, err := Open(t.Context(), "", Options{MaxKeys: -1}); err == nil {
		t.Error("a negative limit is taken")
	}
}

// raw runs SQL on a file of its own.
func raw(t *testing.T, path, text string) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err == nil {
		_, err = db.ExecContext(t.Context(), text)
	}
	if err = errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestContextEnded(t *testing.T) {
	both(t, func(t *testing.T, db *DB) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := db.Put(ctx, "", Grant{}, fresh(1)...); !errors.Is(err, kmclient.ErrUnavailable) || !errors.Is(err, context.Canceled) {
			t.Errorf("Put: %v", err)
		}
		if _, err := db.Count(ctx, ""); !errors.Is(err, kmclient.ErrUnavailable) {
			t.Errorf("Count: %v", err)
		}
		if n := count(t, db, ""); n != 0 {
			t.Errorf("%d keys stored all the same", n)
		}
	})
}

// Many callers, in two databases on one file, as two processes have it.
func TestConcurrent(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.db")
	var dbs [2]*DB
	var opening sync.WaitGroup
	for i := range dbs {
		opening.Go(func() {
			var err error
			if dbs[i], err = Open(context.Background(), path, Options{}); err != nil {
				t.Errorf("Open: %v", err)
			}
		})
	}
	opening.Wait()
	if t.Failed() {
		return
	}
	grant, claim := Grant{Master: "A", Readers: []string{"B"}}, Claim{Master: "A", Reader: "B"}
	contested := put(t, dbs[0], "A/B", grant, 50)
	var won sync.Map
	var all sync.WaitGroup
	for i := range 32 {
		all.Go(func() {
			db := dbs[i%2]
			for _, k := range contested {
				_, err := db.Fetch(t.Context(), claim, k.ID())
				if err == nil {
					if _, twice := won.LoadOrStore(k.ID(), true); twice {
						t.Errorf("%s fetched twice", k.ID())
					}
				} else if !errors.Is(err, kmclient.ErrKeyNotFound) {
					t.Errorf("Fetch: %v", err)
				}
			}
			for range 10 {
				keys := fresh(2)
				if err := db.Put(t.Context(), "A/B", grant, keys...); err != nil {
					t.Errorf("Put: %v", err)
					return
				}
				got, err := dbs[1-i%2].Fetch(t.Context(), claim, keys[0].ID(), keys[1].ID())
				if err != nil || !bytes.Equal(got[1].Reveal(), keys[1].Reveal()) {
					t.Errorf("Fetch: %v, %v", got, err)
				}
			}
		})
	}
	all.Wait()
	for _, k := range contested {
		if _, ok := won.Load(k.ID()); !ok {
			t.Errorf("nobody got %s", k.ID())
		}
	}
	if n := count(t, dbs[1], "A/B"); n != 0 {
		t.Errorf("%d keys left, want none", n)
	}
	if err := errors.Join(dbs[0].Close(), dbs[1].Close()); err != nil {
		t.Errorf("Close: %v", err)
	}
}

// One caller's failure must not touch what is committed together with it.
func TestBatchIsolation(t *testing.T) {
	both(t, func(t *testing.T, db *DB) {
		taken := put(t, db, "", Grant{}, 1)
		var all sync.WaitGroup
		for i := range 64 {
			all.Go(func() {
				if i%2 == 0 {
					keys := append(fresh(1), taken...)
					if err := db.Put(t.Context(), "p", Grant{}, keys...); !errors.Is(err, ErrExists) {
						t.Errorf("Put: %v, want ErrExists", err)
					}
				} else if err := db.Put(t.Context(), "p", Grant{}, fresh(1)...); err != nil {
					t.Errorf("Put: %v", err)
				}
			})
		}
		all.Wait()
		n := 0
		for _, err := range db.List(t.Context(), "p") {
			if err != nil {
				t.Fatal(err)
			}
			n++
		}
		if n != 32 || count(t, db, "p") != n {
			t.Errorf("%d keys, %d counted, want 32", n, count(t, db, "p"))
		}
	})
}
