package sqlitedb

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	_ "modernc.org/sqlite" // another program with the file open

	"github.com/qkdmail/qkdmail/kmclient"
)

func testFormat(migrations ...string) Format {
	return Format{Application: 0x74657374, Migrations: append([]string{"CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT) STRICT"}, migrations...)}
}

func openTest(t *testing.T, path string) *DB {
	t.Helper()
	db, err := Open(t.Context(), path, testFormat(), time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

func testPath(t *testing.T) string {
	return filepath.Join(t.TempDir(), "new", "a?b #%41 folder", "t.db")
}

func (db *DB) put(ctx context.Context, id int, v string) error {
	return db.Write(ctx, func(c *Conn) error { return c.Exec("INSERT INTO t (id, v) VALUES (?, ?)", id, v) })
}

func count(t *testing.T, db *DB) (n int) {
	t.Helper()
	if err := db.Read(t.Context(), func(c *Conn) error { return c.Row([]any{&n}, "SELECT count(*) FROM t") }); err != nil {
		t.Fatal(err)
	}
	return n
}

// wantStore wants a kmclient.ErrStore that contains some words.
func wantStore(t *testing.T, err error, words string) {
	t.Helper()
	if !errors.Is(err, kmclient.ErrStore) || !strings.Contains(err.Error(), words) {
		t.Errorf("got %v, want an ErrStore: %s", err, words)
	}
}

// A file is written durably, for its owner only, and deleted data is overwritten.
func TestFile(t *testing.T) {
	path := testPath(t)
	db := openTest(t, path)
	for pragma, want := range map[string]string{"journal_mode": "wal", "synchronous": "2", "secure_delete": "1", "user_version": "1"} {
		var got any
		if err := db.writer.Row([]any{&got}, "PRAGMA "+pragma); err != nil || fmt.Sprint(got) != want {
			t.Errorf("%s is %v (%v), want %s", pragma, got, err, want)
		}
	}
	if err := db.put(t.Context(), 1, "v"); err != nil {
		t.Error(err)
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 3 {
		t.Errorf("%v (%v), want the file, -wal and -shm", entries, err)
	}
	for _, e := range entries {
		if info, err := e.Info(); err != nil || info.Mode() != 0o600 {
			t.Errorf("%s: %v, %v, want 0600", e.Name(), info.Mode(), err)
		}
	}
	if info, err := os.Stat(filepath.Dir(path)); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("folder: %v, %v, want 0700", info.Mode(), err)
	}
}

func TestReopen(t *testing.T) {
	path := testPath(t)
	db := openTest(t, path)
	if err := db.put(t.Context(), 1, "v"); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(db.Close(), db.Close()); err != nil {
		t.Error(err)
	}
	for _, err := range []error{db.put(t.Context(), 2, "v"), db.Read(t.Context(), nil), db.Checkpoint(t.Context()),
		db.Backup(t.Context(), path+".copy"), db.Check(t.Context())} {
		if wantStore(t, err, path); !errors.Is(err, ErrClosed) {
			t.Errorf("got %v, want ErrClosed", err)
		}
	}
	if n := count(t, openTest(t, path)); n != 1 {
		t.Errorf("%d rows, want 1", n)
	}
}

// Many processes open a file that does not exist: one makes it.
func TestMadeOnce(t *testing.T) {
	path := testPath(t)
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			db, err := Open(context.Background(), path, testFormat(), 0)
			if err != nil {
				t.Error(err)
				return
			}
			if err := errors.Join(db.put(t.Context(), i, "v"), db.Close()); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n := count(t, openTest(t, path)); n != 8 {
		t.Errorf("%d rows, want 8", n)
	}
}

func TestMigrations(t *testing.T) {
	path := testPath(t)
	db := openTest(t, path)
	if err := errors.Join(db.put(t.Context(), 1, "v"), db.Close()); err != nil {
		t.Fatal(err)
	}
	later := testFormat("ALTER TABLE t ADD COLUMN w TEXT", "UPDATE t SET w='new'")
	for range 2 {
		db, err := Open(t.Context(), path, later, 0)
		if err != nil {
			t.Fatal(err)
		}
		var w string
		err = db.Read(t.Context(), func(c *Conn) error { return c.Row([]any{&w}, "SELECT w FROM t") })
		if err != nil || w != "new" {
			t.Errorf("%q, %v", w, err)
		}
		_ = db.Close()
	}
	_, err := Open(t.Context(), path, testFormat(), 0)
	wantStore(t, err, "later version of this program: schema 3, and this program knows up to 1")
	bad := testFormat("ALTER TABLE t ADD COLUMN w TEXT", "UPDATE t SET w='new'", "CREATE TABLE x (y)", "no SQL")
	if _, err := Open(t.Context(), path, bad, 0); err == nil {
		t.Error("a failed migration gives no error")
	}
	if db, err = Open(t.Context(), path, later, 0); err != nil {
		t.Fatalf("after a failed migration: %v", err)
	}
	_ = db.Close()
}

// A later version of the program migrates a file that an older one has open: the older
// one then neither reads nor writes.
func TestMigratedMeanwhile(t *testing.T) {
	path := testPath(t)
	old := openTest(t, path)
	later, err := Open(t.Context(), path, testFormat("CREATE TABLE t2 (id INTEGER PRIMARY KEY, v TEXT) STRICT; INSERT INTO t2 SELECT * FROM t; DELETE FROM t"), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = later.Close() }()
	looked := false
	for _, err := range []error{
		old.put(t.Context(), 1, "v"),
		old.Read(t.Context(), func(*Conn) error { looked = true; return nil }),
	} {
		wantStore(t, err, "later version of this program: schema 2, and this program knows up to 1")
	}
	var rows int
	err = later.Read(t.Context(), func(c *Conn) error { return c.Row([]any{&rows}, "SELECT count(*) FROM t") })
	if err != nil || rows != 0 || looked {
		t.Errorf("%d rows (%v) were written by the older program; it has read: %v", rows, err, looked)
	}
}

// A file that can't be used gives a clear error, and is left as it is.
func TestRefused(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	database := func(name, statements string) string {
		path := filepath.Join(dir, name)
		db, err := sql.Open("sqlite", path)
		if err == nil {
			_, err = db.Exec(statements)
		}
		if err = errors.Join(err, db.Close()); err != nil {
			t.Fatal(err)
		}
		return path
	}
	header := fmt.Sprintf("CREATE TABLE t (x); PRAGMA application_id=%d; PRAGMA user_version=-1", testFormat().Application)
	dangling := filepath.Join(dir, "dangling")
	if err := os.Symlink(filepath.Join(dir, "nowhere"), dangling); err != nil {
		t.Fatal(err)
	}
	for path, words := range map[string]string{
		write("empty", ""):       "restore a backup, or remove it to begin anew",
		write("short", "SQLite"): "not an SQLite database", write("text", `{"keys": {}, "keys_generated": 0}`): "not an SQLite database",
		write("broken", "SQLite format 3\x00"+strings.Repeat("nonsense", 1000)): "damaged",
		database("foreign", "CREATE TABLE t (x)"):                               "another program", database("header", header): "damaged",
		dir: "not a regular file", dangling: "no such file", write("file", "") + "/below": "not a directory",
	} {
		before, _ := os.ReadFile(path)
		_, err := Open(t.Context(), path, testFormat(), 0)
		wantStore(t, err, words)
		wantStore(t, err, path)
		if after, _ := os.ReadFile(path); !bytes.Equal(before, after) {
			t.Errorf("%s was changed", path)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Open(ctx, filepath.Join(dir, "new"), testFormat(), 0); !errors.Is(err, kmclient.ErrUnavailable) {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "new")); !errors.Is(err, fs.ErrNotExist) {
		t.Error("a file was made after the caller had given up")
	}
}

// A folder that can't be written gives an error in plain words.
func TestReadOnlyFolder(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root may write everywhere")
	}
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o500); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"t.db", "below/t.db"} {
		_, err := Open(t.Context(), filepath.Join(dir, path), testFormat(), 0)
		wantStore(t, err, "permission denied")
	}
}

