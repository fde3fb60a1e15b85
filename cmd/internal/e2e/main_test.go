package e2e

import (
	"os"
	"testing"

	"github.com/qkdmail/qkdmail/cmd/internal/relaytest"
)

// program is qkdmail, which the tests run.
var program relaytest.Program

func TestMain(m *testing.M) { program.Main(m) }

// qkdmail returns the path of the program.
func qkdmail(t *testing.T) string {
	t.Helper()
	return program.Path(t)
}

// needsPostfix skips the test if Postfix can't run.
func needsPostfix(t *testing.T) {
	t.Helper()
	relaytest.Needs(t, "postfix", "postconf", "postqueue")
	if os.Getuid() != 0 {
		t.Skip("SKIPPED: Postfix runs only as root")
	}
}
