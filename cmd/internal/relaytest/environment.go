package relaytest

import (
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"
)

// Number returns the number in an environment variable, at least 1, or
// otherwise if it is not set.
func Number(t testing.TB, name string, otherwise int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil || n <= 0 {
		t.Fatalf("%s=%q must be a whole number, at least 1", name, text)
	}
	return n
}

// Seed returns a seed for random numbers and logs it. To repeat a run, set the
// environment variable to its seed.
func Seed(t testing.TB, name string) uint64 {
	t.Helper()
	seed := Number(t, name, int(time.Now().UnixNano()&0xFFFFFF))
	t.Logf("%s=%d repeats this run", name, seed)
	return uint64(seed)
}

// Needs skips a test if one of these programs is not installed, and with -short.
func Needs(t testing.TB, programs ...string) {
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
