//go:build unix

package keystore_test

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/qkdmail/qkdmail/kmclient/keystore"
	"github.com/qkdmail/qkdmail/kmclient/keystore/storetest"
)

// Root changes the store key of a relay that runs as another user, who must be
// able to read the new one.
func TestReplaceKeyFileOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: only root can give a file away")
	}
	path := filepath.Join(t.TempDir(), "keys.db.key")
	v, err := keystore.Open(t.Context(), storetest.NewMemory().Open(), keystore.MadeKeyFile(path, nil), nil)
	if err == nil {
		err = os.Chown(path, 4242, 4343)
	}
	if err == nil {
		err = keystore.ReplaceKeyFile(t.Context(), v, path)
	}
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if s := info.Sys().(*syscall.Stat_t); s.Uid != 4242 || s.Gid != 4343 || info.Mode() != 0o600 {
		t.Errorf("the new file is %d:%d, %v", s.Uid, s.Gid, info.Mode())
	}
}
