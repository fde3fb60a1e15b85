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
	size int      // octets of a receiving key
	sent [][]byte // octets
}

func (s *sendKM) GetKeys(_ context.Context, _ string, _, number int) (keys []*kmclient.Key, err error) {
	for range number {
		octets := []byte(uuid.NewString())[:32]
		s.sent = append(s.sent, bytes.Clone(octets))
		keys = append(keys, kmclient.NewKey(uuid.NewString(), octets))
	}
	return keys, nil
}

func (s *sendKM) KeysByID(_ context.Context, _ string, ids ...string) (keys []*kmclient.Key, err error) {
	for _, id := range ids {
		keys = append(keys, kmclient.NewKey(id, s.octets(id)))
	}
	return keys, nil
}

// octets are long, so that a key needs pages of its own, and nowhere the same.
func (s *sendKM) octets(id string) (b []byte) {
	for sum := storetest.Octets("key " + id); len(b) < s.size; sum = storetest.Octets(string(sum)) {
		b = append(b, sum...)
	}
	return b
}

// files are the octets of a database and its log.
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

// absent wants no trace of some octets in files, as they are or as text.
func absent(t *testing.T, in map[string][]byte, what string, octets []byte) {
	t.Helper()
	for name, text := range in {
		for from := 0; from+16 <= len(octets); from += 16 {
			part := octets[from : from+16]
			for _, form := range [][]byte{part, []byte(hex.EncodeToString(part)), []byte(base64.StdEncoding.EncodeToString(part)[:20])} {
				if bytes.Contains(text, form) {
					t.Fatalf("octets %d of %s are in %s", from, what, name)
				}
			}
		}
	}
}

// A backup that is restored on a machine that knows nothing brings back the
// receiving keys, and which key IDs were used. There are no bytes of sending keys
// in it, nor in the store itself.
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
	for _, octets := range km.sent {
		absent(t, files(t, path), "a sending key", octets)
		absent(t, files(t, copied), "a sending key", octets)
	}
	for _, id := range ids {
		absent(t, files(t, copied), "a receiving key", km.octets(id))
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
			t.Errorf("key %s has other octets", k.ID())
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

// Once a key is closed and the store compacted, what held it is in neither file:
// not the octets, nor what they were sealed as.
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
		t.Fatal("this would find nothing where there is something")
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
		t.Errorf("%d octets in the log", len(log))
	}
	for _, id := range ids {
		absent(t, all, "a closed key", km.octets(id))
		absent(t, all, "a closed key as it was sealed", sealed[id][6:])
	}
	if keys, err := store.KeysByID(t.Context(), "A", kept); err != nil || !bytes.Equal(keys[0].Reveal(), km.octets(kept)) {
		t.Errorf("a key that was not closed: %v", err)
	}
	// A backup that is made now has nothing of them either.
	copied := filepath.Join(t.TempDir(), "copy.db")
	if err := e.Backup(t.Context(), copied); err != nil {
		t.Fatal(err)
	}
	for _, id := range ids {
		absent(t, files(t, copied), "a closed key as it was sealed", sealed[id][6:])
	}
}
