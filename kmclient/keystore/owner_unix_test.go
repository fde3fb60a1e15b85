//go:build unix

package keystore_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/qkdmail/qkdmail/kmclient/keystore"
	"github.com/qkdmail/qkdmail/kmclient/keystore/memory"
)

// Root changes the store key of a relay that runs as another user, who must be
// able to read the new one.
func TestReplaceKeyFileOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: only root can give a file away")
	}
	path := filepath.Join(t.TempDir(), "keys.db.key")
	s, err := openWith(t, memory.New(), keystore.KeyFile(path, nil))
	if err == nil {
		err = os.Chown(path, 4242, 4343)
	}
	if err == nil {
		err = s.ReplaceKeyFile(t.Context(), path)
	}
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if owner := info.Sys().(*syscall.Stat_t); owner.Uid != 4242 || owner.Gid != 4343 || info.Mode() != 0o600 {
		t.Errorf("the new file is %d:%d, %v", owner.Uid, owner.Gid, info.Mode())
	}
}

// The new key replaces the old one while a relay reads the files: the relay must not
// get only the old one.
func TestKeyFileMeanwhileReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.db.key")
	old, next := strings.Repeat("o", 32), strings.Repeat("n", 32)
	if err := os.WriteFile(path+".new", []byte(next), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	replaced := make(chan error, 1)
	go func() {
		f, err := os.OpenFile(path, os.O_WRONLY, 0) // waits for the reader of the old one
		if err == nil {
			err = os.Rename(path+".new", path)
		}
		if err == nil {
			_, err = f.WriteString(old)
		}
		replaced <- errors.Join(err, f.Close())
	}()
	keys, err := keystore.KeyFile(path, nil)(false)
	if err := errors.Join(err, <-replaced); err != nil {
		t.Fatal(err)
	}
	if len(keys) != 2 {
		t.Errorf("%d keys, want the old and the new one", len(keys))
	}
}
