package sqlite_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/keystore"
	"github.com/qkdmail/qkdmail/kmclient/keystore/internal/storetest"
	"github.com/qkdmail/qkdmail/kmclient/keystore/sqlite"
)

// A trouble is a store that can't be written, with one message received and one under
// way.
type trouble struct {
	*testing.T
	path      string
	store     *keystore.Store
	engine    *sqlite.Engine
	km        *storetest.Link
	asked     int // how often the key manager was asked for receiving keys
	fetched   string
	bound     string
	wait      time.Duration // for a lock
	temporary func(error)
}

// newTrouble makes the store in a folder. temporary judges the errors.
func newTrouble(t *testing.T, dir string, wait time.Duration, words string) *trouble {
	t.Helper()
	x := &trouble{T: t, path: filepath.Join(dir, "keys.db"), wait: wait, fetched: uuid.NewString(), bound: uuid.NewString()}
	x.km = &storetest.Link{Gone: func(string) bool { x.asked++; return false }, Fresh: uuid.NewString}
	x.temporary = func(err error) {
		t.Helper()
		wantTemporary(t, err, words)
	}
	x.start()
	for _, id := range []string{x.fetched, x.bound} {
		x.get(id)
	}
	if err := x.store.BindKeys(t.Context(), "A", storetest.Identity("bound"), 0, x.bound); err != nil {
		t.Fatal(err)
	}
	if err := x.engine.Compact(t.Context()); err != nil { // so that there is no space in the log
		t.Fatal(err)
	}
	return x
}

func (x *trouble) start() {
	x.Helper()
	var err error
	if x.store, x.engine, err = openWith(x.path, sqlite.Options{Wait: x.wait}, x.km, nil); err != nil {
		x.Fatal(err)
	}
	x.Cleanup(func() { _ = x.store.Close(context.Background()) })
}

// get checks that a key is there.
func (x *trouble) get(id string) {
	x.Helper()
	keys, err := x.store.KeysByID(x.Context(), "A", id)
	if err != nil || !bytes.Equal(keys[0].Reveal(), storetest.KeyBytes(id)) {
		x.Errorf("key %s: %v", id, err)
	}
}

// refuses checks that every change is refused for now and nothing is lost. It returns a
// key that was fetched meanwhile.
func (x *trouble) refuses() (waiting string) {
	x.Helper()
	ctx := x.Context()
	waiting = uuid.NewString()
	asked := x.asked
	for range 3 {
		_, err := x.store.KeysByID(ctx, "A", waiting)
		x.temporary(err)
		_, err = x.store.KeysByID(ctx, "A", uuid.NewString())
		x.temporary(err)
	}
	if s := x.store.Stats(); x.asked != asked+1 || s.Waiting != 1 {
		x.Errorf("%d keys fetched and %d waiting, want one: no more is fetched before that is stored", x.asked-asked, s.Waiting)
	}
	x.temporary(x.store.BindKeys(ctx, "A", storetest.Identity("fetched"), 0, x.fetched))
	x.temporary(x.store.RecordDelivered(ctx, "A", storetest.Identity("bound"), x.bound, "a@x"))
	x.temporary(x.store.CloseKey(ctx, x.fetched))
	x.temporary(x.store.Sweep(ctx))
	for range 2 {
		keys, err := x.store.GetKeys(ctx, "A", 256, 1)
		if x.temporary(err); keys != nil {
			x.Error("a sending key was returned although its ID is not stored")
		}
	}
	// Existing keys can still be read.
	x.get(x.fetched)
	x.get(x.bound)
	if has, err := x.store.Delivered(ctx, "A", storetest.Identity("bound"), x.bound, "a@x"); err != nil || has[0] {
		x.Errorf("%v, %v", has, err)
	}
	return waiting
}

