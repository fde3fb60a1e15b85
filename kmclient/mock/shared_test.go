package mock

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"sync"
	"testing"

	"github.com/qkdmail/qkdmail/kmclient/internal/fakekm"
)

// TestGoroutines lets goroutines share two mocks on one file.
func TestGoroutines(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.json")
	mocks := []*KeyManager{newMock(t, path), newMock(t, path)}
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 5 {
				keys, err := mocks[i%2].GetKeys(t.Context(), "", 256, 2)
				if err != nil {
					t.Errorf("GetKeys: %v", err)
					return
				}
				if err := mocks[1-i%2].CloseKey(t.Context(), keys[0].ID()); err != nil {
					t.Errorf("CloseKey: %v", err)
				}
			}
		})
	}
	wg.Wait()
	if s, err := mocks[0].Status(t.Context(), ""); err != nil || fakekm.Count(s.StoredKeys) != 40 {
		t.Errorf("80 keys less 40 closed are %d (%v)", fakekm.Count(s.StoredKeys), err)
	}
}

// TestProcesses lets several processes share one file: no key may be lost, and no ID
// given out twice.
func TestProcesses(t *testing.T) {
	const processes, calls = 5, 12
	if path := os.Getenv("KMCLIENT_TEST_MOCK"); path != "" { // this is one of them
		m := newMock(t, path)
		for range calls {
			for _, k := range getKeys(t, m, 2) {
				fmt.Printf("id %s %x\n", k.ID(), sha256.Sum256(k.Reveal()))
			}
		}
		return
	}
	path := filepath.Join(t.TempDir(), "keys.json")
	var commands []*exec.Cmd
	var outputs [processes]bytes.Buffer
	for i := range processes {
		c := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestProcesses$")
		c.Env = append(os.Environ(), "KMCLIENT_TEST_MOCK="+path)
		c.Stdout, c.Stderr = &outputs[i], &outputs[i]
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		commands = append(commands, c)
	}
	givenOut := map[string]string{}
	for i, c := range commands {
		if err := c.Wait(); err != nil {
			t.Fatalf("process %d: %v\n%s", i, err, &outputs[i])
		}
		for _, m := range regexp.MustCompile(`(?m)^id (\S+) (\S+)$`).FindAllStringSubmatch(outputs[i].String(), -1) {
			if _, twice := givenOut[m[1]]; twice {
				t.Errorf("%s was given out twice", m[1])
			}
			givenOut[m[1]] = m[2]
		}
	}
	if want := processes * calls * 2; len(givenOut) != want {
		t.Fatalf("%d keys were given out, want %d", len(givenOut), want)
	}
	keys, err := newMock(t, path).KeysByID(t.Context(), "", slices.Collect(maps.Keys(givenOut))...)
	if err != nil {
		t.Fatalf("a key that was given out is lost: %v", err)
	}
	for _, k := range keys {
		if fmt.Sprintf("%x", sha256.Sum256(k.Reveal())) != givenOut[k.ID()] {
			t.Errorf("%s is not the key that was given out", k.ID())
		}
	}
}
