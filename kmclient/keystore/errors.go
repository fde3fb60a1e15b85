package keystore

import (
	"errors"
	"fmt"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/keystore/internal/engine"
	"github.com/qkdmail/qkdmail/kmclient/keystore/internal/sealed"
)

// Errors in addition to those of [kmclient]. A Store returns these in a
// [kmclient.Error], whose Retry reports whether trying again can help.
var (
	// ErrBound: the key belongs to another message, or to another frame of this one, or
	// has opened no message though it should have. Someone may have copied a key ID
	// into a message of their own.
	ErrBound = errors.New("key belongs to another message: possible attack")
	// ErrClosed: the key has served its purpose and is deleted.
	ErrClosed = errors.New("key is closed")
	// ErrReused: the key manager gave out a key ID that was already used here, to
	// encrypt or to decrypt. It may have been restored from a backup.
	ErrReused = errors.New("key ID was already used here")
	// ErrClaimed: a message names a key ID that was already used here: it was given out
	// to encrypt with, or its tombstone is gone. It wraps ErrReused, and trying again
	// does not help.
	ErrClaimed = fmt.Errorf("%w: possible attack", ErrReused)
	// ErrStoreKey: the store was made with another store key. It wraps
	// kmclient.ErrConfig.
	ErrStoreKey = sealed.ErrStoreKey
	// ErrRecord: a record can't be opened: it is damaged, or was changed by someone
	// without the store key. It wraps kmclient.ErrStore. Trying again helps once the
	// store has been replaced with a backup.
	ErrRecord = sealed.ErrRecord
)

// Names of operations in errors.
const (
	opKeysByID = "keys by ID"
	opGetKeys  = "get keys"
	opBind     = "bind keys"
	opDeliver  = "record delivery"
	opClose    = "close key"
	opList     = "list keys"
)

// fail returns the error for a caller, with what it needs to decide what to do next.
func (s *Store) fail(op string, err error) error {
	if _, ok := errors.AsType[*kmclient.Error](err); err == nil || ok {
		return err
	}
	if errors.Is(err, engine.ErrConflict) {
		err = fmt.Errorf("%w: too many others work with the same record %w: %w", kmclient.ErrStore, kmclient.ErrStoreBusy, err)
	}
	if errors.Is(err, kmclient.ErrStore) {
		s.count.storeErrors.Add(1)
	}
	retry := errors.Is(err, kmclient.ErrStore) || errors.Is(err, kmclient.ErrUnavailable) || errors.Is(err, ErrStoreKey) ||
		errors.Is(err, ErrReused) && !errors.Is(err, ErrClaimed)
	return &kmclient.Error{Op: op, Retry: retry, Err: err}
}
