package storekey

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/durable"
	"github.com/qkdmail/qkdmail/kmclient/textfile"
)

// newSuffix ends the name of a file that is to replace another.
const newSuffix = ".new"

// Parse reads a key in one of its forms: raw bytes, base64 or hexadecimal. Its errors
// don't show its input.
func Parse(content []byte) (Key, error) {
	if len(content) == size {
		return Key{bytes.Clone(content)}, nil
	}
	text, err := textfile.Decode(content)
	if err != nil {
		return Key{}, err
	}
	text = bytes.TrimSpace(text)
	b := make([]byte, 64)
	switch {
	case len(text) == hex.EncodedLen(size):
		if n, err := hex.Decode(b, text); err == nil {
			return Key{b[:n]}, nil
		}
	case len(text) == base64.StdEncoding.EncodedLen(size):
		if n, err := base64.StdEncoding.Strict().Decode(b, text); err == nil && n == size {
			return Key{b[:n]}, nil
		}
	case len(text) == 0:
		return Key{}, errors.New("empty")
	}
	return Key{}, errors.New("must be 32 bytes, in base64 or hexadecimal")
}

// Read reads the key in a file. Its errors wrap kmclient.ErrConfig.
func Read(path string) (Key, error) {
	f, err := os.Open(path)
	if err != nil {
		return Key{}, configError(err)
	}
	defer func() { _ = f.Close() }()
	content, err := io.ReadAll(io.LimitReader(f, 1024))
	defer clear(content)
	var key Key
	if err == nil {
		key, err = Parse(content)
	}
	if err != nil {
		return Key{}, fmt.Errorf("%w: store key %s: %w", kmclient.ErrConfig, path, err)
	}
	return key, nil
}

func configError(err error) error {
	return fmt.Errorf("%w: store key: %w", kmclient.ErrConfig, err)
}

// ReadBoth reads the key in a file, and the one that is to replace it, if any.
func ReadBoth(path string) ([]Key, error) {
	// The new one first: it may be replacing the old one at this moment.
	next, nextErr := Read(path + newSuffix)
	key, err := Read(path)
	switch {
	case err != nil:
		return nil, err
	case errors.Is(nextErr, fs.ErrNotExist):
		return []Key{key}, nil
	}
	return []Key{key, next}, nextErr
}

// Make writes a new key to a file (mode 0600). It reports false if the file exists.
func Make(path string) (made bool, err error) {
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	err = write(path, "")
	if errors.Is(err, fs.ErrExist) { // another process has just made it
		return false, nil
	}
	if err != nil {
		return false, configError(err)
	}
	return true, nil
}

// Replace makes a new key, calls use to change to it, and replaces the file at path
// with it, keeping owner and permissions. If it is interrupted at any moment, it can be
// called again; in between, ReadBoth returns both keys.
func Replace(path string, use func(Key) error) error {
	next := path + newSuffix
	if _, err := os.Lstat(next); errors.Is(err, os.ErrNotExist) {
		if err := write(next, path); err != nil {
			return configError(err)
		}
	}
	key, err := Read(next)
	if err != nil {
		return err
	}
	if err := use(key); err != nil {
		return err
	}
	err = os.Rename(next, path)
	if err == nil {
		err = durable.Sync(filepath.Dir(path))
	}
	if err != nil {
		return fmt.Errorf("%w: store key: the new one is in %s and has to be moved to %s: %w", kmclient.ErrConfig, next, path, err)
	}
	return nil
}

// write makes a file with a new key, complete or not at all. If it exists, the error is
// fs.ErrExist. The same users as for the file old can read it, or only this user if old
// is "".
func write(path, old string) error {
	dir := filepath.Dir(path)
	if err := durable.MakeFolder(dir); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, ".store-key-*") // mode 0600
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }()
	key := New()
	defer key.Wipe()
	text := append(base64.StdEncoding.AppendEncode(nil, key.bytes), '\n')
	defer clear(text)
	_, err = f.Write(text)
	if err == nil && old != "" {
		err = likeOld(f, old)
	}
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Link(f.Name(), path); err != nil {
		return err
	}
	return durable.Sync(dir)
}
