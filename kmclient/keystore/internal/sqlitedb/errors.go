package sqlitedb

import (
	"errors"
	"fmt"

	"zombiezen.com/go/sqlite"

	"github.com/qkdmail/qkdmail/kmclient"
)

// Errors that come with a kmclient.ErrStore.
var (
	// ErrClosed: the database has been closed.
	ErrClosed = errors.New("closed")
	// ErrDamaged: the content of the database can't have been written by its program. A
	// function passed to Write or Read may return it too.
	ErrDamaged = errors.New("it is damaged; leave it as it is and restore a backup beside it")

	errLater = errors.New("made by a later version of this program")
	errMoved = errors.New("it was moved, removed or replaced while in use: put it back, or start this program again")
)

// ErrInUse: the write-ahead log was not emptied because others are using it.
var ErrInUse = errors.New("others use its write-ahead log")

// A sqliteError is an error of SQLite.
type sqliteError struct{ error }

func (e sqliteError) Unwrap() error { return e.error }

// code returns what is wrong, without the details.
func (e sqliteError) code() sqlite.ResultCode { return sqlite.ErrCode(e.error).ToPrimary() }

// engineError marks an error, which may be nil, as one of SQLite.
func engineError(err error) error {
	if err == nil {
		return nil
	}
	return sqliteError{err}
}

// storeError returns a kmclient.ErrStore for an error of SQLite or for damage, with the
// file and what is wrong in plain words. Other errors stay as they are.
func (db *DB) storeError(err error) error {
	e, ok := errors.AsType[sqliteError](err)
	switch {
	case errors.Is(err, kmclient.ErrStore):
		return err
	case ok && inWords(e) != "":
		err = fmt.Errorf("%w %s: %s: %w", kmclient.ErrStore, db.path, inWords(e), err)
		if passes(e) {
			return passing{err}
		}
		return err
	case ok, errors.Is(err, ErrDamaged), errors.Is(err, errLater), errors.Is(err, errMoved):
		return fmt.Errorf("%w %s: %w", kmclient.ErrStore, db.path, err)
	}
	return err
}

// A passing error is also a kmclient.ErrStoreBusy.
type passing struct{ error }

func (p passing) Unwrap() error        { return p.error }
func (p passing) Is(target error) bool { return target == kmclient.ErrStoreBusy }

// passes reports whether an error may go away without anyone repairing the file.
func passes(e sqliteError) bool {
	switch e.code() {
	case sqlite.ResultBusy, sqlite.ResultLocked, sqlite.ResultFull, sqlite.ResultIOErr:
		return true
	}
	return false
}

// inWords returns what an error means, or "" if that is not known.
func inWords(e sqliteError) string {
	switch e.code() {
	case sqlite.ResultBusy, sqlite.ResultLocked:
		return "it stays locked by another process"
	case sqlite.ResultFull:
		return "the disk is full"
	case sqlite.ResultReadOnly, sqlite.ResultPerm, sqlite.ResultCantOpen:
		return "it or its folder can't be written"
	case sqlite.ResultCorrupt, sqlite.ResultNotADB:
		return ErrDamaged.Error()
	case sqlite.ResultIOErr:
		return "the disk can't be read or written"
	}
	return ""
}

func isBusy(err error) bool {
	e, ok := errors.AsType[sqliteError](err)
	return ok && e.code() == sqlite.ResultBusy
}

// closedError is the error of calls after Close.
func (db *DB) closedError() error {
	return fmt.Errorf("%w %s: %w", kmclient.ErrStore, db.path, ErrClosed)
}
