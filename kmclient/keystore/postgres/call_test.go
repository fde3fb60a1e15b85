package postgres

import (
	"context"
	"errors"
	"io"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
)

// A request that may have been committed, or can't succeed, is never sent again.
func TestMayRepeat(t *testing.T) {
	said := func(severity, code string) error {
		return &pgconn.PgError{Severity: "FEHLER", SeverityUnlocalized: severity, Code: code}
	}
	deadlock, shutdown := said("ERROR", deadlockDetected), said("FATAL", adminShutdown)
	for _, test := range []struct {
		name              string
		err               error
		write, read, sent bool // whether these may be repeated
	}{
		{"deadlock", deadlock, true, true, true},
		{"serialization", said("ERROR", serializationFailure), true, true, true},
		{"read-only", said("ERROR", readOnlyTransaction), true, true, true},
		{"deadlock, and the end", said("FATAL", deadlockDetected), false, true, true},
		{"shutdown", shutdown, false, true, true},
		{"broken", io.ErrUnexpectedEOF, false, true, true},
		{"unknown to CockroachDB", said("ERROR", "40003"), false, false, false},
		{"full", said("ERROR", "53100"), false, false, false},
		{"password", said("FATAL", "28P01"), false, false, false},
		{"cancelled", errCancelled, false, false, false},
		{"not fit", errFsync, false, false, false},
		{"no more time", context.DeadlineExceeded, false, true, true},
	} {
		if got := mayRepeat(test.err, once, 1); got != test.write {
			t.Errorf("%s: a write: %v", test.name, got)
		}
		if got := mayRepeat(test.err, repeatable, 1); got != test.read {
			t.Errorf("%s: a read: %v", test.name, got)
		}
		if got := mayRepeat(unconnected{test.err}, once, 1); got != test.sent {
			t.Errorf("%s: a write that was not sent: %v", test.name, got)
		}
	}
	if mayRepeat(deadlock, once, attempts) || mayRepeat(errors.Join(shutdown), once, 1) {
		t.Error("a request is repeated forever, or after a shutdown")
	}
}
