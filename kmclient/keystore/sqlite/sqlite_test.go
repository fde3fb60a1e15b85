package sqlite_test

import (
	"path/filepath"
	"testing"

	"github.com/qkdmail/qkdmail/kmclient/keystore"
	"github.com/qkdmail/qkdmail/kmclient/keystore/sqlite"
	"github.com/qkdmail/qkdmail/kmclient/keystore/storetest"
)

func TestStore(t *testing.T) {
	storetest.Run(t, func(t *testing.T) func() (keystore.Store, error) {
		path := filepath.Join(t.TempDir(), "state", "keys.db")
		return func() (keystore.Store, error) { return sqlite.Open(t.Context(), path, sqlite.Options{}) }
	})
}
