package relaycmd

import (
	"bytes"
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	_ "modernc.org/sqlite" // another program that has the file open

	"github.com/qkdmail/qkdmail/cmd/internal/flags"
	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/keystore"
)

// A deletingKM hands out any key, once.
type deletingKM struct{ kmclient.KeyManager }

func (deletingKM) DeletesOnDelivery() bool { return true }

func (deletingKM) KeysByID(_ context.Context, _ string, ids ...string) (keys []*kmclient.Key, err error) {
	for _, id := range ids {
		key := make([]byte, 32)
		_, _ = rand.Read(key)
		keys = append(keys, kmclient.NewKey(id, key))
	}
	return keys, nil
}

// A relay that stops with keys in memory that it can't store logs that they are lost,
// and ends with an error.
func TestStopsWithKeysWaiting(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.db")
	var log bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&log, nil))
	store, err := flags.Store{Path: path}.Keep(t.Context(), deletingKM{}, keystore.Options{Logger: logger})
	if err != nil {
		t.Fatal(err)
	}
	full(t, path)
	if _, err := store.KeysByID(t.Context(), "A", "some-key"); !errors.Is(err, kmclient.ErrStore) {
		t.Fatalf("got %v, want ErrStore", err)
	}
	log.Reset()
	km := &relayKeys{front: store, store: store, base: deletingKM{}}
	if err := km.end(logger); !errors.Is(err, kmclient.ErrStore) || !strings.Contains(err.Error(), "lost") {
		t.Errorf("the relay has lost a key and ends with %v", err)
	}
	if s := log.String(); !strings.Contains(s, "level=ERROR") || !strings.Contains(s, "1 keys") || !strings.Contains(s, "lost") {
		t.Errorf("the relay has lost a key and says %q", s)
	}
}

// full makes a store refuse new records.
func full(t *testing.T, path string) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec("CREATE TRIGGER full BEFORE INSERT ON records BEGIN SELECT RAISE(ABORT, 'as a full disk'); END"); err != nil {
		t.Fatal(err)
	}
}
