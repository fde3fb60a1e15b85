package mock

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/gofrs/flock"
	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/durable"
	"github.com/qkdmail/qkdmail/kmclient/internal/keyjson"
	"github.com/qkdmail/qkdmail/kmclient/textfile"
)

const (
	fileLimit = 1 << 30              // bytes
	lockPoll  = 2 * time.Millisecond // between two attempts to get the lock
)

// A fileStore reads and replaces the file. It remembers the content until another
// process changes the file. It must not be used by several goroutines at a time.
type fileStore struct {
	path string

	// The content that was last read or written, and its file, which stays open:
	// otherwise a later file could get the same inode number and be mistaken for it.
	held *keyFile
	file *os.File
	info fs.FileInfo
}

func (s *fileStore) exists() bool {
	_, err := os.Stat(s.path)
	return !errors.Is(err, fs.ErrNotExist)
}

// load returns the content of the file.
func (s *fileStore) load() (*keyFile, error) {
	info, err := os.Stat(s.path)
	if errors.Is(err, fs.ErrNotExist) {
		s.forget()
		return newKeyFile(), nil
	}
	if err != nil {
		return nil, s.unreadable(err)
	}
	if s.held != nil && os.SameFile(info, s.info) && info.Size() == s.info.Size() && info.ModTime().Equal(s.info.ModTime()) {
		return s.held, nil
	}
	s.forget()
	if !info.Mode().IsRegular() { // opening a pipe would block
		return nil, s.unreadable(errors.New("not a regular file"))
	}
	file, err := os.Open(s.path)
	if err != nil {
		return nil, s.unreadable(err)
	}
	held, info, err := readKeyFile(file)
	if err != nil {
		_ = file.Close()
		return nil, s.unreadable(err)
	}
	s.held, s.file, s.info = held, file, info
	return held, nil
}

func readKeyFile(file *os.File) (*keyFile, fs.FileInfo, error) {
	info, err := file.Stat()
	if err != nil {
		return nil, nil, err
	}
	if info.Size() > fileLimit {
		return nil, nil, fmt.Errorf("over %d bytes", fileLimit)
	}
	data, err := keyjson.Read(file, info.Size(), fileLimit)
	if err != nil {
		return nil, nil, err
	}
	defer clear(data)
	text, err := textfile.Decode(data)
	if err != nil {
		return nil, nil, err
	}
	held, err := parseKeyFile(text)
	return held, info, err
}

// unreadable returns the error for a file that only a person can repair.
func (s *fileStore) unreadable(err error) error {
	return fmt.Errorf("%w %s: %w; it is left as it is: repair it, put a backup in its place, or move it away to start a new one",
		kmclient.ErrStore, s.path, err)
}

// failed returns the error for a change that can't be made. Trouble with a disk may
// pass.
func (s *fileStore) failed(what string, err error) error {
	for _, passing := range []error{syscall.ENOSPC, syscall.EDQUOT, syscall.EIO} {
		if errors.Is(err, passing) {
			return fmt.Errorf("%w %s: %s %w: %w", kmclient.ErrStore, s.path, what, kmclient.ErrStoreBusy, err)
		}
	}
	return fmt.Errorf("%w %s: %s: %w", kmclient.ErrStore, s.path, what, err)
}

// forget makes the next load read the file.
func (s *fileStore) forget() {
	if s.held == nil {
		return
	}
	for _, k := range s.held.keys {
		clear(k.secret)
	}
	_ = s.file.Close() // was only read, or is already synced
	s.held, s.file, s.info = nil, nil, nil
}

// save replaces the file, durably, and returns its size in bytes. The lock must be
// held.
func (s *fileStore) save(f *keyFile) (int, error) {
	f.updated = time.Now().Format("2006-01-02T15:04:05.000000")
	data := f.encode()
	defer clear(data)
	file, info, err := s.replace(data)
	if err != nil {
		s.forget()
		return 0, s.failed("can't be written", err)
	}
	if s.file != nil {
		_ = s.file.Close()
	}
	s.held, s.file, s.info = f, file, info
	return len(data), nil
}

// replace writes a temporary file next to the file and renames it. The temporary file
// always has the same name, so a crash leaves at most one, which the next change
// removes.
func (s *fileStore) replace(data []byte) (_ *os.File, _ fs.FileInfo, err error) {
	temp := s.path + ".tmp"
	if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, err
	}
	file, err := os.OpenFile(temp, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, nil, err
	}
	defer func() {
		if err != nil {
			_ = file.Close()
			_ = os.Remove(temp) // it holds keys, unless it is already renamed
		}
	}()
	if _, err := io.Copy(file, bytes.NewReader(data)); err != nil {
		return nil, nil, err
	}
	if err := file.Sync(); err != nil {
		return nil, nil, err
	}
	info, err := file.Stat()
	if err != nil {
		return nil, nil, err
	}
	if err := os.Rename(temp, s.path); err != nil {
		return nil, nil, err
	}
	return file, info, durable.Sync(filepath.Dir(s.path))
}

// lock keeps other processes, and other mocks of this one, from changing the file
// until unlock is called. It makes the folder and a lock file next to the file. The
// lock file stays, since removing it would be a race.
func (s *fileStore) lock(ctx context.Context) (unlock func(), err error) {
	if err := durable.MakeFolder(filepath.Dir(s.path)); err != nil {
		return nil, s.failed("its folder can't be made", err)
	}
	lock := flock.New(s.path+".lock", flock.SetPermissions(0o600))
	if _, err := lock.TryLockContext(ctx, lockPoll); err != nil {
		_ = lock.Close()
		if ctx.Err() != nil {
			return nil, kmclient.Canceled(ctx)
		}
		return nil, s.failed("can't be locked", err)
	}
	return func() { _ = lock.Close() }, nil
}
