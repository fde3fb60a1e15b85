package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"

	"github.com/qkdmail/qkdmail/cipher"
	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/keystore"
	"github.com/qkdmail/qkdmail/mailer"
)

// Exit codes, from sysexits.h.
const (
	exitOK          = 0
	exitUsage       = 64 // the command line is wrong
	exitData        = 65 // the message is not what it should be
	exitNoInput     = 66 // there is no such input
	exitUnavailable = 69 // the key manager can't be reached
	exitCantCreate  = 73 // the output can't be made
	exitIO          = 74 // reading or writing failed
	exitTempFail    = 75 // no key now: try again
	exitNoPerm      = 77 // the key is not found or refused
	exitConfig      = 78 // the configuration is wrong
)

// A failure is an error that the command line itself finds, with its exit code
// and what to do about it.
type failure struct {
	code int
	hint string
	err  error
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

// fail makes a failure.
func fail(code int, hint, format string, args ...any) error {
	return &failure{code: code, hint: hint, err: fmt.Errorf(format, args...)}
}

// usage makes a failure of the command line.
func usage(format string, args ...any) error {
	return fail(exitUsage, "see --help", format, args...)
}

// advice is what an error of the packages below means to a user: an exit code
// and what to do. The first that fits counts.
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
		{context.Canceled, exitTempFail, "stopped; run it again"},
		{cipher.ErrNotEncrypted, exitData, "it is ordinary mail, there is nothing to decrypt"},
		{cipher.ErrVersion, exitData, "a newer qkdmail may read it"},
		{cipher.ErrSuite, exitData, "a newer qkdmail may read it"},
		{cipher.ErrSAE, exitData, "check --sae and --peer"},
		{cipher.ErrWrongKey, exitData, "do not trust it; ask the sender to send it again"},
		{cipher.ErrAltered, exitData, "do not trust it; ask the sender to send it again"},
		{cipher.ErrDamaged, exitData, "ask the sender to send it again"},
		{cipher.ErrTooManyKeys, exitConfig, "use --suite aes-256-gcm"},
		{cipher.ErrPad, exitConfig, "use --suite aes-256-gcm, or a key manager with longer keys"},
		{cipher.ErrOptions, exitUsage, "see --help"},
		{mailer.ErrConfig, exitConfig, "see docs/relay.toml for every key"},
		{keystore.ErrClosed, exitNoPerm, "it was decrypted and closed before; ask the sender to send it again"},
		{keystore.ErrBound, exitData, "do not trust it"},
		{kmclient.ErrConfig, exitConfig, "see --km in --help"},
		{kmclient.ErrStore, exitConfig, "restore the file from a backup, or name another with --km"},
		{kmclient.ErrKeyNotFound, exitNoPerm, "the key was closed, or has not reached this key manager yet: try again later"},
		{kmclient.ErrRefused, exitNoPerm, "the key manager must allow this SAE"},
		{kmclient.ErrKeyExhausted, exitTempFail, "try again when the link has made new keys"},
		{kmclient.ErrUnsupported, exitUnavailable, "ask the key manager's own tools"},
		{kmclient.ErrUnavailable, exitUnavailable, "check that the key manager runs and --km is right"},
		{kmclient.ErrBadAnswer, exitUnavailable, "check that --km names a key manager of this kind"},
		{kmclient.ErrBadKey, exitUnavailable, "the key manager does not work as it should: do not use its keys"},
		{kmclient.ErrBadRequest, exitUnavailable, "the key manager can't meet this: see qkdmail status"},
		{syscall.EISDIR, exitNoInput, "name a file"},
		{fs.ErrNotExist, exitNoInput, "check the name"},
	}
}

// explain returns the exit code of an error and what to do about it.
func explain(err error) (code int, hint string) {
	var f *failure
	if errors.As(err, &f) {
		return f.code, f.hint
	}
	for _, a := range advice() {
		if errors.Is(err, a.err) {
			return a.code, a.hint
		}
	}
	return exitIO, "check the disk, and what reads the output"
}

// oneLine is the message for an error: what happened and what to do, on one
// line whatever is in it.
func oneLine(err error, hint string) string {
	text := err.Error()
	if hint != "" {
		text += ": " + hint
	}
	return strings.Join(strings.FieldsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7F }), " ")
}
