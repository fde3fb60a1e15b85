package e2e

import (
	"os"
	"os/exec"
	"testing"

	"github.com/qkdmail/qkdmail/cmd/internal/relaytest"
)

// program is qkdmail, which the tests run.
var program relaytest.Program

func TestMain(m *testing.M) { os.Exit(program.Main(m)) }

// qkdmail returns the path of the program.
func qkdmail(t *testing.T) string {
	t.Helper()
	return program.Path(t)
}

// needs skips a test that can't do without these programs where one is missing,
// and with -short.
func needs(t *testing.T, programs ...string) {
	t.Helper()
	if testing.Short() {
		t.Skip("SKIPPED: -short runs no mail system")
	}
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			t.Skipf("SKIPPED: %s is not installed; scripts/install-test-tools installs it", p)
		}
	}
}

// needsPostfix skips the test where Postfix can't be run.
func needsPostfix(t *testing.T) {
	t.Helper()
	needs(t, "postfix", "postconf", "postqueue")
	if os.Getuid() != 0 {
		t.Skip("SKIPPED: Postfix runs as root only")
	}
}
