package crashtest

import (
	"bytes"
	"database/sql"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/qkdmail/qkdmail/cmd/internal/relaytest"
)

// A fault is something wrong with a store for a while.
type fault struct {
	name  string
	side  string // of the relay
	mount bool   // the store is on a disk of its own
	down  bool   // the relay is not running when the fault begins, and can't start while it lasts
	begin func(testing.TB, *place)
	end   func(testing.TB, *place)
	inLog string // what the relay logs
}

// A place is where a store is.
type place struct {
	dir, file string
	saved     []byte // of the file
	unlock    func()
}

func faults() []fault {
	return []fault{
		{name: "disk full", side: decrypt, mount: true, begin: fillDisk, end: emptyDisk, inLog: "the disk is full"},
		{name: "disk full", side: encrypt, mount: true, begin: fillDisk, end: emptyDisk, inLog: "the disk is full"},
		{name: "locked", side: decrypt, begin: takeLock, end: freeLock, inLog: "it stays locked by another process"},
		{name: "locked", side: encrypt, begin: takeLock, end: freeLock, inLog: "it stays locked by another process"},
		{name: "read-only", side: decrypt, mount: true, down: true, begin: remount("ro"), end: remount("rw"), inLog: "can't be written"},
		{name: "read-only", side: encrypt, mount: true, down: true, begin: remount("ro"), end: remount("rw"), inLog: "can't be written"},
		{name: "beginning damaged", side: decrypt, down: true, begin: damage(0, 4096), end: restore, inLog: "its beginning is damaged"},
		{name: "damaged", side: decrypt, down: true, begin: damage(4096, 1<<30), end: restore, inLog: "it is damaged"},
		{name: "emptied", side: decrypt, down: true, begin: damage(0, 0), end: restore, inLog: "empty, but it was not made empty"},
	}
}

// TestStoreFaults breaks a relay's store: the sender is asked to try again, the
// log says what is wrong, no more keys are fetched, and every message arrives
// once the store works again.
func TestStoreFaults(t *testing.T) {
	for _, f := range faults() {
		t.Run(f.side+", "+f.name, func(t *testing.T) {
			t.Parallel() // most of it is waiting
			f.run(t)
		})
	}
}

func (f *fault) run(t *testing.T) {
	p := &place{dir: t.TempDir()}
	if f.mount {
		mountDisk(t, p.dir)
	}
	broken := inSQLite(p.dir)
	p.file = broken.url
	s := stores{encrypt: broken, decrypt: inSQLite(t.TempDir())}
	if f.side == decrypt {
		s.encrypt, s.decrypt = s.decrypt, s.encrypt
	}
	w := newWorld(t, 1, "", 1, 1, s)
	logAtEnd(t, w.relays)
	relay, mta := w.relays[0], w.sender
	if f.side == decrypt {
		relay, mta = w.relays[1], w.wire
	}
	const some = 15
	for n := range some {
		w.submit(n)
	}
	relaytest.Await(t, time.Minute, "all arrived before", w.done)

	if f.down {
		relay.stop()
	}
	f.begin(t, p)
	if f.down {
		if err := relay.start(); err != nil {
			t.Fatal(err)
		}
	}
	arrived := w.recipientsReached()
	reply := storeFails
	if f.down {
		reply = "" // nobody answers
	}
	sent := some
	relaytest.Await(t, time.Minute, f.inLog, func() bool {
		if sent < 10*some { // there may still be room for the first ones
			w.submit(sent)
			sent++
		}
		return strings.Contains(relay.log(), f.inLog) && mta.replied(reply) > 0
	})
	time.Sleep(time.Second) // for messages in progress
	given := w.link.handed()
	time.Sleep(time.Second)
	if n := w.link.handed() - given; n > 0 {
		t.Errorf("%d keys were fetched that can't be stored", n)
	}
	if n := w.recipientsReached() - arrived; n > 0 && f.side == decrypt {
		t.Errorf("%d recipients got a message whose delivery can't be recorded", n)
	}
	f.end(t, p)
	relaytest.Await(t, time.Minute, "all arrived", w.done)
	for _, r := range w.relays {
		r.stop()
	}
	w.conclude(t)
}

// mountDisk mounts a small disk at a folder.
func mountDisk(t testing.TB, dir string) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("SKIPPED: only root can mount a small disk")
	}
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", dir).CombinedOutput(); err != nil {
		t.Skipf("SKIPPED: a small disk can't be mounted here: %v: %s", err, out)
	}
	relaytest.AtEnd(t, "umount -l "+dir)
}

func fillDisk(t testing.TB, p *place) {
	t.Helper()
	if err := checkpoint(p.file); err != nil { // otherwise there would be room in the log
		t.Fatal(err)
	}
	f, err := os.Create(filepath.Join(p.dir, "filler"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	for err == nil {
		_, err = f.Write(make([]byte, 4096))
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
}

// checkpoint empties the write-ahead log.
func checkpoint(file string) error {
	db, err := sql.Open("sqlite", "file:"+file+"?_pragma=busy_timeout(10000)")
	if err == nil {
		_, err = db.Exec("PRAGMA wal_checkpoint(TRUNCATE)")
	}
	return errors.Join(err, db.Close())
}

func emptyDisk(t testing.TB, p *place) {
	t.Helper()
	if err := os.Remove(filepath.Join(p.dir, "filler")); err != nil {
		t.Fatal(err)
	}
}

func remount(how string) func(testing.TB, *place) {
	return func(t testing.TB, p *place) {
		t.Helper()
		if out, err := exec.Command("mount", "-o", "remount,"+how, p.dir).CombinedOutput(); err != nil {
			t.Fatalf("remount: %v: %s", err, out)
		}
	}
}

func takeLock(t testing.TB, p *place) {
	t.Helper()
	var err error
	if p.unlock, err = lockSQLite(p.file, 10*time.Second); err != nil {
		t.Fatal(err)
	}
}

func freeLock(_ testing.TB, p *place) { p.unlock() }

// damage overwrites part of the file; with an empty range it empties the file.
func damage(from, to int) func(testing.TB, *place) {
	return func(t testing.TB, p *place) {
		t.Helper()
		var err error
		if p.saved, err = os.ReadFile(p.file); err != nil {
			t.Fatal(err)
		}
		text := bytes.Clone(p.saved)
		for i := from; i < min(to, len(text)); i++ {
			text[i] = byte(i * 7)
		}
		if to == 0 {
			text = nil
		}
		if err := os.WriteFile(p.file, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// restore writes back the original contents.
func restore(t testing.TB, p *place) {
	t.Helper()
	if err := os.WriteFile(p.file, p.saved, 0o600); err != nil {
		t.Fatal(err)
	}
}

// recipientsReached counts deliveries.
func (w *world) recipientsReached() (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, m := range w.messages {
		for _, times := range m.arrived {
			n += times
		}
	}
	return n
}