// recovers checks that every change is made now, and stays.
func (x *trouble) recovers(waiting string) {
	x.Helper()
	ctx := x.Context()
	err := errors.Join(
		x.store.BindKeys(ctx, "A", storetest.Identity("fetched"), 0, x.fetched),
		x.store.RecordDelivered(ctx, "A", storetest.Identity("bound"), x.bound, "a@x"),
		x.store.Sweep(ctx), // stores the waiting key
		x.engine.Check(ctx))
	if err != nil {
		x.Error(err)
	}
	if _, err := x.store.GetKeys(ctx, "A", 256, 1); err != nil {
		x.Error(err)
	}
	if s := x.store.Stats(); s.Waiting != 0 {
		x.Errorf("%d keys still wait", s.Waiting)
	}
	if err := x.engine.Close(); err != nil {
		x.Error(err)
	}
	x.km.Gone = func(string) bool { return true }
	x.start()
	for _, id := range []string{x.fetched, x.bound, waiting} {
		x.get(id)
	}
	if has, err := x.store.Delivered(ctx, "A", storetest.Identity("bound"), x.bound, "a@x", "b@x"); err != nil || !has[0] || has[1] {
		x.Errorf("%v, %v", has, err)
	}
}

func TestDiskFull(t *testing.T) {
	dir := smallDisk(t)
	x := newTrouble(t, dir, 0, "the disk is full")
	free := fillDisk(t, dir)
	waiting := x.refuses()
	wantTemporary(t, x.engine.Backup(t.Context(), filepath.Join(dir, "copy.db")), "the disk is full")
	if _, err := sqlite.Open(t.Context(), filepath.Join(dir, "other.db"), sqlite.Options{}); err == nil {
		t.Error("a new file on a full disk")
	}
	free()
	if names, err := filepath.Glob(filepath.Join(dir, ".*")); err != nil || len(names) > 0 {
		t.Errorf("left behind: %v, %v", names, err)
	}
	if err := x.engine.Backup(t.Context(), filepath.Join(dir, "copy.db")); err != nil {
		t.Error(err)
	}
	x.recovers(waiting)
}

// Another process holds the lock for longer than this one waits.
func TestLocked(t *testing.T) {
	x := newTrouble(t, t.TempDir(), 20*time.Millisecond, "locked by another process")
	release := lockFile(t, x.path)
	waiting := x.refuses()
	if _, err := sqlite.Open(t.Context(), x.path, sqlite.Options{Wait: 20 * time.Millisecond}); err == nil {
		t.Error("opened, although the schema could not be checked")
	} else {
		x.temporary(err)
	}
	release()
	x.recovers(waiting)
}

// A process that ends while nothing can be written reports what it loses.
func TestLockedToTheEnd(t *testing.T) {
	x := newTrouble(t, t.TempDir(), 20*time.Millisecond, "locked by another process")
	release := lockFile(t, x.path)
	defer release()
	waiting := x.refuses()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := x.store.Close(ctx); !errors.Is(err, kmclient.ErrStore) {
		t.Errorf("got %v, want an error with key %s", err, waiting)
	}
}

// The file system is mounted read-only, or another user owns the file and its folder:
// nothing is opened, and nothing is lost.
func TestReadOnly(t *testing.T) {
	dir := t.TempDir()
	protect := func(on bool) {
		t.Helper()
		modes := [2]os.FileMode{0o600, 0o700}
		if on {
			modes = [2]os.FileMode{0o400, 0o500}
		}
		if err := errors.Join(os.Chmod(filepath.Join(dir, "keys.db"), modes[0]), os.Chmod(dir, modes[1])); err != nil {
			t.Fatal(err)
		}
	}
	if os.Geteuid() == 0 { // root may write to any file
		dir = smallDisk(t)
		protect = func(on bool) { remount(t, dir, on) }
	}
	x := newTrouble(t, dir, 0, "can't be written")
	if err := x.engine.Close(); err != nil {
		t.Fatal(err)
	}
	protect(true)
	_, err := sqlite.Open(t.Context(), x.path, sqlite.Options{})
	x.temporary(err)
	if _, err := sqlite.Open(t.Context(), filepath.Join(dir, "new.db"), sqlite.Options{}); !errors.Is(err, kmclient.ErrStore) {
		t.Error(err)
	}
	protect(false)
	x.km.Gone = func(string) bool { return true }
	x.start()
	x.get(x.fetched)
	x.get(x.bound)
}

func TestModes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "keys.db")
	store, _ := newStore(t, path, &storetest.Link{})
	if _, err := store.KeysByID(t.Context(), "A", "x"); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]os.FileMode{"": 0o600, "-wal": 0o600, "-shm": 0o600, ".key": 0o600} {
		if info, err := os.Stat(path + name); err != nil || info.Mode() != want {
			t.Errorf("keys.db%s: %v, %v", name, info, err)
		}
	}
	if info, err := os.Stat(filepath.Dir(path)); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("folder: %v, %v", info, err)
	}
}
