package durable_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/qkdmail/qkdmail/kmclient/durable"
)

func TestMakeFolder(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	for _, name := range []string{"a/b/c", "a/b/d", "./e/../f", filepath.Join(dir, "g/h"), ".", "/"} {
		if err := durable.MakeFolder(name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if info, err := os.Stat(filepath.Clean(name)); err != nil || !info.IsDir() {
			t.Errorf("%s: %v, want a folder", name, err)
		}
	}
	if info, err := os.Stat("a/b"); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v, want mode 0700", info.Mode(), err)
	}
	if err := os.WriteFile("file", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("nowhere", "link"); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"file", "file/x", "link"} {
		if err := durable.MakeFolder(name); err == nil {
			t.Errorf("%s: no error, although it is not a folder", name)
		}
	}
}

// Several processes may make the same folder.
func TestMakeFolderTogether(t *testing.T) {
	name := filepath.Join(t.TempDir(), "a/b/c/d")
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			if err := durable.MakeFolder(name); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}

func TestSync(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{file, dir} {
		if err := durable.Sync(path); err != nil {
			t.Error(err)
		}
	}
	if err := durable.Sync(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
}
