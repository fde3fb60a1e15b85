package sqlite_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/keystore"
	"github.com/qkdmail/qkdmail/kmclient/keystore/internal/storetest"
)

func uuidOf(b []byte) string { return uuid.UUID(b).String() }

const (
	childEnv = "KEYSTORE_TEST_CHILD"
	killsEnv = "KEYSTORE_TEST_KILLS" // how often TestKilled kills; if unset, 200 times or for 10 seconds
)

// TestMain runs the test binary as a child of a test if the environment says so.
func TestMain(m *testing.M) {
	how, path, found := strings.Cut(os.Getenv(childEnv), " ")
	if !found {
		os.Exit(m.Run())
	}
	switch how {
	case "receive":
		childReceive(path)
	case "bind":
		childBind(path)
	}
	os.Exit(0)
}

// startChild starts a child that works on the file at path.
func startChild(t *testing.T, how, path string) (*exec.Cmd, io.Writer, *bufio.Scanner) {
	t.Helper()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), childEnv+"="+how+" "+path)
	child.Stderr = os.Stderr
	in, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := child.StdoutPipe()
	if err == nil {
		err = child.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	return child, in, bufio.NewScanner(out)
}

// say prints a line in one write.
func say(words ...any) { _, _ = os.Stdout.WriteString(fmt.Sprintln(words...)) }

// childReceive receives, in two sessions, until it is killed. It says "gives" before a
// key manager that deletes on delivery gives out a key, "has" when the caller has the
// key, "bound" when it is bound, and "sends" when an ID is claimed.
func childReceive(path string) {
	km := &storetest.Link{Gone: func(id string) bool { say("gives", id); return false }, Fresh: uuid.NewString}
	store, _, err := open(path, km, nil)
	if err != nil {
		say("error", err)
		return
	}
	ctx := context.Background()
	var all sync.WaitGroup
	for range 2 {
		all.Go(func() {
			for {
				ids := []string{uuid.NewString(), uuid.NewString()}
				keys, err := store.KeysByID(ctx, "A", ids...)
				if err != nil {
					say("error", err)
					return
				}
				for _, k := range keys {
					say("has", k.ID())
				}
				if err := store.BindKeys(ctx, "A", storetest.Identity(ids[0]), 0, ids...); err != nil {
					say("error", err)
					return
				}
				say("bound", ids[0])
				if sent, err := store.GetKeys(ctx, "A", 256, 3); err == nil {
					say("sends", sent[2].ID())
				}
				if err := store.RecordDelivered(ctx, "A", storetest.Identity(ids[0]), ids[0], "a@x"); err == nil {
					say("delivered", ids[0])
				}
			}
		})
	}
	all.Go(func() {
		for store.Sweep(ctx) == nil {
			time.Sleep(time.Millisecond)
		}
	})
	all.Wait()
}

// Receiving children are killed at random moments. Whatever one of them has printed is
// in the store: keys, bindings, claims and deliveries.
func TestKilled(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: takes long, and this is -short")
	}
	most, long := 200, 10*time.Second
	if n, err := strconv.Atoi(os.Getenv(killsEnv)); err == nil {
		most, long = n, 24*time.Hour
	}
	path := dbPath(t)
	said := map[string][]string{}
	given, kills := 0, 0
	for start := time.Now(); kills < most && time.Since(start) < long; kills++ {
		child, _, lines := startChild(t, "receive", path)
		wait := 3 + rand.IntN(40)
		for n := 0; lines.Scan(); n++ {
			word, rest, _ := strings.Cut(lines.Text(), " ")
			if word == "error" {
				t.Error(rest)
			}
			if word == "gives" {
				given++
			} else {
				said[word] = append(said[word], rest)
			}
			if n == wait {
				time.Sleep(time.Duration(rand.IntN(1500)) * time.Microsecond)
				_ = child.Process.Kill() // its last lines still arrive
			}
		}
		_ = child.Wait() // an error: it was killed
	}
	t.Logf("%d kills, %d keys given out, %d returned, %d messages bound, %d delivered",
		kills, given, len(said["has"]), len(said["bound"]), len(said["delivered"]))
	if len(said["has"]) < kills || len(said["delivered"]) < kills/4 {
		t.Error("too little was done: this proves nothing")
	}
	checkSaid(t, path, said)
}

