package postgres_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/keystore"
	"github.com/qkdmail/qkdmail/kmclient/keystore/internal/engine"
	"github.com/qkdmail/qkdmail/kmclient/keystore/internal/storetest"
	"github.com/qkdmail/qkdmail/kmclient/keystore/postgres"
)

// childEnv makes the test binary a child of TestProcesses; it holds the URL of a store
// and the file of its store key.
const childEnv = "POSTGRES_TEST_CHILD"

func TestMain(m *testing.M) {
	if url, key, found := strings.Cut(os.Getenv(childEnv), " "); found {
		if err := bindChild(url, key); err != nil {
			fmt.Println("error", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	code := m.Run()
	one.Stop()
	os.Exit(code)
}

// bindChild reads key IDs and binds the keys to its own messages, all at the same time.
func bindChild(url, key string) error {
	s, err := postgres.Open(context.Background(), postgres.Options{URL: url})
	if err != nil {
		return err
	}
	m, err := storeIn(s, key)
	if err != nil {
		return err
	}
	own := storetest.Identity(uuid.NewString())
	var all sync.WaitGroup
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		id := lines.Text()
		all.Go(func() {
			keys, err := m.KeysByID(context.Background(), "A", id)
			if err == nil {
				kmclient.WipeAll(keys)
				err = m.BindKeys(context.Background(), "A", own, 0, id)
			}
			word := "opened"
			if errors.Is(err, keystore.ErrBound) {
				word = "refused"
			} else if err != nil {
				word = "error " + err.Error()
			}
			_, _ = os.Stdout.WriteString(word + " " + id + "\n") // in one write
		})
	}
	all.Wait()
	return nil
}

// Each process verifies its own messages under the same keys, at the same time: only
// one of them may open a message with each key.
func TestProcesses(t *testing.T) {
	const processes, keys = 3, 200
	url := newSchema(t, shared(t))
	key := filepath.Join(t.TempDir(), "store.key")
	if _, err := storeIn(openEngine(t, url), key); err != nil {
		t.Fatal(err)
	}
	var ids strings.Builder
	for range keys {
		fmt.Fprintln(&ids, uuid.NewString())
	}
	var mu sync.Mutex
	opened := map[string]int{}
	refusals, won := 0, [processes]int{}
	var all sync.WaitGroup
	for p := range processes {
		out := startChild(t, url+" "+key, ids.String())
		all.Go(func() {
			for lines := bufio.NewScanner(out); lines.Scan(); {
				word, id, _ := strings.Cut(lines.Text(), " ")
				mu.Lock()
				switch word {
				case "opened":
					opened[id]++
					won[p]++
				case "refused":
					refusals++
				default:
					t.Error(lines.Text())
				}
				mu.Unlock()
			}
		})
	}
	all.Wait()
	for id, n := range opened {
		if n != 1 {
			t.Errorf("key %s has opened %d messages", id, n)
		}
	}
	if len(opened) != keys || refusals != (processes-1)*keys {
		t.Errorf("%d keys have opened a message, and %d were refused", len(opened), refusals)
	}
	t.Logf("keys that went to each process: %v", won)
}

// startChild starts a child with an input, and returns its output.
func startChild(t *testing.T, env, in string) io.Reader {
	t.Helper()
	child := exec.CommandContext(t.Context(), os.Args[0])
	child.Env = append(os.Environ(), childEnv+"="+env)
	child.Stdin, child.Stderr = strings.NewReader(in), os.Stderr
	out, err := child.StdoutPipe()
	if err == nil {
		err = child.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = child.Wait() })
	return out
}

// A record can be changed even if many others check it all the time.
func TestCheckedAllTheTime(t *testing.T) {
	url := newSchema(t, shared(t))
	s, other := openEngine(t, url), openEngine(t, url)
	put(t, s, "guard")
	guard := get(t, s, "guard")
	ctx, stop := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for i := range 16 {
		all.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				fresh := engine.Change{New: record(fmt.Sprint(i, "-", n), "v")}
				if err := other.Apply(ctx, fresh, engine.Change{Old: guard, New: guard}); errors.Is(err, engine.ErrConflict) {
					return
				}
			}
		})
	}
	time.Sleep(time.Second / 2)
	start := time.Now()
	if err := s.Apply(t.Context(), engine.Change{Old: guard, New: record("guard", "2")}); err != nil {
		t.Error(err)
	}
	t.Logf("it took %v", time.Since(start))
	stop()
	all.Wait()
}
