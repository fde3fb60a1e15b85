// Package engine is what a key store and its engines agree on: records, and how
// they are read and changed.
package engine

import (
	"context"
	"errors"
	"time"
)

// An Engine keeps records: keystore/sqlite does on one machine, keystore/postgres
// for several. It knows nothing of keys and messages. It promises three things: a
// change is durable when Apply returns, it is made as a whole or not at all, and
// it is made only if the records still are what its maker has seen. All rules
// about keys are built on these, in package keystore; package internal/storetest tests an
// engine for them.
//
// The methods may be called from several goroutines, and several processes may
// use the same records. An engine keeps no record for a limited time only, and
// takes no lease or clock into account.
//
// Errors are ErrConflict, kmclient.ErrStore where the records can't be used now
// (full, read-only, damaged, locked, no quorum) and kmclient.ErrUnavailable where
// the caller's context has ended. An engine does not repeat an Apply whose outcome
// it does not know: the second could conflict with the first.
type Engine interface {
	// Get returns the records with these names, in this order, nil for one
	// that is not there. It sees every change whose Apply has returned, in
	// whichever process. It reads all records at one moment, or in this order:
	// of two that are made by one Apply, who sees the first sees the second.
	Get(ctx context.Context, names ...Name) ([]*Record, error)

	// Apply makes all of these changes or none of them, and returns once they
	// are on disk. It sets the Version of each New that it wrote, except those
	// of Claim. Each name occurs once at most, and there are no more changes
	// than Limits allows. If a record is not what its change expects, the error is
	// an ErrConflict. After any other error the changes may have been made
	// nevertheless.
	Apply(ctx context.Context, changes ...Change) error

	// List returns the records that follow a name, in the order of
	// Name.Compare, limit of them at most; fewer only at the end. Among claims
	// with the same KM and SAE the order of the IDs is the engine's own.
	List(ctx context.Context, after Name, limit int) ([]*Record, error)

	// Due returns records with this KM and SAE, of any kind, and a Due that is
	// not after now, the earliest first, limit of them at most; fewer only if
	// there are no more.
	Due(ctx context.Context, km, sae string, now time.Time, limit int) ([]*Record, error)

	// Compact gives up, as far as the engine can, the copies that it still has
	// of what was overwritten and deleted. If others are just reading them, the
	// error is an ErrUncompacted, and a later call may do it.
	Compact(ctx context.Context) error

	// Check reads the engine's own structures, as far as it can, and reports
	// whether they are sound: a kmclient.ErrStore says what is not.
	Check(ctx context.Context) error

	// Warnings returns what is questionable about the engine's server or the way
	// to it, in sentences for the administrator.
	Warnings() []string

	// Limits returns how much one Apply takes.
	Limits() Limits

	// Close ends the use of the engine; its methods then return errors.
	Close() error
}

// Limits bound one Apply.
type Limits struct {
	Changes int // at least 8
	Bytes   int // of names and values together, at least 1 MiB + 64 KiB
}

// A Change takes a record from Old to New.
type Change struct {
	Old *Record // as it was read; nil: there must be none with New's name
	New *Record // with Old's name; nil: Old is deleted; the same pointer as Old: it must only still be there, unchanged
}

// Name returns the name of the record that is changed.
func (c Change) Name() Name {
	if c.New != nil {
		return c.New.Name
	}
	return c.Old.Name
}

var (
	// ErrConflict: a record is no longer what a Change expected.
	ErrConflict = errors.New("the record was changed meanwhile")

	// ErrUncompacted: the engine still has copies of what was overwritten and
	// deleted, since others are using them.
	ErrUncompacted = errors.New("copies of overwritten data are in use and stay for now")
)
