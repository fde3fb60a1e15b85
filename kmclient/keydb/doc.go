// Package keydb keeps keys in one SQLite file, for key managers that make
// their keys themselves: the simulator in kmclient/kmsim, and [Mock], the
// key manager without hardware for more keys than a JSON file can take.
//
// Several goroutines and several processes may use a file at the same time.
// What a method has changed is on disk when it returns, as far as the system's
// fsync can be trusted; changes that are asked for at the same time share one.
// What an operation costs does not depend on how many keys are stored.
//
// # Pools and grants
//
// A pool is a group of keys with a name, as the keys of one pair of SAEs.
// The pool "" is that of the key managers that know no SAEs. A [Grant] says
// which SAEs may fetch a key; it is gone once each of them has done so. Keys
// without a grant stay until they are deleted.
//
// # Secrets
//
// Nothing in the file is encrypted, so it is readable for its owner only.
// SQLite overwrites deleted keys (secure_delete), but copies stay in its
// write-ahead log until the last process closes the file, and a disk may keep
// more. That is enough for development and tests, which is what this is for.
package keydb

import (
	"errors"

	"github.com/qkdmail/qkdmail/kmclient/internal/sqlitedb"
)

// What can go wrong, beside kmclient's ErrKeyNotFound, ErrBadKey, ErrStore
// (the file can't be used now, as it is locked or damaged) and ErrUnavailable
// (the caller's context has ended).
var (
	// ErrExists: there is a key with this ID already.
	ErrExists = errors.New("a key with this ID exists")
	// ErrNotGranted: the key is there, but not for this caller.
	ErrNotGranted = errors.New("key not granted to this caller")
	// ErrFull: the pool has as many keys as Options allow.
	ErrFull = errors.New("too many keys in the pool")
	// ErrImport: what is to be imported is no key file.
	ErrImport = errors.New("not a key file")
	// ErrClosed: the database has been closed. It comes with an ErrStore.
	ErrClosed = sqlitedb.ErrClosed
)
