package keydb

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/qkdmail/qkdmail/kmclient"
)

func states(t *testing.T, m *Mock) (all []kmclient.State) {
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

// As mock.KeyManager: in_use when a key was handed out, used when somebody has
// fetched it by its ID, stored when it was imported.
func TestMockStates(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.db")
	m, err := NewMock(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if _, err := m.db.Import(t.Context(), strings.NewReader(`{"keys":{"a":"AAECAwQFBgcICQoLDA0ODw=="}}`)); err != nil {
		t.Fatal(err)
	}
	keys, err := m.GetKeys(t.Context(), "", 256, 2)
	if err != nil || keys[0].Info().State != kmclient.StateInUse {
		t.Fatalf("%v, %v, want keys in use", keys, err)
	}
	want := []kmclient.State{kmclient.StateStored, kmclient.StateInUse, kmclient.StateInUse}
	if got := states(t, m); !slices.Equal(got, want) {
		t.Errorf("handed out: %v, want %v", got, want)
	}
	for range 2 {
		got, err := m.KeysByID(t.Context(), "", keys[1].ID(), "a")
		if err != nil || got[0].Info().State != kmclient.StateUsed {
			t.Fatalf("fetched by ID: %v, %v, want it used", got, err)
		}
	}
	want[2] = kmclient.StateUsed
	if got := states(t, m); !slices.Equal(got, want) {
		t.Errorf("the last was fetched: %v, want %v", got, want)
	}
}

// A file of the first version keeps its keys; where they stand is not known.
func TestMigrateStates(t *testing.T) {
	schema, err := os.ReadFile("schema1.sql")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "keys.db")
	raw(t, path, fmt.Sprintf(`%s; PRAGMA application_id=%d; PRAGMA user_version=1; INSERT INTO pools VALUES (1, '', 1);
		INSERT INTO keys VALUES (1, 'a', 'a', 1, '', 0, 0, x'000102030405060708090a0b0c0d0e0f')`, schema, format().Application))
	m, err := NewMock(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if k, err := m.KeysByID(t.Context(), "", "a"); err != nil || k[0].Size() != 128 {
		t.Errorf("a key of the first version: %v, %v", k, err)
	}
	if _, err := m.GetKeys(t.Context(), "", 256, 1); err != nil {
		t.Error(err)
	}
	if got := states(t, m); !slices.Equal(got, []kmclient.State{kmclient.StateStored, kmclient.StateInUse}) {
		t.Errorf("%v, want the old key stored and the new one in use", got)
	}
}
