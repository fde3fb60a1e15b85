package terminal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"syscall"

	"github.com/qkdmail/qkdmail/cipher"
	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/keystore"
)

// Exit codes, from sysexits.h.
const (
	ExitOK          = 0
	ExitUsage       = 64 // the command line is wrong
	ExitData        = 65 // the message is bad
	ExitNoInput     = 66 // there is no such input
	ExitUnavailable = 69 // the key manager can't be reached
	ExitCantCreate  = 73 // the output can't be created
	ExitIO          = 74 // reading or writing failed
	ExitTempFail    = 75 // no key now: try again
	ExitNoPerm      = 77 // the key is not found or refused
	ExitConfig      = 78 // the configuration is wrong
)

// A failure is an error with an exit code and a hint at what to do.
type failure struct {
	code int
	hint string
	err  error
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

// Fail returns an error with an exit code and a hint at what to do.
func Fail(code int, hint, format string, args ...any) error {
	return &failure{code: code, hint: hint, err: fmt.Errorf(format, args...)}
}

// Usage returns an error of the command line.
func Usage(format string, args ...any) error {
	return Fail(ExitUsage, "see --help", format, args...)
}

// advice returns the exit codes and hints for errors of other packages. The first
// match counts.
func advice() []struct {
	err  error
	code int
	hint string
} {
	return []struct {
		err  error
		code int
		hint string
	}{
		{cipher.ErrNotEncrypted, ExitData, "it is ordinary mail, so there is nothing to decrypt"},
		{cipher.ErrVersion, ExitData, "a newer qkdmail may read it"},
		{cipher.ErrSuite, ExitData, "a newer qkdmail may read it"},
		{cipher.ErrHybridKey, ExitNoPerm, "name the private key with this fingerprint, perhaps an old one, with --hybrid-key"},
		{cipher.ErrSAE, ExitData, "check --sae and --peer"},
		{cipher.ErrWrongKey, ExitData, "do not trust it; ask the sender to send it again"},
		{cipher.ErrAltered, ExitData, "do not trust it; ask the sender to send it again"},
		{cipher.ErrDamaged, ExitData, "ask the sender to send it again"},
		{cipher.ErrTooManyKeys, ExitConfig, "use --suite aes-256-gcm"},
		{cipher.ErrPad, ExitConfig, "use --suite aes-256-gcm, or a key manager with longer keys"},
		{cipher.ErrOptions, ExitUsage, "see --help"},
		{keystore.ErrClosed, ExitNoPerm, "it was decrypted and closed before; ask the sender to send it again"},
		{keystore.ErrBound, ExitData, "do not trust it"},
		{keystore.ErrClaimed, ExitData, "do not trust it; if it is genuine, ask the sender to send it again, and tell whoever runs the key manager"},
		{keystore.ErrReused, ExitTempFail, "nothing was encrypted; try again, and tell whoever runs the key manager"},
		{keystore.ErrStoreKey, ExitConfig, "the store key was changed: name the new one with --store-key"},
		{kmclient.ErrConfig, ExitConfig, "see --km in --help"},
		{kmclient.ErrStoreBusy, ExitTempFail, "see what else uses the file, and how full its disk is"},
		{kmclient.ErrStore, ExitConfig, "restore the file from a backup, or name another with --km or --store"},
		{kmclient.ErrKeyNotFound, ExitNoPerm, "the key was closed, or has not reached this key manager yet: try again later"},
		{kmclient.ErrRefused, ExitNoPerm, "the key manager must allow this SAE, and a key named by its ID must be for this SAE"},
		{kmclient.ErrKeyExhausted, ExitTempFail, "try again when the link has made new keys"},
		{kmclient.ErrUnsupported, ExitUnavailable, "ask the key manager's own tools"},
		{kmclient.ErrUnavailable, ExitUnavailable, "check that the key manager runs and that --km is right"},
		{kmclient.ErrBadAnswer, ExitUnavailable, "check that --km names a key manager of this kind"},
		{kmclient.ErrBadKey, ExitUnavailable, "the key manager does not work as it should: do not use its keys"},
		{kmclient.ErrBadRequest, ExitUnavailable, "the key manager can't meet this: see qkdmail status"},
		{syscall.EISDIR, ExitNoInput, "name a file"},
		{fs.ErrNotExist, ExitNoInput, "check the name"},
	}
}

// Explain returns the exit code of an error and a hint at what to do.
func Explain(err error) (code int, hint string) {
	if errors.Is(err, context.Canceled) { // by a signal, whatever it interrupted
		return ExitTempFail, "stopped; run it again"
	}
	var f *failure
	if errors.As(err, &f) {
		return f.code, f.hint
	}
	for _, a := range advice() {
		if errors.Is(err, a.err) {
			return a.code, a.hint
		}
	}
	return ExitIO, "check the disk, and what reads the output"
}

// Advice returns the hint for an error.
func Advice(err error) string {
	_, hint := Explain(err)
	return hint
}

// Report prints an error with its hint to a user and returns its exit code.
func Report(stderr io.Writer, err error) (code int) {
	code, hint := Explain(err)
	fmt.Fprintf(stderr, "qkdmail: %s\n", OneLine(err, hint))
	return code
}

// OneLine returns the error and the hint on one line, without control characters.
func OneLine(err error, hint string) string {
	text := err.Error()
	if hint != "" {
		text += ": " + hint
	}
	return strings.Join(strings.FieldsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7F }), " ")
}
