// Package relaytest has what the tests of whole relay processes share: the
// program as it is installed, waiting for something to be so, and numbers from
// the environment.
package relaytest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"
)

// Program is qkdmail, built when it is first asked for. The zero value is ready to
// use.
type Program struct {
	once sync.Once
	dir  string
	err  error
}

// Path returns the path of qkdmail. With -short it skips the test: whole relays
// take long.
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

// Main runs the tests of a package, removes the program, and returns the exit
// code.
func (p *Program) Main(m *testing.M) int {
	code := m.Run()
	if p.dir != "" {
		_ = os.RemoveAll(p.dir)
	}
	return code
}

// Number returns the number in an environment variable, at least 1, or
// otherwise where it is not set.
func Number(t testing.TB, name string, otherwise int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil || n <= 0 {
		t.Fatalf("%s=%q must be a whole number from 1 on", name, text)
	}
	return n
}

// Await waits until something is so, for atMost at most.
func Await(t testing.TB, atMost time.Duration, what string, so func() bool) {
	t.Helper()
	for end := time.Now().Add(atMost); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if so() {
			return
		}
	}
	if !so() {
		t.Fatalf("%s: not so within %v", what, atMost)
	}
}
