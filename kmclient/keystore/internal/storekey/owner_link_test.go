//go:build unix

package storekey

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// Root changes the store key in a folder of the relay's user, who replaces the file
// that root has just made with a link: the file that the link leads to is not given
// away.
func TestLikeOldFollowsNoLink(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: only root can give a file away")
	}
	dir := t.TempDir()
	other, old, made := filepath.Join(dir, "other"), filepath.Join(dir, "keys.db.key"), filepath.Join(dir, ".store-key-1")
	for _, p := range []string{other, old, made} {
		if err := os.WriteFile(p, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chown(old, 4242, 4343); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(made, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	if err := os.Remove(made); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(other, made); err != nil {
		t.Fatal(err)
	}
	if err := likeOld(f, old); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		what string
		look func() (os.FileInfo, error)
		want uint32
	}{
		{"the file that the link leads to", func() (os.FileInfo, error) { return os.Stat(other) }, 0},
		{"the new file", f.Stat, 4242},
	} {
		info, err := c.look()
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Sys().(*syscall.Stat_t).Uid; got != c.want {
			t.Errorf("%s belongs to user %d, want %d", c.what, got, c.want)
		}
	}
}
