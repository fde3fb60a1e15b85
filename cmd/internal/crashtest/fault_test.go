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

	"github.com/qkdmail/qkdmail/kmclient/keystore"
)

// A fault is something that is wrong with a store for a while.
type fault struct {
	name  string
	side  string // of the relay
	mount bool   // the store is on a disk of its own
	down  bool   // the relay was not running when it began, and does not run with it
	begin func(testing.TB, *place)
	end   func(testing.TB, *place)
	inLog string // what the relay says in its log
}

// A place is where a store is.
type place struct {
	dir, file string
	saved     []byte  // of the file
	lock      *sql.Tx // that others wait for
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
		{name: "emptied", side: decrypt, down: true, begin: damage(0, 0), end: restore, inLog: "empty, which it never is from the beginning"},
	}
}

// TestStoreFaults has something wrong with the store of a relay: the sender is
// told to try again, the log says what is wrong, no more keys are fetched, and
// once it is right again every message arrives.
func TestStoreFaults(t *testing.T) {
	for _, f := range faults() {
		t.Run(f.side+", "+f.name, func(t *testing.T) {
			t.Parallel() // most of it is waiting
			f.run(t)
		})
	}
}

func (f *fault) run(t *testing.T) {
	dirs := map[string]string{encrypt: t.TempDir(), decrypt: t.TempDir()}
	if f.mount {
		mountDisk(t, dirs[f.side])
	}
	p := &place{dir: dirs[f.side], file: filepath.Join(dirs[f.side], "keys.db")}
	file := func(side string) string { return filepath.Join(dirs[side], "keys.db") }
	w := newWorld(t, 1, "", 1, 1, stores{storeOf{url: file(encrypt)}, storeOf{url: file(decrypt)}})
	tellAtEnd(t, w.relays)
	relay, mta := w.relays[0], w.sender
	if f.side == decrypt {
		relay, mta = w.relays[1], w.wire
	}
	const some = 15
	for n := range some {
		w.submit(n)
	}
	await(t, time.Minute, "all arrived before", w.done)

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
	told := storeFails
	if f.down {
		told = "" // nobody answers
	}
	sent := some
	await(t, time.Minute, f.inLog, func() bool {
		if sent < 10*some { // the first may still find room
			w.submit(sent)
			sent++
		}
		return strings.Contains(relay.log(), f.inLog) && mta.told(told) > 0
	})
	time.Sleep(time.Second) // for what is under way
	given := w.link.handed()
	time.Sleep(time.Second)
	if n := w.link.handed() - given; n > 0 {
		t.Errorf("%d keys were fetched that can't be stored", n)
	}
	if n := w.recipientsReached() - arrived; n > 0 && f.side == decrypt {
		t.Errorf("%d recipients got a message whose delivery can't be recorded", n)
	}
	f.end(t, p)
	await(t, time.Minute, "all arrived", w.done)
	for _, r := range w.relays {
		r.stop()
	}
	w.conclude(t, idsIn(t, openSQLite(t, file(encrypt)), keystore.KindClaim), idsIn(t, openSQLite(t, file(decrypt)), keystore.KindReceive))
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
	// Also where this process is killed: the pipe is closed then.
	end := exec.Command("sh", "-c", `read _; umount -l "$0"`, dir)
	end.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	pipe, err := end.StdinPipe()
	if err == nil {
		err = end.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = pipe.Close()
		_ = end.Wait()
	})
}

func fillDisk(t testing.TB, p *place) {
	t.Helper()
	if err := checkpoint(p.file); err != nil { // else there is room in the log
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
	db, err := sql.Open("sqlite", "file:"+p.file+"?_txlock=immediate&_pragma=busy_timeout(10000)")
	if err == nil {
		p.lock, err = db.Begin()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
}

func freeLock(t testing.TB, p *place) {
	t.Helper()
	if err := p.lock.Rollback(); err != nil {
		t.Fatal(err)
	}
}

// damage overwrites a part of the file; one of no octets empties it.
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

// restore writes back what was there, if the relay has left the damaged file
// alone.
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
