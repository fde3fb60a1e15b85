package sqlite_test

import (
	"context"
	"database/sql"
	"errors"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	_ "modernc.org/sqlite" // another program that has the file open

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/keystore"
	"github.com/qkdmail/qkdmail/kmclient/keystore/sqlite"
)

// open returns a manager on the file at path, and the file.
func open(path string, km kmclient.KeyManager, now func() time.Time) (*keystore.Manager, *sqlite.Store, error) {
	store, err := sqlite.Open(context.Background(), path, sqlite.Options{})
	if err != nil {
		return nil, nil, err
	}
	v, err := keystore.Open(context.Background(), store, keystore.MadeKeyFile(path+".key", nil), nil)
	if err != nil {
		return nil, nil, err
	}
	m, err := keystore.New(km, v, keystore.Options{KM: "km", SAE: "B", Now: now})
	return m, store, err
}

// manager returns one on the file at path for the length of a test.
func manager(t testing.TB, path string, km kmclient.KeyManager) (*keystore.Manager, *sqlite.Store) {
	t.Helper()
	m, store, err := open(path, km, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	return m, store
}

func dbPath(t testing.TB) string { return filepath.Join(t.TempDir(), "keys.db") }

// wantTemporary wants a kmclient.ErrStore that says that trying again helps, with
// some words in it.
func wantTemporary(t testing.TB, err error, words string) {
	t.Helper()
	e, ok := errors.AsType[*kmclient.Error](err)
	if !errors.Is(err, kmclient.ErrStore) || ok && !e.Retry || !strings.Contains(err.Error(), words) {
		t.Errorf("got %v, want a temporary ErrStore: %s", err, words)
	}
}

// lockFile takes the lock for writing as another process would.
func lockFile(t testing.TB, path string) (release func()) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	other, err := db.Conn(context.Background())
	if err == nil {
		_, err = other.ExecContext(context.Background(), "PRAGMA busy_timeout=5000; BEGIN EXCLUSIVE")
	}
	if err != nil {
		t.Fatal(err)
	}
	return sync.OnceFunc(func() {
		if _, err := other.ExecContext(context.Background(), "ROLLBACK"); err != nil {
			t.Error(err)
		}
		_, _ = other.Close(), db.Close()
	})
}
