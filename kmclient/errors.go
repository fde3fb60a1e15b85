package kmclient

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/qkdmail/qkdmail/kmclient/internal/redact"
)

// What can go wrong with a key manager. Errors of this package are one of
// these under errors.Is.
var (
	// ErrKeyNotFound: the key manager has no key with this ID (any more, or
	// not yet: the two sites may not have synchronised).
	ErrKeyNotFound = errors.New("key not found")
	// ErrKeyExhausted: the key manager answers that it has no fresh key now.
	ErrKeyExhausted = errors.New("key manager has no key left")
	// ErrUnavailable: the key manager can't be reached, does not answer in
	// time, or says that it can't serve now.
	ErrUnavailable = errors.New("key manager unavailable")
	// ErrRefused: the key manager does not serve this caller (401, 403). Some
	// answer so for a key ID that they do not know, or that is not for this
	// caller.
	ErrRefused = errors.New("key manager refuses this caller")
	// ErrBadRequest: the request can't be met, as a key size that is not a
	// multiple of 8.
	ErrBadRequest = errors.New("bad key request")
	// ErrLimit is an ErrBadRequest: the request is for more keys, or longer
	// ones, than the key manager gives in one; a smaller one can be met.
	ErrLimit = fmt.Errorf("%w: over a limit of the key manager", ErrBadRequest)
	// ErrBadAnswer: the answer is not what the protocol says, or too large.
	ErrBadAnswer = errors.New("bad answer from the key manager")
	// ErrBadKey: the key itself can't be used: wrong size, too few, an ID
	// that comes twice, all octets equal.
	ErrBadKey = errors.New("unusable key")
	// ErrStore: the mock's file, or a key store, can't be read or written.
	ErrStore = errors.New("key store")
	// ErrStoreBusy is beside an ErrStore that may pass by itself: another process
	// has locked the file, or its disk is full or fails.
	ErrStoreBusy = errors.New("for now")
	// ErrConfig: the choice of the key manager makes no sense.
	ErrConfig = errors.New("key manager configuration")
	// ErrUnsupported: this key manager has no such operation.
	ErrUnsupported = errors.New("not supported by this key manager")
)

// Canceled wraps context.Cause(ctx) in an [ErrUnavailable].
func Canceled(ctx context.Context) error {
	return fmt.Errorf("%w: %w", ErrUnavailable, context.Cause(ctx))
}

// An Error is a failed operation of a key manager client, with what a caller
// needs to decide what to do next. It unwraps to one of the Err… sentinels and
// to the cause.
type Error struct {
	Op      string   // the operation: "status", "get keys", "keys by ID", "close key", "list keys"
	Status  int      // HTTP status of the answer; 0 if there was none
	Message string   // the key manager's own words, shortened, printable
	Details []string // what it adds to them (ETSI GS QKD 014 §6.5), likewise; at most 8
	Retry   bool     // asking again later can help
	Err     error    // one of the sentinels, possibly wrapped

	Lost bool // the request may have been served, and its answer did not arrive
}

// Error returns one line that names the operation, the cause and the key
// manager's own words.
func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %v", e.Op, e.Err)
	if e.Status != 0 {
		fmt.Fprintf(&b, " (HTTP %d)", e.Status)
	}
	if e.Message != "" {
		fmt.Fprintf(&b, ": key manager says %q", e.Message)
	}
	if len(e.Details) > 0 {
		fmt.Fprintf(&b, " %q", redact.Line(strings.Join(e.Details, " ")))
	}
	return b.String()
}

// Unwrap returns the sentinel, possibly wrapped.
func (e *Error) Unwrap() error { return e.Err }