func TestBackup(t *testing.T) {
	db := openTest(t, testPath(t))
	if err := db.put(t.Context(), 1, "v"); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "new", "copy.db")
	if err := db.Backup(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
		t.Errorf("%v, %v, want 0600", info, err)
	}
	wantStore(t, db.Backup(t.Context(), path), "there is a file already")
	wantStore(t, db.Backup(t.Context(), path+"/below"), "not a directory")
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 1 {
		t.Errorf("%v (%v), want only the backup", entries, err)
	}
	restored := openTest(t, path)
	if err := restored.Check(t.Context()); err != nil || count(t, restored) != 1 {
		t.Errorf("%d rows, %v", count(t, restored), err)
	}
	if err := db.Check(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestCheckpoint(t *testing.T) {
	path := testPath(t)
	db := openTest(t, path)
	for i := range 20 {
		if err := db.put(t.Context(), i, fmt.Sprint("secret", i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Write(t.Context(), func(c *Conn) error { return c.Exec("DELETE FROM t WHERE id>0") }); err != nil {
		t.Fatal(err)
	}
	if err := db.Checkpoint(t.Context()); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path + "-wal"); err != nil || info.Size() != 0 {
		t.Errorf("write-ahead log: %v, %v", info, err)
	}
	if text, err := os.ReadFile(path); err != nil || bytes.Count(text, []byte("secret")) != 1 {
		t.Errorf("%d rows in the file (%v), want the one that was not deleted", bytes.Count(text, []byte("secret")), err)
	}
}

// TestMoved: nothing is written to a file that was moved, removed or replaced, since
// that would be lost when the program ends. The file may come back.
func TestMoved(t *testing.T) {
	for how, change := range map[string]func(path string) error{
		"moved":   func(path string) error { return os.Rename(path, path+".old") },
		"removed": os.Remove,
		"replaced": func(path string) error {
			text, err := os.ReadFile(path)
			return errors.Join(err, os.Rename(path, path+".old"), os.WriteFile(path, text, 0o600))
		},
	} {
		t.Run(how, func(t *testing.T) {
			path := testPath(t)
			db := openTest(t, path)
			if err := db.put(t.Context(), 1, "one"); err != nil {
				t.Fatal(err)
			}
			if err := change(path); err != nil {
				t.Skip(err) // Windows keeps an open file in its place
			}
			wantStore(t, db.put(t.Context(), 2, "two"), "it was moved, removed or replaced while in use")
			if how == "removed" {
				return
			}
			if err := os.Rename(path+".old", path); err != nil {
				t.Fatal(err)
			}
			if err := db.put(t.Context(), 2, "two"); err != nil || count(t, db) != 2 {
				t.Errorf("the file is back: %v, %d rows, want 2", err, count(t, db))
			}
		})
	}
}
