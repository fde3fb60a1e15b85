package kmclient

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/qkdmail/qkdmail/kmclient/internal/redact"
)

// What can go wrong with a key manager. Every error of a KeyManager matches one of
// these with errors.Is.
var (
	// ErrKeyNotFound: the key manager has no key with this ID: no longer, or not yet,
	// since the two sites may not have synchronised.
	ErrKeyNotFound = errors.New("key not found")
	// ErrKeyExhausted: the key manager answers that it has no fresh key now.
	ErrKeyExhausted = errors.New("key manager has no key left")
	// ErrUnavailable: the key manager can't be reached, does not answer in time, or
	// answers that it can't serve now.
	ErrUnavailable = errors.New("key manager unavailable")
	// ErrRefused: the key manager does not serve this caller (HTTP 401, 403). Some key
	// managers also answer this way if a key ID is unknown or another caller's.
	ErrRefused = errors.New("key manager refuses this caller")
	// ErrBadRequest: the request can't be met, for example a key size that is not a
	// multiple of 8.
	ErrBadRequest = errors.New("bad key request")
	// ErrLimit wraps ErrBadRequest: the request is for more or longer keys than the key
	// manager gives at a time; a smaller one can be met.
	ErrLimit = fmt.Errorf("%w: over a limit of the key manager", ErrBadRequest)
	// ErrBadAnswer: the answer breaks the protocol, or is too large.
	ErrBadAnswer = errors.New("bad answer from the key manager")
	// ErrBadKey: a key can't be used. It has the wrong size, an ID that was used
	// before, or bytes that are all equal.
	ErrBadKey = errors.New("unusable key")
	// ErrStore: the mock's file or a key store can't be read or written.
	ErrStore = errors.New("key store")
	// ErrStoreBusy comes with an ErrStore that may pass: another process has locked the
	// file, or its disk is full or failing.
	ErrStoreBusy = errors.New("for now")
	// ErrConfig: the choice or the options of a key manager are invalid.
	ErrConfig = errors.New("key manager configuration")
	// ErrUnsupported: this key manager has no such operation.
	ErrUnsupported = errors.New("not supported by this key manager")
)

// Canceled wraps context.Cause(ctx) and [ErrUnavailable] in one error.
func Canceled(ctx context.Context) error {
	return fmt.Errorf("%w: %w", ErrUnavailable, context.Cause(ctx))
}

// An Error is a failed operation of a KeyManager, with what a caller needs to
// decide what to do next. It unwraps to one of the sentinels and to the cause.
type Error struct {
	Op      string   // "status", "get keys", "keys by ID", "close key" or "list keys"
	Status  int      // HTTP status of the answer; 0 if there was none, or without HTTP
	Message string   // what the key manager says: at most 200 printable characters
	Details []string // what it adds (ETSI GS QKD 014 §6.5): at most 8, each limited like Message
	Retry   bool     // asking again later may help
	Lost    bool     // the request may have been served, but its answer did not arrive
	Err     error    // wraps a sentinel
}

// Error returns, on one line, the operation, the cause and what the key manager
// says.
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

// Unwrap returns e.Err.
func (e *Error) Unwrap() error { return e.Err }
