package postgres

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// inWords returns what an error means, or "" if its own text is clear.
func inWords(err error) string {
	if said, ok := errors.AsType[*pgconn.PgError](err); ok {
		return codeInWords(said.Code)
	}
	_, dialed := errors.AsType[*pgconn.ConnectError](err)
	_, unsent := errors.AsType[unconnected](err)
	late := isLate(err)
	switch {
	case dialed:
		return "no server can be reached that takes writes"
	case unsent && late:
		return "no connection in time: the server does not answer, or all connections are in use"
	case late:
		return "no answer in time; the server may be waiting for its synchronous standby"
	case isNetwork(err):
		return "the connection broke"
	}
	return ""
}

// codeInWords returns what an error of the server means.
func codeInWords(code string) string {
	switch code {
	case "53100":
		return "the server's disk is full"
	case "53200":
		return "the server has no memory left"
	case tooManyConnections:
		return "the server has no connection left: raise its max_connections, or let the relays make fewer (pool_max_conns in the URL)"
	case readOnlyTransaction:
		return "the server takes no writes now: it is a standby, or transactions are read-only"
	case adminShutdown, crashShutdown:
		return "the server is shutting down, or the connection was ended there"
	case cannotConnectNow:
		return "the server is starting up, shutting down or recovering"
	case "57014":
		return "it took too long for the server (statement_timeout), or was cancelled there"
	case "55P03":
		return "a lock of another session was not released in time (lock_timeout)"
	case "28P01", "28000":
		return "the server refuses this role, or its password"
	case "3D000":
		return "there is no such database"
	case "42501":
		return "the role may not do this: give it the rights that qkdmail store init prints"
	case "42P01", "3F000":
		return "a table is missing: see qkdmail store init"
	case serializationFailure, deadlockDetected:
		return "it keeps conflicting with others"
	case "XX001", "XX002":
		return "the server's files are damaged: stop the relays, and restore a backup"
	}
	return ""
}

// isNetwork reports whether the connection to the server failed, or no server takes
// writes.
func isNetwork(err error) bool {
	_, dialed := errors.AsType[*pgconn.ConnectError](err)
	_, network := errors.AsType[net.Error](err)
	return dialed || network || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) || errors.Is(err, pgconn.ErrConnClosed)
}

// A failedConnect is the error of connecting to several servers, on one line and
// without the user, which pgx would show.
type failedConnect struct{ *pgconn.ConnectError }

func (f failedConnect) Error() string {
	inner := f.ConnectError.Unwrap()
	if inner == nil {
		return "no answer"
	}
	lines := strings.Split(inner.Error(), "\n")
	return strings.Join(slices.Compact(lines), "; ") // a server may be tried with and without TLS
}

// plain returns an error in a form for people.
func plain(err error) error {
	if dialed, ok := errors.AsType[*pgconn.ConnectError](err); ok {
		return failedConnect{dialed}
	}
	return err
}

func isLate(err error) bool { return errors.Is(err, context.DeadlineExceeded) }
