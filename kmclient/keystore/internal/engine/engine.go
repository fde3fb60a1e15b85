// Package engine is what a key store and its engines agree on: records, and how
// they are read and changed.
package engine

import (
	"context"
	"errors"
	"time"
)

// An Engine keeps records: keystore/sqlite does on one machine, keystore/postgres for
// several. It knows nothing about keys and messages. It promises three things: a change
// is durable when Apply returns, it is made as a whole or not at all, and it is made
// only if the records still are as its caller saw them. Package keystore builds all
// rules about keys on these promises; package internal/storetest tests that an engine
// keeps them.
//
// The methods may be called from several goroutines, and several processes may use the
// same records. An engine never expires a record, and uses neither leases nor clocks.
//
// Errors are ErrConflict, kmclient.ErrStore if the records can't be used now (full,
// read-only, damaged, locked, no quorum), and kmclient.ErrUnavailable if the caller's
// context has ended. An engine does not repeat an Apply whose outcome it does not know:
// the second could conflict with the first.
type Engine interface {
	// Get returns the records with these names, in this order, with nil for one that is
	// not there. It sees every change whose Apply has returned, in any process. It
	// reads all records at one moment, or in this order: if one Apply made two of them,
	// a Get that sees the first also sees the second.
	Get(ctx context.Context, names ...Name) ([]*Record, error)

	// Apply makes all of these changes or none of them, and returns once they are on
	// disk. It sets the Version of each New that it wrote, except those of Claim. Each
	// name occurs at most once, and there are no more changes than Limits allows. If a
	// record is not what its change expects, the error is ErrConflict. After any other
	// error the changes may still have been made.
	Apply(ctx context.Context, changes ...Change) error

	// List returns at most limit records that follow a name, in the order of
	// Name.Compare; fewer only at the end. Among claims with the same KM and SAE, the
	// order of the IDs is the engine's own.
	List(ctx context.Context, after Name, limit int) ([]*Record, error)

	// Due returns at most limit records of any kind with this KM and SAE whose Due is
	// not after now, earliest first; fewer only if there are no more.
	Due(ctx context.Context, km, sae string, now time.Time, limit int) ([]*Record, error)

	// Compact removes, as far as the engine can, its remaining copies of overwritten
	// and deleted data. If others are reading them, the error is ErrUncompacted, and a
	// later call may succeed.
	Compact(ctx context.Context) error

	// Check reads the engine's own structures, as far as it can, and reports whether
	// they are sound: if not, a kmclient.ErrStore says what is wrong.
	Check(ctx context.Context) error

	// Warnings returns what is questionable about the engine's server or the connection
	// to it, in sentences for the administrator.
	Warnings() []string

	// Limits returns how much one Apply accepts.
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
	Old *Record // as it was read; nil: there must be no record with New's name
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

	// ErrUncompacted: the engine still has copies of overwritten and deleted data,
	// since others are using them.
	ErrUncompacted = errors.New("copies of overwritten data are in use and stay for now")
)
