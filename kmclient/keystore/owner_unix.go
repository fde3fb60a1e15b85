//go:build unix

package keystore

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
)

// likeOld gives a file the owner, the group and the permissions of the one that
// it takes the place of: root changes the store key of a relay that runs as
// another user. If that can't be done the error comes before any change.
func likeOld(path, old string) error {
	info, err := os.Stat(old)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	was, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return nil
	}
	if err := os.Chown(path, int(was.Uid), int(was.Gid)); err != nil {
		return err
	}
	return os.Chmod(path, info.Mode().Perm())
}
