package storecmd

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/qkdmail/qkdmail/kmclient/mock"
)

// TestKeyFile: the mock can read the file, whatever is in an ID.
func TestKeyFile(t *testing.T) {
	for _, ids := range [][]string{nil, {`a"b\c<&>`}, {"MOCK-KEY-00000001-20251012195642", "~"}} {
		path := filepath.Join(t.TempDir(), "keys.json")
		out, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		file := newKeyFile(out)
		for i, id := range ids {
			if err := file.add(id, []byte{byte(i), 2, 3, 4}); err != nil {
				t.Fatal(err)
			}
		}
		if err := file.end(); err != nil {
			t.Fatal(err)
		}
		if err := out.Close(); err != nil {
			t.Fatal(err)
		}
		km, err := mock.New(mock.Options{Path: path})
		if err != nil {
			t.Fatal(err)
		}
		if s, err := km.Status(t.Context(), ""); err != nil || *s.StoredKeys != len(ids) || *s.KeysGenerated != len(ids) {
			t.Errorf("%q: status %+v, %v, want %d keys stored and generated", ids, s, err, len(ids))
		}
		for i, id := range ids {
			keys, err := km.KeysByID(t.Context(), "", id)
			if err != nil || keys[0].ID() != id || keys[0].Reveal()[0] != byte(i) || keys[0].Size() != 32 {
				t.Errorf("%s: %v, %v, want the key that was written", id, keys, err)
			}
		}
	}
}
