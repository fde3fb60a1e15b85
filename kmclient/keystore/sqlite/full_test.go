package sqlite

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/keystore"
)

func openTest(t *testing.T, path string) *Store {
	t.Helper()
	s, err := Open(t.Context(), path, Options{Wait: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func (s *Store) put(ctx context.Context, id, value string) error {
	n := keystore.Name{Kind: keystore.KindReceive, ID: id}
	return s.Apply(ctx, keystore.Change{New: &keystore.Record{Name: n, Value: []byte(value)}})
}

// A full disk is a temporary error, what was committed stays, and it goes on
// once there is room.
func TestFull(t *testing.T) {
	s := openTest(t, filepath.Join(t.TempDir(), "keys.db"))
	limit := func(pages int) {
		t.Helper()
		if _, err := s.writer.sql.ExecContext(t.Context(), fmt.Sprintf("PRAGMA max_page_count=%d", pages)); err != nil {
			t.Fatal(err)
		}
	}
	limit(30)
	stored := 0
	var err error
	for ; err == nil; stored++ {
		err = s.put(t.Context(), fmt.Sprint(stored), strings.Repeat("v", 1000))
	}
	stored--
	if !errors.Is(err, kmclient.ErrStore) || !strings.Contains(err.Error(), "the disk is full") || stored < 10 {
		t.Errorf("after %d records: %v", stored, err)
	}
	limit(1000)
	if err := s.put(t.Context(), fmt.Sprint(stored), "v"); err != nil {
		t.Error(err)
	}
	if all, err := s.List(t.Context(), keystore.Name{}, 1000); err != nil || len(all) != stored+1 {
		t.Errorf("%d records of %d, %v", len(all), stored+1, err)
	}
}

// How the file is written: durably, and what is deleted is overwritten.
func TestPragmas(t *testing.T) {
	s := openTest(t, filepath.Join(t.TempDir(), "keys.db"))
	for pragma, want := range map[string]string{"journal_mode": "wal", "synchronous": "2", "secure_delete": "1"} {
		var got string
		if err := s.writer.row([]any{&got}, "PRAGMA "+pragma); err != nil || got != want {
			t.Errorf("%s is %s (%v), want %s", pragma, got, err, want)
		}
	}
}

// A folder or a file that can't be written is an error in plain words.
func TestReadOnly(t *testing.T) {
	if os.Geteuid() == 0 { // who may write everything
		s := openTest(t, filepath.Join(t.TempDir(), "keys.db"))
		if _, err := s.writer.sql.ExecContext(t.Context(), "PRAGMA query_only=1"); err != nil {
			t.Fatal(err)
		}
		if err := s.put(t.Context(), "a", "v"); !errors.Is(err, kmclient.ErrStore) || !strings.Contains(err.Error(), "can't be written") {
			t.Error(err)
		}
		return
	}
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o500); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), filepath.Join(dir, "keys.db"), Options{}); !errors.Is(err, kmclient.ErrStore) {
		t.Error(err)
	}
	if _, err := Open(t.Context(), filepath.Join(dir, "below", "keys.db"), Options{}); !errors.Is(err, kmclient.ErrStore) {
		t.Error(err)
	}
}

// Twenty that write at the same time share commits.
func TestGroupCommit(t *testing.T) {
	s := openTest(t, filepath.Join(t.TempDir(), "keys.db"))
	hold := make(chan struct{})
	errs := make(chan error, 21)
	go func() {
		errs <- s.write(t.Context(), &job{alone: true, do: func(*conn) error { <-hold; return nil }})
	}()
	for i := range 20 {
		go func() { errs <- s.put(t.Context(), fmt.Sprint(i), "v") }()
	}
	time.Sleep(50 * time.Millisecond) // for all of them to stand in line
	close(hold)
	for range 21 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if n := s.commits.Load(); n > 3 {
		t.Errorf("%d commits for 20 changes at the same time", n)
	}
}
