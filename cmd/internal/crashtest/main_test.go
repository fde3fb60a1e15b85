package crashtest

import (
	"testing"

	"github.com/qkdmail/qkdmail/cmd/internal/relaytest"
)

// The environment variables of a run.
const (
	secondsEnv  = "QKDMAIL_CRASH_SECONDS"  // how long things go wrong, half as long in each test with PostgreSQL; 60 by default
	messagesEnv = "QKDMAIL_CRASH_MESSAGES" // largest number of messages; no limit by default
	seedEnv     = "QKDMAIL_CRASH_SEED"     // seed of a run to repeat
)

// program is qkdmail, which the tests run.
var program relaytest.Program

func TestMain(m *testing.M) { program.Main(m) }

// qkdmail returns the path of the program.
func qkdmail(t testing.TB) string {
	t.Helper()
	return program.Path(t)
}
