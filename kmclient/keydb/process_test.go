package keydb

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/qkdmail/qkdmail/kmclient"
)

const childEnv = "KEYDB_TEST_CHILD"

// TestMain makes the test binary the child of TestKilled, where it says so: it
// makes keys, and prints the ID of each once it has it, until it is killed.
func TestMain(m *testing.M) {
	path := os.Getenv(childEnv)
	if path == "" {
		os.Exit(m.Run())
	}
	mock, err := NewMock(context.Background(), path)
	for err == nil {
		var keys []*kmclient.Key
		if keys, err = mock.GetKeys(context.Background(), "", 256, 1); err == nil {
			_, err = fmt.Println(keys[0].ID())
		}
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// Two processes make keys in one file until they are killed. No ID comes
// twice, and each key that a process has seen is there.
func TestKilled(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.db")
	var mu sync.Mutex
	seen := map[string]bool{}
	var all sync.WaitGroup
	for range 2 {
		all.Go(func() {
			child := exec.Command(os.Args[0])
			child.Env = append(os.Environ(), childEnv+"="+path)
			out, err := child.StdoutPipe()
			if err == nil {
				err = child.Start()
			}
			if err != nil {
				t.Error(err)
				return
			}
			lines := bufio.NewScanner(out)
			for n := 1; lines.Scan(); n++ {
				mu.Lock()
				if seen[lines.Text()] {
					t.Errorf("%s given out twice", lines.Text())
				}
				seen[lines.Text()] = true
				mu.Unlock()
				if n == 100 {
					_ = child.Process.Kill() // its last lines still come
				}
			}
			_ = child.Wait() // an error: it was killed
		})
	}
	all.Wait()
	if len(seen) < 200 {
		t.Errorf("%d keys only", len(seen))
	}
	m := newMock(t, path)
	for id := range seen {
		if _, err := m.KeysByID(t.Context(), "", id); err != nil {
			t.Errorf("%s: %v", id, err)
		}
	}
	stored := 0
	for _, err := range m.db.List(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		stored++
	}
	if counted := count(t, m.db, ""); counted != stored || stored > len(seen)+2 { // one each on its way
		t.Errorf("%d keys stored, %d counted, %d seen", stored, counted, len(seen))
	}
}

// How the file is written: durably, and deleted keys are overwritten.
func TestFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.db")
	db, err := Open(t.Context(), path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	for pragma, want := range map[string]string{"journal_mode": "wal", "synchronous": "2", "secure_delete": "1"} {
		var got any
		err := db.read(t.Context(), func(c conn) error { return c.Row([]any{&got}, "PRAGMA "+pragma) })
		if err != nil || fmt.Sprint(got) != want {
			t.Errorf("%s is %v (%v), want %s", pragma, got, err, want)
		}
	}
	keys := put(t, db, "", Grant{}, 20)
	for _, k := range keys[1:] {
		if err := db.Delete(t.Context(), "", k.ID()); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i, k := range keys {
		if bytes.Contains(text, k.Reveal()) != (i == 0) {
			t.Errorf("key %d of 20, of which all but the first were deleted, in the file: %v", i, i != 0)
		}
	}
	if _, err := os.Stat(path + "-wal"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the write-ahead log is still there (%v)", err)
	}
}
