package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/keystore/internal/engine"
)

// Whether a request may be sent again when its outcome is unknown.
const (
	repeatable = true
	once       = false
)

const (
	pause    = 50 * time.Millisecond // before a request is sent again
	attempts = 10                    // at requests that conflict with others
)

// Codes of errors, by PostgreSQL's names for them.
const (
	divisionByZero       = "22012" // a guard of Apply has failed
	readOnlyTransaction  = "25006"
	serializationFailure = "40001"
	deadlockDetected     = "40P01"
	tooManyConnections   = "53300"
	adminShutdown        = "57P01"
	crashShutdown        = "57P02"
	cannotConnectNow     = "57P03"
)

var (
	errClosed    = errors.New("closed")
	errCancelled = errors.New("a commit was cancelled, or its server ended, while it waited for the synchronous standby: it may be lost or not")
)

// A conn is a connection of the pool that is in use.
type conn struct {
	*pgx.Conn
	session *session
}

// send sends statements together and waits for all answers. After an error, at is the
// index of the statement that failed, or the number of statements.
func (c *conn) send(ctx context.Context, b *pgx.Batch) (at int, err error) {
	results := c.SendBatch(ctx, b)
	for at < b.Len() && err == nil {
		if _, err = results.Exec(); err == nil {
			at++
		}
	}
	if closeErr := results.Close(); err == nil {
		err = closeErr
	}
	return at, err
}

// call makes a request, and repeats it while that can help and is safe, until the
// engine's time-out.
func (e *Engine) call(ctx context.Context, again bool, request func(context.Context, *conn) error) error {
	bounded, cancel := context.WithTimeout(context.WithValue(ctx, dialKey{}, true), e.timeout)
	defer cancel()
	var reason error // what went wrong, as far as known
	for try := 1; ; try++ {
		switch {
		case ctx.Err() != nil:
			return kmclient.Canceled(ctx)
		case e.closed.Load():
			return e.storeError(errClosed)
		}
		err := e.attempt(bounded, request)
		switch {
		case err == nil, errors.Is(err, engine.ErrConflict):
			return err
		case reason == nil || bounded.Err() == nil:
			reason = err
		}
		if ctx.Err() == nil && !e.closed.Load() && (bounded.Err() != nil || !mayRepeat(err, again, try)) {
			return e.storeError(reason)
		}
		select {
		case <-bounded.Done():
		case <-time.After(pause):
		}
	}
}

// An unconnected is the error of a request that was not sent.
type unconnected struct{ error }

func (u unconnected) Unwrap() error { return u.error }

// attempt makes a request once. If its connection breaks, the others are no longer
// trusted either; if it was cut because the caller gave up, they still are.
func (e *Engine) attempt(ctx context.Context, request func(context.Context, *conn) error) error {
	pooled, err := e.pool.Acquire(ctx)
	if err != nil {
		if isLate(err) {
			e.pool.Reset()
		}
		return unconnected{err}
	}
	defer pooled.Release()
	c := &conn{pooled.Conn(), sessionOf(pooled.Conn().PgConn())}
	err = request(ctx, c)
	if c.session.cancelled {
		err = errCancelled
	}
	if !isSound(err) {
		_ = c.Close(ctx)
		cut(c.Conn)
		if !errors.Is(ctx.Err(), context.Canceled) {
			e.pool.Reset()
		}
	}
	return err
}

// isSound reports whether the connection is usable after an error, and nothing was
// committed: the server answered with severity ERROR.
func isSound(err error) bool {
	if err == nil || errors.Is(err, engine.ErrConflict) {
		return true
	}
	said, ok := errors.AsType[*pgconn.PgError](err)
	return ok && said.SeverityUnlocalized == "ERROR" && said.Code != readOnlyTransaction
}

// mayRepeat reports whether a failed request may be sent again and can then succeed. An
// answer with severity ERROR comes instead of the commit; after one that ends the
// connection, the outcome is unknown.
func mayRepeat(err error, again bool, try int) bool {
	_, unsent := errors.AsType[unconnected](err)
	again = again || unsent || pgconn.SafeToRetry(err)
	said, ok := errors.AsType[*pgconn.PgError](err)
	switch {
	case errors.Is(err, errBehind): // no server has all commits, although others were tried
		return false
	case errors.Is(err, errReadOnly): // from setUp
		return true
	case !ok:
		return again && isNetwork(err)
	case again:
		return passes(said.Code)
	}
	return said.SeverityUnlocalized == "ERROR" && try < attempts &&
		(said.Code == serializationFailure || said.Code == deadlockDetected || said.Code == readOnlyTransaction)
}

// passes reports whether an error of the server may soon be gone.
func passes(code string) bool {
	switch code {
	case serializationFailure, deadlockDetected, readOnlyTransaction, tooManyConnections, adminShutdown, crashShutdown, cannotConnectNow:
		return true
	}
	return false
}

func hasCode(err error, code string) bool {
	said, ok := errors.AsType[*pgconn.PgError](err)
	return ok && said.Code == code
}

// storeError returns the kmclient.ErrStore for an error of the server or the connection
// to it, with the servers and what is wrong in plain words.
func (e *Engine) storeError(err error) error {
	if err == nil {
		return nil
	}
	words := inWords(err)
	switch {
	case errors.Is(err, errBehind):
		return fmt.Errorf("%w %s: %w", kmclient.ErrStore, e.where, errBehind)
	case isLate(err): // call's time-out, not the caller's context
		return fmt.Errorf("%w %s: %s: %v", kmclient.ErrStore, e.where, words, plain(err))
	case words != "":
		return fmt.Errorf("%w %s: %s: %w", kmclient.ErrStore, e.where, words, plain(err))
	}
	return fmt.Errorf("%w %s: %w", kmclient.ErrStore, e.where, plain(err))
}
