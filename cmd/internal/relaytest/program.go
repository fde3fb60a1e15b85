package relaytest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// A Program is qkdmail, built when it is first needed. The zero value is ready
// for use.
type Program struct {
	once sync.Once
	dir  string
	err  error
}

// Path returns the path of qkdmail. With -short it skips the test, because tests
// of whole relays take long.
func (p *Program) Path(t testing.TB) string {
	t.Helper()
	if testing.Short() {
		t.Skip("SKIPPED: -short runs no relay as a process")
	}
	p.once.Do(p.build)
	if p.err != nil {
		t.Fatal(p.err)
	}
	return filepath.Join(p.dir, "qkdmail")
}

func (p *Program) build() {
	if p.dir, p.err = os.MkdirTemp("", "qkdmail-program-"); p.err != nil {
		return
	}
	if out, err := exec.Command("go", "build", "-o", p.dir, "github.com/qkdmail/qkdmail/cmd/qkdmail").CombinedOutput(); err != nil {
		p.err = fmt.Errorf("build qkdmail: %w: %s", err, out)
	}
}

// Main runs the tests of a package, removes the program and exits.
func (p *Program) Main(m *testing.M) {
	code := m.Run()
	if p.dir != "" {
		_ = os.RemoveAll(p.dir)
	}
	os.Exit(code)
}
