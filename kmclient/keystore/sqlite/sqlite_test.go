package sqlite_test

import (
	"errors"
	"path/filepath"
	"testing"

	"github.com/qkdmail/qkdmail/kmclient/keystore/internal/engine"
	"github.com/qkdmail/qkdmail/kmclient/keystore/internal/storetest"
	"github.com/qkdmail/qkdmail/kmclient/keystore/sqlite"
)

func TestStore(t *testing.T) {
	storetest.Run(t, func(t *testing.T) func() (engine.Engine, error) {
		path := filepath.Join(t.TempDir(), "state", "keys.db")
		return func() (engine.Engine, error) { return sqlite.Open(t.Context(), path, sqlite.Options{}) }
	})
}

// Compact returns an error while others keep it from doing anything.
func TestCompactInUse(t *testing.T) {
	path := dbPath(t)
	e, err := sqlite.Open(t.Context(), path, sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = e.Close() }()
	release := lockFile(t, path)
	defer release()
	if err := e.Compact(t.Context()); !errors.Is(err, engine.ErrUncompacted) {
		t.Errorf("got %v, want an ErrUncompacted", err)
	}
	release()
	if err := e.Compact(t.Context()); err != nil {
		t.Error(err)
	}
}
