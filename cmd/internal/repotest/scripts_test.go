package repotest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestPackageArguments: scripts/package answers --help, and refuses an unknown
// architecture, before it removes what was built.
func TestPackageArguments(t *testing.T) {
	if _, err := exec.LookPath("bash"); err != nil {
		t.Skip("no bash")
	}
	script, err := os.ReadFile(filepath.Join(root, "scripts", "package"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	path, built := filepath.Join(dir, "scripts", "package"), filepath.Join(dir, "dist", "built")
	for name, content := range map[string][]byte{path: script, built: nil} {
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, content, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		arg, says string
		ok        bool
	}{
		{"--help", "scripts/package [ARCH…]", true},
		{"-h", "VERSION=1.2.3", true},
		{"--version", "--help", false},
		{"vax", "vax", false},
	} {
		out, err := exec.CommandContext(t.Context(), "bash", path, tt.arg).CombinedOutput()
		if (err == nil) != tt.ok || !strings.Contains(string(out), tt.says) || strings.Contains(string(out), "set -e") {
			t.Errorf("scripts/package %s ends with %v and says\n%s; want %q in it, and success %t", tt.arg, err, out, tt.says, tt.ok)
		}
		if _, err := os.Stat(built); err != nil {
			t.Fatalf("scripts/package %s has removed what was built: %v", tt.arg, err)
		}
	}
}
