package terminal

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/spf13/cobra"
)

// An overwritten file keeps its mode if it is our own. Until it is complete, only its
// owner can read it.
func TestOutputMode(t *testing.T) {
	dir := t.TempDir()
	for _, tt := range []struct {
		name  string
		mode  fs.FileMode // of the existing file; 0: none
		other bool        // it is another user's
		want  fs.FileMode
	}{
		{name: "new", want: 0o600},
		{name: "own", mode: 0o640, want: 0o640},
		{name: "other", mode: 0o666, other: true, want: 0o600},
	} {
		path := filepath.Join(dir, tt.name)
		if tt.mode != 0 {
			err := os.WriteFile(path, nil, 0o600)
			if err := errors.Join(err, os.Chmod(path, tt.mode)); err != nil {
				t.Fatal(err)
			}
		}
		if tt.other && os.Chown(path, 65534, 65534) != nil {
			t.Logf("SKIPPED: %s: only root can give a file away", tt.name)
			continue
		}
		cmd := &cobra.Command{}
		cmd.SetContext(t.Context())
		err := WriteOutput(cmd, path, true, func(out io.Writer) error {
			unfinished, err := filepath.Glob(filepath.Join(dir, ".qkdmail-*.tmp"))
			if err != nil || len(unfinished) != 1 {
				t.Fatalf("%s: %v, %v, want one temporary file", tt.name, unfinished, err)
			}
			if info, err := os.Stat(unfinished[0]); err != nil || info.Mode() != 0o600 {
				t.Errorf("%s: while it is written: %v, %v, want 0600", tt.name, info.Mode(), err)
			}
			_, err = io.WriteString(out, "text")
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(path); err != nil || info.Mode() != tt.want {
			t.Errorf("%s: %v, %v, want %v", tt.name, info.Mode(), err, tt.want)
		}
	}
}
