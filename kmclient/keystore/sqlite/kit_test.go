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

	_ "modernc.org/sqlite" // another program with the file open

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/keystore"
	"github.com/qkdmail/qkdmail/kmclient/keystore/sqlite"
)

// open opens the store in the file at path, and also returns its engine.
func open(path string, km kmclient.KeyManager, now func() time.Time) (*keystore.Store, *sqlite.Engine, error) {
	return openWith(path, sqlite.Options{}, km, now)
}

func openWith(path string, o sqlite.Options, km kmclient.KeyManager, now func() time.Time) (*keystore.Store, *sqlite.Engine, error) {
	e, err := sqlite.Open(context.Background(), path, o)
	if err != nil {
		return nil, nil, err
	}
	store, err := keystore.Open(context.Background(), km, keystore.Options{
		Engine: e, Key: keystore.KeyFile(path+".key", nil), KM: "km", SAE: "B", SweepEvery: -1, Now: now,
	})
	return store, e, err
}

// newStore opens the store in the file at path until the end of the test.
func newStore(t testing.TB, path string, km kmclient.KeyManager) (*keystore.Store, *sqlite.Engine) {
	t.Helper()
	store, e, err := open(path, km, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	return store, e
}

func dbPath(t testing.TB) string { return filepath.Join(t.TempDir(), "keys.db") }

// wantTemporary wants a kmclient.ErrStore that contains some words and says that trying
// again helps.
func wantTemporary(t testing.TB, err error, words string) {
	t.Helper()
	e, ok := errors.AsType[*kmclient.Error](err)
	if !errors.Is(err, kmclient.ErrStore) || ok && !e.Retry || !strings.Contains(err.Error(), words) {
		t.Errorf("got %v, want a temporary ErrStore: %s", err, words)
	}
}

// lockFile takes the write lock as another process would.
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
