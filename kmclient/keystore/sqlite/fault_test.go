package sqlite_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/keystore"
	"github.com/qkdmail/qkdmail/kmclient/keystore/sqlite"
)

// wantStoreError wants a temporary kmclient.ErrStore with some words in it.
func wantStoreError(t *testing.T, err error, words string) {
	t.Helper()
	e, ok := errors.AsType[*kmclient.Error](err)
	if !errors.Is(err, kmclient.ErrStore) || ok && !e.Retry || !strings.Contains(err.Error(), words) {
		t.Errorf("got %v, want a temporary ErrStore: %s", err, words)
	}
}

// A key manager that was restored from a backup gives IDs again, and so does
// the store's own backup remember those that it had.
func TestReusedAfterRestore(t *testing.T) {
	path, copied := dbPath(t), filepath.Join(t.TempDir(), "copy.db")
	ids := []string{"a", "b", "c"}
	n := 0
	km := &linkKM{fresh: func() string { n++; return ids[n-1] }}
	m, store := manager(t, path, km)
	if _, err := m.GetKeys(t.Context(), "A", 256, 2); err != nil {
		t.Fatal(err)
	}
	received, err := m.KeysByID(t.Context(), "A", "r")
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Backup(t.Context(), copied); err != nil {
		t.Fatal(err)
	}
	if err := store.Backup(t.Context(), copied); !errors.Is(err, kmclient.ErrStore) {
		t.Errorf("over a backup: %v", err)
	}
	key, err := os.ReadFile(path + ".key")
	if err == nil {
		err = os.WriteFile(copied+".key", key, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	n, km.gone = 1, func(string) bool { return true }
	restored, _ := manager(t, copied, km)
	if _, err := restored.GetKeys(t.Context(), "A", 256, 2); !errors.Is(err, keystore.ErrReused) {
		t.Errorf("IDs that come again: %v", err)
	}
	again, err := restored.KeysByID(t.Context(), "A", "r")
	if err != nil || !bytes.Equal(again[0].Reveal(), received[0].Reveal()) {
		t.Error("the receiving key is not in the backup", err)
	}
}

func TestLocked(t *testing.T) {
	path := dbPath(t)
	m, _ := manager(t, path, &linkKM{})
	store, err := sqlite.Open(t.Context(), path, sqlite.Options{Wait: 20 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	v, err := keystore.Open(t.Context(), store, keystore.KeyFile(path+".key"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = v.Close() }()
	hasty, err := keystore.New(&linkKM{}, v, keystore.Options{KM: "km", SAE: "B"})
	if err != nil {
		t.Fatal(err)
	}
	other, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Close() }()
	tx, err := other.Conn(t.Context())
	if err == nil {
		_, err = tx.ExecContext(t.Context(), "BEGIN IMMEDIATE")
	}
	if err != nil {
		t.Fatal(err)
	}
	_, err = hasty.KeysByID(t.Context(), "A", "x")
	wantStoreError(t, err, "locked by another process")
	if _, err := tx.ExecContext(t.Context(), "ROLLBACK"); err != nil {
		t.Fatal(err)
	}
	if err := hasty.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if info, err := m.Show(t.Context(), "x"); err != nil || info.State != kmclient.StateInUse {
		t.Errorf("%+v, %v", info, err)
	}
}

// What can't be used is said so, and left as it is.
func TestUnusableFiles(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	foreign := filepath.Join(dir, "foreign.db")
	db, err := sql.Open("sqlite", foreign)
	if err == nil {
		_, err = db.Exec("CREATE TABLE t (x)")
	}
	if err != nil {
		t.Fatal(err)
	}
	_ = db.Close()
	later := filepath.Join(dir, "later.db")
	if db, err = sql.Open("sqlite", later); err == nil {
		_, err = db.Exec(fmt.Sprintf("CREATE TABLE t (x); PRAGMA application_id=%d; PRAGMA user_version=99", 0x716B6473))
	}
	if err != nil {
		t.Fatal(err)
	}
	_ = db.Close()
	for path, words := range map[string]string{
		write("text", "not a database, and longer than a header of one"): "not a SQLite database",
		write("broken", "SQLite format 3\x00"+strings.Repeat("x", 5000)): "damaged",
		foreign: "another program", later: "later version", dir: "not a regular file",
		write("file", "") + "/below": "not a directory",
	} {
		before, _ := os.ReadFile(path)
		_, err := sqlite.Open(t.Context(), path, sqlite.Options{})
		wantStoreError(t, err, words)
		if after, _ := os.ReadFile(path); !bytes.Equal(before, after) {
			t.Errorf("%s was changed", path)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := sqlite.Open(ctx, filepath.Join(dir, "new"), sqlite.Options{}); !errors.Is(err, kmclient.ErrUnavailable) {
		t.Error(err)
	}
}

// Pages in the middle of the file are overwritten: an error, or a damaged
// record, but never another key.
func TestDamagedPages(t *testing.T) {
	path := dbPath(t)
	m, store := manager(t, path, &linkKM{})
	var ids []string
	for n := range 200 {
		ids = append(ids, uuidOf(octetsOf(fmt.Sprint(n))[:16]))
	}
	if _, err := m.KeysByID(t.Context(), "A", ids...); err != nil {
		t.Fatal(err)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for at := 6 * 4096; at+4096 < len(text); at += 3 * 4096 {
		copy(text[at:], bytes.Repeat([]byte{0xA5}, 2000))
	}
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	failed := 0
	again, store := reopen(t, path)
	if store == nil {
		return // refused at once
	}
	for _, id := range ids {
		keys, err := again.KeysByID(t.Context(), "A", id)
		switch {
		case err == nil && !bytes.Equal(keys[0].Reveal(), octetsOf(id)):
			t.Errorf("%s is another key", id)
		case errors.Is(err, kmclient.ErrStore):
			failed++
		}
	}
	if err := store.Check(t.Context()); !errors.Is(err, kmclient.ErrStore) {
		t.Errorf("check: %v", err)
	}
	t.Logf("%d of %d keys can't be read", failed, len(ids))
}

// reopen opens a damaged file; nil if that is refused, as a store error.
func reopen(t *testing.T, path string) (*keystore.Manager, *sqlite.Store) {
	store, err := sqlite.Open(t.Context(), path, sqlite.Options{})
	if err != nil {
		wantStoreError(t, err, "damaged")
		return nil, nil
	}
	v, err := keystore.Open(t.Context(), store, keystore.KeyFile(path+".key"), nil)
	if err != nil {
		wantStoreError(t, err, "")
		return nil, nil
	}
	t.Cleanup(func() { _ = v.Close() })
	m, err := keystore.New(&linkKM{gone: func(string) bool { return true }}, v, keystore.Options{KM: "km", SAE: "B"})
	if err != nil {
		t.Fatal(err)
	}
	return m, store
}

func TestModes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "keys.db")
	m, _ := manager(t, path, &linkKM{})
	if _, err := m.KeysByID(t.Context(), "A", "x"); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]os.FileMode{"": 0o600, "-wal": 0o600, "-shm": 0o600, ".key": 0o600} {
		if info, err := os.Stat(path + name); err != nil || info.Mode() != want {
			t.Errorf("keys.db%s: %v, %v", name, info, err)
		}
	}
	if info, err := os.Stat(filepath.Dir(path)); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("folder: %v, %v", info, err)
	}
}

// A sweep leaves nothing in the write-ahead log, and a closed key's value in no
// file.
func TestSweepTruncates(t *testing.T) {
	path := dbPath(t)
	m, store := manager(t, path, &linkKM{})
	if _, err := m.KeysByID(t.Context(), "A", "x"); err != nil {
		t.Fatal(err)
	}
	records, err := store.Get(t.Context(), keystore.Name{Kind: keystore.KindReceive, KM: "km", SAE: "B", ID: "x"})
	if err != nil {
		t.Fatal(err)
	}
	sealed := records[0].Value
	if err := m.CloseKey(t.Context(), "x"); err != nil {
		t.Fatal(err)
	}
	if err := store.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path + "-wal"); err != nil || info.Size() != 0 {
		t.Errorf("write-ahead log: %v, %v", info, err)
	}
	if text, err := os.ReadFile(path); err != nil || bytes.Contains(text, sealed[6:]) || bytes.Contains(text, octetsOf("x")) {
		t.Error("the key is still in the file", err)
	}
}
