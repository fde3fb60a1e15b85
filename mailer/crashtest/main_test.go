package crashtest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// What can be asked of a run, by environment variables.
const (
	secondsEnv  = "QKDMAIL_CRASH_SECONDS"  // for how long things go wrong; 12
	messagesEnv = "QKDMAIL_CRASH_MESSAGES" // that are sent at most; no limit
	seedEnv     = "QKDMAIL_CRASH_SEED"     // of a run to repeat
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
func qkdmail(t testing.TB) string {
	t.Helper()
	program.once.Do(func() {
		if program.dir, program.err = os.MkdirTemp("", "qkdmail-crash-"); program.err != nil {
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

func envNumber(t testing.TB, name string, otherwise int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil || n <= 0 {
		t.Fatalf("%s=%q is no number", name, text)
	}
	return n
}

// await waits until something is so.
func await(t testing.TB, atMost time.Duration, what string, so func() bool) {
	t.Helper()
	for end := time.Now().Add(atMost); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if so() {
			return
		}
	}
	if !so() {
		t.Fatalf("%s: not within %v", what, atMost)
	}
}

// An order says what was before what.
type order struct{ last atomic.Int64 }

func (o *order) now() int64 { return o.last.Add(1) }

// A span is from one moment of an order to another.
type span struct{ from, to int64 }

func (s span) overlaps(o span) bool { return s.from <= o.to && o.from <= s.to }
