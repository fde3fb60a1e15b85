package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestHandOver runs the two programs as they are installed: qkdmail finds
// qkdmaild beside itself, through a symbolic link too, or in the PATH, and says
// what to do where there is none.
func TestHandOver(t *testing.T) {
	dir := t.TempDir()
	both, alone := filepath.Join(dir, "both"), filepath.Join(dir, "alone")
	for _, args := range [][]string{{both, ".", "../qkdmaild"}, {alone, "."}} {
		if err := os.Mkdir(args[0], 0o755); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command("go", append([]string{"build", "-o"}, args...)...).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	linked := filepath.Join(dir, "linked")
	if err := os.Symlink(filepath.Join(both, "qkdmail"), linked); err != nil {
		t.Fatal(err)
	}
	const help = "Stand between two mail systems"
	for name, tt := range map[string]struct {
		program, path string
		args          []string
		code          int
		want          string
	}{
		"beside":             {filepath.Join(both, "qkdmail"), "", []string{"relay", "--help"}, 0, help},
		"beside the file":    {linked, "", []string{"relay", "--help"}, 0, help},
		"in the PATH":        {filepath.Join(alone, "qkdmail"), both, []string{"relay", "--help"}, 0, help},
		"its exit code":      {filepath.Join(both, "qkdmail"), "", []string{"relay"}, 64, "--config FILE"},
		"nowhere":            {filepath.Join(alone, "qkdmail"), "", []string{"relay", "--help"}, 69, "go install github.com/qkdmail/qkdmail/cmd/{qkdmail,qkdmaild}@latest"},
		"tempfail":           {filepath.Join(alone, "qkdmail"), "", []string{"--tempfail", "relay"}, 75, "qkdmaild"},
		"completion":         {filepath.Join(both, "qkdmail"), "", []string{"__complete", "relay", "--next"}, 0, "--next-hop"},
		"completion here":    {filepath.Join(alone, "qkdmail"), "", []string{"__complete", "encrypt", "--sui"}, 0, "--suite"},
		"a subcommand":       {filepath.Join(both, "qkdmail"), "", []string{"km", "serve", "--help"}, 0, "authenticates nobody"},
		"a PostgreSQL store": {filepath.Join(alone, "qkdmail"), "", []string{"decrypt", "--km", "mock:k.json", "--store", "postgres://127.0.0.1:1/x"}, 69, "qkdmaild"},
	} {
		cmd := exec.Command(tt.program, tt.args...)
		cmd.Env = append(os.Environ(), "PATH="+tt.path)
		cmd.Dir = t.TempDir()
		out, _ := cmd.CombinedOutput()
		if code := cmd.ProcessState.ExitCode(); code != tt.code || !strings.Contains(string(out), tt.want) {
			t.Errorf("%s: exit code %d, want %d, with %q in:\n%s", name, code, tt.code, tt.want, out)
		}
	}
}
