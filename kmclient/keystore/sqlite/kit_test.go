package sqlite_test

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/qkdmail/qkdmail/cipher"
	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/keystore"
	"github.com/qkdmail/qkdmail/kmclient/keystore/sqlite"
)

// A linkKM is one end of a QKD link: the octets of a key follow from its ID. It
// gives each key out once, as far as it is told to remember.
type linkKM struct {
	gone  func(id string) bool // gives the key out; true if it was given out before
	fresh func() string        // an ID for sending
	keeps bool                 // it says that it keeps keys
}

func octetsOf(id string) []byte {
	sum := sha256.Sum256([]byte(id))
	return sum[:]
}

func (l *linkKM) DeletesOnDelivery() bool { return !l.keeps }

func (l *linkKM) Status(context.Context, string) (kmclient.Status, error) {
	return kmclient.Status{}, nil
}

func (l *linkKM) CloseKey(context.Context, string) error { return nil }

func (l *linkKM) GetKeys(_ context.Context, _ string, _, number int) (keys []*kmclient.Key, err error) {
	for range number {
		id := l.fresh()
		keys = append(keys, kmclient.NewKey(id, octetsOf(id)))
	}
	return keys, nil
}

func (l *linkKM) KeysByID(_ context.Context, _ string, ids ...string) (keys []*kmclient.Key, err error) {
	for _, id := range ids {
		if l.gone != nil && l.gone(id) {
			return nil, &kmclient.Error{Op: "keys by ID", Err: kmclient.ErrKeyNotFound}
		}
		keys = append(keys, kmclient.NewKey(id, octetsOf(id)))
	}
	return keys, nil
}

func identity(s string) cipher.Identity { return sha256.Sum256([]byte(s)) }

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
