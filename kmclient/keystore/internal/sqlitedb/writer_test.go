package sqlitedb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/qkdmail/qkdmail/kmclient"
)

var errRefused = errors.New("refused")

// hold keeps the writer busy until the function that it returns is called.
func (db *DB) hold(t *testing.T) (release func()) {
	begun, end, done := make(chan struct{}), make(chan struct{}), make(chan error)
	go func() {
		done <- db.submit(t.Context(), &job{apart: true, do: func(*Conn) error { close(begun); <-end; return nil }})
	}()
	<-begun
	return func() {
		close(end)
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// Twenty simultaneous writers share commits, and one that fails undoes only what it did
// itself.
func TestGroupCommit(t *testing.T) {
	db := openTest(t, testPath(t))
	release := db.hold(t)
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			err := db.Write(t.Context(), func(c *Conn) error {
				if err := c.Exec("INSERT INTO t (id, v) VALUES (?, 'v')", i); err != nil || i%2 == 0 {
					return err
				}
				return fmt.Errorf("%d: %w", i, errRefused)
			})
			if (i%2 != 0) != errors.Is(err, errRefused) || i%2 == 0 && err != nil {
				t.Errorf("%d: %v", i, err)
			}
		})
	}
	time.Sleep(50 * time.Millisecond) // for all of them to queue up
	release()
	all.Wait()
	if n := count(t, db); n != 10 {
		t.Errorf("%d rows, want the 10 that were not refused", n)
	}
	if n := db.Commits(); n > 3 {
		t.Errorf("%d commits for 20 changes at the same time", n)
	}
}

// A constraint that one caller violates is an error for that caller alone.
func TestConstraint(t *testing.T) {
	db := openTest(t, testPath(t))
	release := db.hold(t)
	var all sync.WaitGroup
	var mu sync.Mutex
	failed := 0
	for range 5 {
		all.Go(func() {
			if err := db.put(t.Context(), 7, "v"); err != nil {
				wantStore(t, err, "UNIQUE")
				mu.Lock()
				failed++
				mu.Unlock()
			}
		})
	}
	time.Sleep(20 * time.Millisecond)
	release()
	all.Wait()
	if n := count(t, db); n != 1 || failed != 4 {
		t.Errorf("%d rows, %d failed", n, failed)
	}
}

