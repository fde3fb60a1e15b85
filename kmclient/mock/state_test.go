package mock

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/qkdmail/qkdmail/kmclient"
)

// states returns the states of the keys in a mock's file.
func states(t *testing.T, m *KeyManager) (all []kmclient.State) {
	t.Helper()
	infos, err := m.ListKeys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, info := range infos {
		all = append(all, info.State)
	}
	return all
}

// The state of a key tells whether it was given out and fetched by its ID. Other
// processes see the same state.
func TestStates(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.json")
	keys := getKeys(t, newMock(t, path), 3)
	if keys[0].Info().State != kmclient.StateInUse {
		t.Errorf("a key that is given out is %s", keys[0].Info().State)
	}
	if got := states(t, newMock(t, path)); !slices.Equal(got, []kmclient.State{kmclient.StateInUse, kmclient.StateInUse, kmclient.StateInUse}) {
		t.Errorf("given out: %v", got)
	}
	for range 2 {
		got, err := newMock(t, path).KeysByID(t.Context(), "", keys[1].ID())
		if err != nil || got[0].Info().State != kmclient.StateUsed {
			t.Fatalf("a key that is fetched by its ID: %v, %v, want it used", got, err)
		}
	}
	if got := states(t, newMock(t, path)); !slices.Equal(got, []kmclient.State{kmclient.StateInUse, kmclient.StateUsed, kmclient.StateInUse}) {
		t.Errorf("the second fetched: %v", got)
	}
	for _, k := range keys {
		if err := newMock(t, path).CloseKey(t.Context(), k.ID()); err != nil {
			t.Fatal(err)
		}
	}
	if text, err := os.ReadFile(path); err != nil || strings.Contains(string(text), memberStates) {
		t.Errorf("all are closed, but the file says %s, %v", text, err)
	}
}

// Keys that another program put into the file stay as they are, and so does the file;
// nothing is made next to it either.
func TestStatesOfOthers(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "keys.json")
	text := `{"keys":{"a":"AAECAwQFBgcICQoLDA0ODw=="}}`
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	m := newMock(t, path)
	if _, err := m.KeysByID(t.Context(), "", "a"); err != nil {
		t.Fatal(err)
	}
	if got := states(t, m); !slices.Equal(got, []kmclient.State{kmclient.StateStored}) {
		t.Errorf("a key of another program is %v, want it stored", got)
	}
	got, err := os.ReadFile(path)
	if entries, _ := os.ReadDir(dir); err != nil || string(got) != text || len(entries) != 1 {
		t.Errorf("the file was touched: %s, %v, %v", got, entries, err)
	}
	getKeys(t, m, 1)
	if got := states(t, m); !slices.Equal(got, []kmclient.State{kmclient.StateStored, kmclient.StateInUse}) {
		t.Errorf("next to one of our own: %v", got)
	}
	// A file that the reference system has written has no states any more.
	text = `{"keys":{"a":"AAECAwQFBgcICQoLDA0ODw=="},"key_states":{"gone":"used"}}`
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := states(t, newMock(t, path)); !slices.Equal(got, []kmclient.State{kmclient.StateStored}) {
		t.Errorf("with the state of a key that is not there: %v", got)
	}
}

// Keys are returned even if their state can't be written.
func TestStateNotNoted(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.json")
	m := newMock(t, path)
	k := getKeys(t, m, 1)[0]
	if err := os.MkdirAll(path+".tmp/full", 0o700); err != nil { // no file can be renamed to path
		t.Fatal(err)
	}
	if got, err := m.KeysByID(t.Context(), "", k.ID()); err != nil || !bytes.Equal(got[0].Reveal(), k.Reveal()) {
		t.Errorf("%v, %v, want the key", got, err)
	}
	if got := states(t, m); !slices.Equal(got, []kmclient.State{kmclient.StateInUse}) {
		t.Errorf("not noted: %v", got)
	}
}
