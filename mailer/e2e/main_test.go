package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// program is the folder of the qkdmail and qkdmaild binaries, built once.
var program struct {
	once sync.Once
	dir  string
	err  error
}

func TestMain(m *testing.M) {
	code := m.Run()
	if program.dir != "" {
		_ = os.RemoveAll(program.dir)
	}
	os.Exit(code)
}

// qkdmail returns the path of the binary.
func qkdmail(t *testing.T) string {
	t.Helper()
	program.once.Do(func() {
		if program.dir, program.err = os.MkdirTemp("", "qkdmail-e2e-"); program.err != nil {
			return
		}
		build := exec.Command("go", "build", "-o", program.dir, "github.com/qkdmail/qkdmail/cmd/qkdmail", "github.com/qkdmail/qkdmail/cmd/qkdmaild")
		if out, err := build.CombinedOutput(); err != nil {
			program.err = fmt.Errorf("%w: %s", err, out)
		}
	})
	if program.err != nil {
		t.Fatal(program.err)
	}
	return filepath.Join(program.dir, "qkdmail")
}

// needs skips the test where something is missing that it can't do without.
func needs(t *testing.T, programs ...string) {
	t.Helper()
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

// long skips a long test with -short.
func long(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("SKIPPED: long, and this is -short")
	}
}
