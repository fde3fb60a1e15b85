package sqlite_test

import (
	"errors"
	"path/filepath"
	"testing"

	"github.com/qkdmail/qkdmail/kmclient/keystore"
	"github.com/qkdmail/qkdmail/kmclient/keystore/sqlite"
	"github.com/qkdmail/qkdmail/kmclient/keystore/storetest"
)

func TestStore(t *testing.T) {
	storetest.Run(t, func(t *testing.T) func() (keystore.Engine, error) {
		path := filepath.Join(t.TempDir(), "state", "keys.db")
		return func() (keystore.Engine, error) { return sqlite.Open(t.Context(), path, sqlite.Options{}) }
	})
}

// Compact says that others keep it from doing anything.
func TestCompactInUse(t *testing.T) {
	path := dbPath(t)
	engine, err := sqlite.Open(t.Context(), path, sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = engine.Close() }()
	release := lockFile(t, path)
	defer release()
	if err := engine.Compact(t.Context()); !errors.Is(err, keystore.ErrUncompacted) {
		t.Errorf("got %v, want an ErrUncompacted", err)
	}
	release()
	if err := engine.Compact(t.Context()); err != nil {
		t.Error(err)
	}
}
