package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
)

// maxStartAllocs bounds the allocations of the linked packages before main: the
// program runs for every file. Growth is a decision.
const maxStartAllocs = 3_200

// TestStart checks that packages do little when the program starts, whether
// used or not.
func TestStart(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: builds the program; skipped in short mode")
	}
	program := filepath.Join(t.TempDir(), "qkdmail")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	cmd := exec.CommandContext(t.Context(), program, "--version")
	cmd.Env = append(os.Environ(), "GODEBUG=inittrace=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	packages, allocs := 0, 0
	for _, m := range regexp.MustCompile(`(?m)^init \S+ .* (\d+) allocs$`).FindAllSubmatch(out, -1) {
		n, err := strconv.Atoi(string(m[1]))
		if err != nil {
			t.Fatal(err)
		}
		packages, allocs = packages+1, allocs+n
	}
	t.Logf("%d packages initialise themselves with %d allocations", packages, allocs)
	if packages == 0 || allocs > maxStartAllocs {
		t.Errorf("%d packages initialise themselves with %d allocations, want at most %d: GODEBUG=inittrace=1 qkdmail --version shows which", packages, allocs, maxStartAllocs)
	}
}
