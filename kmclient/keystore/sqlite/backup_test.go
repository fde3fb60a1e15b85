package sqlite_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/keystore"
	"github.com/qkdmail/qkdmail/kmclient/keystore/internal/engine"
	"github.com/qkdmail/qkdmail/kmclient/keystore/internal/storetest"
)

// A sendKM gives out sending keys of a size, and remembers them.
type sendKM struct {
	storetest.Link
	size int      // of a receiving key, in bytes
	sent [][]byte // keys
}

func (s *sendKM) GetKeys(_ context.Context, _ string, _, number int) (keys []*kmclient.Key, err error) {
	for range number {
		key := []byte(uuid.NewString())[:32]
		s.sent = append(s.sent, bytes.Clone(key))
		keys = append(keys, kmclient.NewKey(uuid.NewString(), key))
	}
	return keys, nil
}

func (s *sendKM) KeysByID(_ context.Context, _ string, ids ...string) (keys []*kmclient.Key, err error) {
	for _, id := range ids {
		keys = append(keys, kmclient.NewKey(id, s.bytesOf(id)))
	}
	return keys, nil
}

// bytesOf returns the bytes of a receiving key: so many that a key needs its own pages,
// and never repeating.
func (s *sendKM) bytesOf(id string) (b []byte) {
	for sum := storetest.KeyBytes("key " + id); len(b) < s.size; sum = storetest.KeyBytes(string(sum)) {
		b = append(b, sum...)
	}
	return b
}

// files returns the content of a database file and its log.
func files(t testing.TB, path string) map[string][]byte {
	t.Helper()
	all := map[string][]byte{}
	for _, name := range []string{path, path + "-wal"} {
		text, err := os.ReadFile(name)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		all[filepath.Base(name)] = text
	}
	return all
}

// absent wants no trace of a secret in files, raw or as text.
func absent(t *testing.T, in map[string][]byte, what string, secret []byte) {
	t.Helper()
	for name, text := range in {
		for from := 0; from+16 <= len(secret); from += 16 {
			part := secret[from : from+16]
			for _, form := range [][]byte{part, []byte(hex.EncodeToString(part)), []byte(base64.StdEncoding.EncodeToString(part)[:20])} {
				if bytes.Contains(text, form) {
					t.Fatalf("bytes %d and following of %s are in %s", from, what, name)
				}
			}
		}
	}
}

// A backup restored on another machine brings back the receiving keys, and which key
// IDs were used. Neither it nor the store itself holds bytes of sending keys.
func TestBackup(t *testing.T) {
	path := dbPath(t)
	km := &sendKM{size: 32}
	store, e := newStore(t, path, km)
	var ids []string
	for range 50 {
		ids = append(ids, uuid.NewString())
	}
	received, err := store.KeysByID(t.Context(), "A", ids...)
	if err != nil {
		t.Fatal(err)
	}
	sent, err := store.GetKeys(t.Context(), "A", 256, 50)
	if err != nil {
		t.Fatal(err)
	}
	machine := t.TempDir()
	copied := filepath.Join(machine, "keys.db")
	if err := e.Backup(t.Context(), copied); err != nil {
		t.Fatal(err)
	}
	for _, key := range km.sent {
		absent(t, files(t, path), "a sending key", key)
		absent(t, files(t, copied), "a sending key", key)
	}
	for _, id := range ids {
		absent(t, files(t, copied), "a receiving key", km.bytesOf(id))
	}
	if key, err := os.ReadFile(path + ".key"); err != nil || os.WriteFile(copied+".key", key, 0o600) != nil {
		t.Fatal("the store key can't be copied", err)
	}

	again := &storetest.Link{Gone: func(string) bool { return true }}
	restored, _ := newStore(t, copied, again)
	keys, err := restored.KeysByID(t.Context(), "A", ids...)
	if err != nil {
		t.Fatal(err)
	}
	for i, k := range keys {
		if !bytes.Equal(k.Reveal(), received[i].Reveal()) {
			t.Errorf("key %s has other bytes", k.ID())
		}
	}
	if _, err := restored.KeysByID(t.Context(), "A", sent[0].ID()); !errors.Is(err, keystore.ErrClaimed) {
		t.Errorf("a message names a key that was sent with: %v, want ErrClaimed", err)
	}
	for _, id := range []string{sent[7].ID(), ids[7]} {
		again.Fresh = func() string { return id }
		if _, err := restored.GetKeys(t.Context(), "A", 256, 1); !errors.Is(err, keystore.ErrReused) {
			t.Errorf("the key manager gives out an ID again: %v, want ErrReused", err)
		}
	}
}

// Once a key is closed and the store compacted, neither file has a trace of its bytes,
// raw or sealed.
func TestClosedLeavesNothing(t *testing.T) {
	path := dbPath(t)
	km := &sendKM{size: 10_000}
	ahead := time.Duration(0)
	store, e, err := open(path, km, func() time.Time { return time.Now().Add(ahead) })
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = e.Close() }()
	var ids []string
	sealed := map[string][]byte{}
	seal := func(id string) []byte {
		records, err := e.Get(t.Context(), engine.Name{Kind: engine.Receive, KM: "km", SAE: "B", ID: id})
		if err != nil || records[0] == nil {
			t.Fatal(err)
		}
		return bytes.Clone(records[0].Value)
	}
	for range 20 {
		id := uuid.NewString()
		if err := storetest.Message(store, id); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
		sealed[id] = seal(id)
	}
	kept := uuid.NewString()
	if _, err := store.KeysByID(t.Context(), "A", kept); err != nil {
		t.Fatal(err)
	}
	found := false
	for _, text := range files(t, path) {
		found = found || bytes.Contains(text, sealed[ids[0]][100:116])
	}
	if !found {
		t.Fatal("an existing key is not found: this proves nothing")
	}
	if err := store.CloseKey(t.Context(), ids[0]); err != nil { // at once
		t.Fatal(err)
	}
	ahead = 8 * 24 * time.Hour
	if err := store.Sweep(t.Context()); err != nil { // the others, and compacts
		t.Fatal(err)
	}
	if s := store.Stats(); s.Closed != 20 {
		t.Fatalf("%d keys closed", s.Closed)
	}
	all := files(t, path)
	if log := all["keys.db-wal"]; len(log) != 0 {
		t.Errorf("%d bytes in the log", len(log))
	}
	for _, id := range ids {
		absent(t, all, "a closed key", km.bytesOf(id))
		absent(t, all, "a closed key as it was sealed", sealed[id][6:])
	}
	if keys, err := store.KeysByID(t.Context(), "A", kept); err != nil || !bytes.Equal(keys[0].Reveal(), km.bytesOf(kept)) {
		t.Errorf("a key that was not closed: %v", err)
	}
	// Nor does a backup that is made now.
	copied := filepath.Join(t.TempDir(), "copy.db")
	if err := e.Backup(t.Context(), copied); err != nil {
		t.Fatal(err)
	}
	for _, id := range ids {
		absent(t, files(t, copied), "a closed key as it was sealed", sealed[id][6:])
	}
}
