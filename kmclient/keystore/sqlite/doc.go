// Package sqlite keeps the records of a keystore in one SQLite file.
//
// What Apply has changed is on disk when it returns (write-ahead log,
// synchronous=FULL), as far as the system's fsync can be trusted; changes that
// are asked for at the same time share one fsync. Several processes may have
// the file open. It lies on a local disk: SQLite's locks don't work on most
// network file systems.
//
// A copy of the file alone is no backup while it is open: the newest changes
// are in FILE-wal. [Store.Backup] makes one.
package sqlite

import (
	"context"
	"errors"
	"fmt"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/keystore"
)

var errClosed = errors.New("closed")

// storeError is the kmclient.ErrStore for an error of SQLite or the file
// system: it says in plain words what is wrong, and with which file.
func (s *Store) storeError(err error) error {
	switch {
	case err == nil, errors.Is(err, keystore.ErrConflict), errors.Is(err, kmclient.ErrUnavailable):
		return err
	}
	if words := inWords(err); words != "" {
		return fmt.Errorf("%w %s: %s: %w", kmclient.ErrStore, s.path, words, err)
	}
	return fmt.Errorf("%w %s: %w", kmclient.ErrStore, s.path, err)
}

func inWords(err error) string {
	e, ok := errors.AsType[*sqlite.Error](err)
	if !ok {
		return ""
	}
	switch e.Code() & 0xFF {
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
		return "it stays locked by another process"
	case sqlite3.SQLITE_FULL:
		return "the disk is full"
	case sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_CANTOPEN:
		return "it or its folder can't be written"
	case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
		return "it is damaged; leave it as it is and restore a backup beside it"
	case sqlite3.SQLITE_IOERR:
		return "the disk can't be read or written"
	}
	return ""
}

// waitError is the error for a caller who did not want to wait any longer.
func waitError(ctx context.Context) error {
	return fmt.Errorf("%w: %w", kmclient.ErrUnavailable, context.Cause(ctx))
}
