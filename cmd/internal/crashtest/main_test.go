package crashtest

import (
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/qkdmail/qkdmail/cmd/internal/relaytest"
)

// What can be asked of a run, by environment variables.
const (
	secondsEnv  = "QKDMAIL_CRASH_SECONDS"  // for how long things go wrong, half of it each with PostgreSQL; 60: a minute in CI
	messagesEnv = "QKDMAIL_CRASH_MESSAGES" // that are sent at most; no limit
	seedEnv     = "QKDMAIL_CRASH_SEED"     // of a run to repeat
)

// program is qkdmail, which the tests run.
var program relaytest.Program

func TestMain(m *testing.M) { os.Exit(program.Main(m)) }

// qkdmail returns the path of the program.
func qkdmail(t testing.TB) string {
	t.Helper()
	return program.Path(t)
}

// await waits until something is so.
func await(t testing.TB, atMost time.Duration, what string, so func() bool) {
	t.Helper()
	relaytest.Await(t, atMost, what, so)
}

// An order says what was before what.
type order struct{ last atomic.Int64 }

func (o *order) now() int64 { return o.last.Add(1) }

// A span is from one moment of an order to another.
type span struct{ from, to int64 }

func (s span) overlaps(o span) bool { return s.from <= o.to && o.from <= s.to }
