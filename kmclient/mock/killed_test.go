package mock

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/qkdmail/qkdmail/kmclient/internal/fakekm"
)

// TestKilled kills two processes while they make keys in one file. Each key that a
// process received is there afterwards, and the file is usable.
func TestKilled(t *testing.T) {
	const variable = "MOCK_TEST_KILLED"
	if path := os.Getenv(variable); path != "" { // this is one of them
		for m := newMock(t, path); ; {
			fmt.Println(getKeys(t, m, 1)[0].ID())
		}
	}
	path := filepath.Join(t.TempDir(), "keys.json")
	ids := make(chan string)
	for range 2 {
		child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestKilled$")
		child.Env = append(os.Environ(), variable+"="+path)
		out, err := child.StdoutPipe()
		if err == nil {
			err = child.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			lines := bufio.NewScanner(out)
			for n := 1; lines.Scan(); n++ {
				ids <- lines.Text()
				if n == 50 {
					_ = child.Process.Kill() // its last lines still arrive
				}
			}
			_ = child.Wait() // an error: it was killed
			ids <- ""
		}()
	}
	seen := map[string]bool{}
	for ended := 0; ended < 2; {
		id := <-ids
		switch {
		case id == "":
			ended++
		case seen[id]:
			t.Errorf("%s was given out twice", id)
		}
		seen[id] = true
	}
	delete(seen, "")
	if len(seen) < 100 {
		t.Fatalf("%d keys were given out, want at least 100", len(seen))
	}
	m := newMock(t, path)
	for id := range seen {
		if _, err := m.KeysByID(t.Context(), "", id); err != nil {
			t.Errorf("%s: %v", id, err)
		}
	}
	// Each process may have one key under way: stored, but not given out.
	if s, err := m.Status(t.Context(), ""); err != nil || fakekm.Count(s.StoredKeys) > len(seen)+2 {
		t.Errorf("%d keys stored (%v), of which %d were given out", fakekm.Count(s.StoredKeys), err, len(seen))
	}
	getKeys(t, m, 1)
}