// A full disk is an error for every caller, what was committed stays, and writing goes
// on once there is space.
func TestFull(t *testing.T) {
	db := openTest(t, testPath(t))
	limit := func(pages int) {
		t.Helper()
		if err := db.writer.Exec(fmt.Sprintf("PRAGMA max_page_count=%d", pages)); err != nil {
			t.Fatal(err)
		}
	}
	limit(30)
	stored := 0
	var err error
	for ; err == nil; stored++ {
		err = db.put(t.Context(), stored, strings.Repeat("v", 1000))
	}
	stored--
	if wantStore(t, err, "the disk is full"); stored < 10 {
		t.Errorf("only %d rows", stored)
	}
	release := db.hold(t)
	var all sync.WaitGroup
	for i := range 10 { // small ones next to one that does not fit
		all.Go(func() {
			size := 1
			if i == 5 {
				size = 200_000
			}
			if err := db.put(t.Context(), 1000+i, strings.Repeat("v", size)); i == 5 || err != nil {
				wantStore(t, err, "the disk is full")
			}
		})
	}
	time.Sleep(20 * time.Millisecond)
	release()
	all.Wait()
	limit(1000)
	if err := db.put(t.Context(), stored, "v"); err != nil {
		t.Error(err)
	}
	n := 0
	if err := db.Read(t.Context(), func(c *Conn) error { return c.Row([]any{&n}, "SELECT count(*) FROM t WHERE id<1000") }); err != nil || n != stored+1 {
		t.Errorf("%d rows of %d, %v", n, stored+1, err)
	}
	if err := db.Check(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestReadOnly(t *testing.T) {
	db := openTest(t, testPath(t))
	if err := db.writer.Exec("PRAGMA query_only=1"); err != nil {
		t.Fatal(err)
	}
	wantStore(t, db.put(t.Context(), 1, "v"), "can't be written")
}

// Another process holds the lock for longer than this one waits.
func TestLocked(t *testing.T) {
	path := filepath.Join(t.TempDir(), "t.db")
	openTest(t, path)
	db, err := Open(t.Context(), path, testFormat(), 20*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	other, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Close() }()
	tx, err := other.Conn(t.Context())
	if err == nil {
		_, err = tx.ExecContext(t.Context(), "BEGIN IMMEDIATE")
	}
	if err != nil {
		t.Fatal(err)
	}
	err = db.put(t.Context(), 1, "v")
	wantStore(t, err, "locked by another process")
	if !errors.Is(err, kmclient.ErrStoreBusy) {
		t.Errorf("%v must be a kmclient.ErrStoreBusy: it passes", err)
	}
	if n := count(t, db); n != 0 {
		t.Errorf("%d rows", n)
	}
	if err := db.Checkpoint(t.Context()); !errors.Is(err, ErrInUse) {
		t.Errorf("got %v, want an ErrInUse", err)
	}
	if _, err := tx.ExecContext(t.Context(), "ROLLBACK"); err != nil {
		t.Fatal(err)
	}
	if err := db.put(t.Context(), 1, "v"); err != nil {
		t.Error(err)
	}
}

// A caller that gives up before its turn has changed nothing.
func TestGivenUp(t *testing.T) {
	db := openTest(t, testPath(t))
	wantGivenUp := func(err error) {
		t.Helper()
		if !errors.Is(err, kmclient.ErrUnavailable) || !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	release := db.hold(t)
	soon, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	wantGivenUp(db.put(soon, 1, "v"))
	release()
	wantGivenUp(db.put(ended, 1, "v"))
	wantGivenUp(db.Read(ended, nil))
	if n := count(t, db); n != 0 {
		t.Errorf("%d rows", n)
	}
}

// What a reader sees does not change while it reads, and the next reader sees what was
// written, even in another process.
func TestRead(t *testing.T) {
	path := testPath(t)
	db, other := openTest(t, path), openTest(t, path)
	for i := range 10 {
		err := other.Read(t.Context(), func(c *Conn) error {
			for range 2 {
				n := 0
				if err := c.Row([]any{&n}, "SELECT count(*) FROM t"); err != nil || n != i {
					return fmt.Errorf("%d rows, want %d: %w", n, i, err)
				}
				if n == i {
					_ = db.put(t.Context(), i, "v") // the second one exists already
				}
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
	var ids []int
	err := db.Read(t.Context(), func(c *Conn) error {
		return c.Rows(func(scan Scan) error {
			var id int
			err := scan(&id)
			ids = append(ids, id)
			return err
		}, "SELECT id FROM t ORDER BY id DESC")
	})
	if err != nil || len(ids) != 10 || ids[0] != 9 {
		t.Errorf("%v, %v", ids, err)
	}
	if err := db.Read(t.Context(), func(*Conn) error { return errRefused }); err != errRefused {
		t.Error(err)
	}
}

// While a slow reader runs, the log can't be emptied. That keeps nobody from writing,
// however long the wait for another process may be.
func TestCheckpointReaders(t *testing.T) {
	path := testPath(t)
	db, err := Open(t.Context(), path, testFormat(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.put(t.Context(), 1, "v"); err != nil {
		t.Fatal(err)
	}
	read := make(chan error, 1)
	go func() {
		read <- db.Read(t.Context(), func(c *Conn) error {
			n := 0
			err := errors.Join(c.Row([]any{&n}, "SELECT count(*) FROM t"), db.put(t.Context(), 2, "v"))
			if err := db.Checkpoint(t.Context()); !errors.Is(err, ErrInUse) || errors.Is(err, kmclient.ErrStore) {
				t.Errorf("got %v, want an ErrInUse alone", err)
			}
			return errors.Join(err, db.put(t.Context(), 3, "v"))
		})
	}()
	select {
	case err = <-read:
	case <-time.After(time.Minute):
		t.Fatal("a writer waits for a reader")
	}
	if err != nil {
		t.Fatal(err)
	}
	var patience int64 // milliseconds
	if err := db.writer.Row([]any{&patience}, "PRAGMA busy_timeout"); err != nil || patience != time.Hour.Milliseconds() {
		t.Errorf("the writer waits %d ms for other processes (%v), want an hour as before", patience, err)
	}
	if err := db.Checkpoint(t.Context()); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path + "-wal"); err != nil || info.Size() != 0 {
		t.Errorf("write-ahead log after the reader has ended: %v, %v", info, err)
	}
	if err := db.Close(); err != nil { // it would also wait for a reader that does not end
		t.Error(err)
	}
}