func checkSaid(t *testing.T, path string, said map[string][]string) {
	asked := ""
	km := &storetest.Link{Gone: func(id string) bool { asked = id; return true }}
	store, e := newStore(t, path, km)
	if err := e.Check(t.Context()); err != nil {
		t.Error(err)
	}
	for _, id := range said["has"] {
		keys, err := store.KeysByID(t.Context(), "A", id)
		if err != nil || !bytes.Equal(keys[0].Reveal(), storetest.KeyBytes(id)) {
			t.Errorf("key %s, which was returned: %v", id, err)
		}
	}
	for _, id := range said["bound"] {
		if err := store.BindKeys(t.Context(), "A", storetest.Identity("another"), 0, id); !errors.Is(err, keystore.ErrBound) {
			t.Errorf("key %s, which was bound: %v", id, err)
		}
	}
	for _, id := range said["delivered"] {
		if has, err := store.Delivered(t.Context(), "A", storetest.Identity(id), id, "a@x"); err != nil || !has[0] {
			t.Errorf("key %s, whose message was delivered: %v, %v", id, has, err)
		}
	}
	for _, id := range said["sends"] {
		km.Fresh = func() string { return id }
		if _, err := store.GetKeys(t.Context(), "A", 256, 1); !errors.Is(err, keystore.ErrReused) {
			t.Errorf("sending key %s was given out a second time: %v", id, err)
		}
	}
	if asked != "" {
		t.Errorf("the key manager was asked for %s", asked)
	}
}

// childBind reads key IDs and binds the keys to its own messages.
func childBind(path string) {
	store, _, err := open(path, &storetest.Link{}, nil)
	if err != nil {
		say("error", err)
		return
	}
	own := storetest.Identity(uuid.NewString())
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		id := lines.Text()
		keys, err := store.KeysByID(context.Background(), "A", id)
		if err == nil {
			kmclient.WipeAll(keys)
			err = store.BindKeys(context.Background(), "A", own, 0, id)
		}
		switch {
		case err == nil:
			say("opened", id)
		case errors.Is(err, keystore.ErrBound):
			say("refused", id)
		default:
			say("error", err)
		}
	}
}

// Two processes each verify their own message under the same key, at the same moment,
// again and again: only one of them may open it.
func TestBindProcesses(t *testing.T) {
	const keys = 300
	path := dbPath(t)
	newStore(t, path, &storetest.Link{})
	var in [2]io.Writer
	var children [2]*exec.Cmd
	var lines [2]*bufio.Scanner
	for i := range in {
		children[i], in[i], lines[i] = startChild(t, "bind", path)
	}
	won := [2]int{}
	for n := range keys {
		id := uuidOf(storetest.KeyBytes(fmt.Sprint(n))[:16])
		for i := range in {
			if _, err := fmt.Fprintln(in[i], id); err != nil {
				t.Fatal(err)
			}
		}
		opened := 0
		for i := range in {
			lines[i].Scan()
			switch lines[i].Text() {
			case "opened " + id:
				opened++
				won[i]++
			case "refused " + id:
			default:
				t.Fatalf("child %d: %q", i, lines[i].Text())
			}
		}
		if opened != 1 {
			t.Errorf("key %s has opened %d messages", id, opened)
		}
	}
	for i := range in {
		_ = in[i].(io.Closer).Close()
		_ = children[i].Wait()
	}
	t.Logf("%d keys went to one process and %d to the other", won[0], won[1])
}
