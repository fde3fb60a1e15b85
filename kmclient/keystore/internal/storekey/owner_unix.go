//go:build unix

package storekey

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
)

// likeOld gives an open file the owner, the group and the permissions of the one
// that it takes the place of: root changes the store key of a relay that runs as
// another user. Whoever owns the folder could have put a link in the place of the
// name, so it is the file itself that is changed. If that can't be done the error
// comes before any change.
func likeOld(f *os.File, old string) error {
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
	if err := f.Chown(int(was.Uid), int(was.Gid)); err != nil {
		return err
	}
	return f.Chmod(info.Mode().Perm())
}
