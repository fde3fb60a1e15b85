package keystore

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/durable"
	"github.com/qkdmail/qkdmail/kmclient/textfile"
)

// A KeySource gives the store key, or several of which one is right: while the
// store key is being changed both are needed. fresh says that the store has
// nothing in it yet, so that a new key may be made.
type KeySource func(fresh bool) ([]StoreKey, error)

// Keys is a source of these keys.
func Keys(keys ...StoreKey) KeySource {
	return func(bool) ([]StoreKey, error) { return keys, nil }
}

// KeyFile is a source that reads a file: 32 octets, as they are, in base64 or
// in hexadecimal, with or without a line end. FILE.new, where [Store.ReplaceKeyFile]
// was interrupted, is read as well.
func KeyFile(path string) KeySource {
	return func(bool) ([]StoreKey, error) {
		// The new one first: it may be taking the place of the old one just now.
		next, nextErr := readKeyFile(path + newSuffix)
		key, err := readKeyFile(path)
		switch {
		case err != nil:
			return nil, err
		case errors.Is(nextErr, fs.ErrNotExist):
			return []StoreKey{key}, nil
		}
		return []StoreKey{key, next}, nextErr
	}
}

// KeyCredential is a source that reads a credential of systemd
// (LoadCredential=NAME:PATH or LoadCredentialEncrypted=), in the forms of a
// KeyFile.
func KeyCredential(name string) KeySource {
	return func(bool) ([]StoreKey, error) {
		dir := os.Getenv("CREDENTIALS_DIRECTORY")
		if dir == "" || name == "" || name != filepath.Base(name) || name == ".." {
			return nil, fmt.Errorf("%w: store key: no credential %q: it comes from LoadCredential= of a systemd unit", kmclient.ErrConfig, name)
		}
		key, err := readKeyFile(filepath.Join(dir, name))
		return []StoreKey{key}, err
	}
}

// KeyEnv is a source that reads an environment variable, in base64 or
// hexadecimal.
func KeyEnv(name string) KeySource {
	return func(bool) ([]StoreKey, error) {
		key, err := parseStoreKey([]byte(os.Getenv(name)))
		if err != nil {
			return nil, fmt.Errorf("%w: store key: environment variable %s: %w", kmclient.ErrConfig, name, err)
		}
		return []StoreKey{key}, nil
	}
}

// MadeKeyFile is a KeyFile that is made (mode 0600) if neither it nor the store
// is there yet, with a warning: a key that lies beside the store protects
// copies of the store only.
func MadeKeyFile(path string, logger *slog.Logger) KeySource {
	return func(fresh bool) ([]StoreKey, error) {
		if _, err := os.Lstat(path); fresh && errors.Is(err, fs.ErrNotExist) {
			err := writeKeyFile(path, "", NewStoreKey())
			if err != nil && !errors.Is(err, fs.ErrExist) { // another process may just have made it
				return nil, fmt.Errorf("%w: store key: %w", kmclient.ErrConfig, err)
			}
			if err == nil && logger != nil {
				logger.Warn("a store key was made; it protects copies of the store, not this machine: back it up elsewhere, without it the store can't be read",
					"path", path)
			}
		}
		return KeyFile(path)(fresh)
	}
}

// ParseKeySource understands file:PATH, credential:NAME, env:NAME, and for the
// empty string a MadeKeyFile of path.
func ParseKeySource(spec, path string, logger *slog.Logger) (KeySource, error) {
	how, what, _ := strings.Cut(spec, ":")
	switch {
	case spec == "":
		return MadeKeyFile(path, logger), nil
	case what == "":
	case how == "file":
		return KeyFile(what), nil
	case how == "credential":
		return KeyCredential(what), nil
	case how == "env":
		return KeyEnv(what), nil
	}
	return nil, fmt.Errorf("%w: store key: want file:PATH, credential:NAME or env:NAME", kmclient.ErrConfig) // spec could be the key
}

func readKeyFile(path string) (StoreKey, error) {
	f, err := os.Open(path)
	if err != nil {
		return StoreKey{}, fmt.Errorf("%w: store key: %w", kmclient.ErrConfig, err)
	}
	defer func() { _ = f.Close() }()
	content, err := io.ReadAll(io.LimitReader(f, 1024))
	defer clear(content)
	var key StoreKey
	if err == nil {
		key, err = parseStoreKey(content)
	}
	if err != nil {
		return StoreKey{}, fmt.Errorf("%w: store key %s: %w", kmclient.ErrConfig, path, err)
	}
	return key, nil
}

// parseStoreKey accepts the octets, base64 and hexadecimal. Its errors don't
// show what it was given.
func parseStoreKey(content []byte) (StoreKey, error) {
	if len(content) == storeKeySize {
		return StoreKey{bytes.Clone(content)}, nil
	}
	text, err := textfile.Decode(content)
	if err != nil {
		return StoreKey{}, err
	}
	text = bytes.TrimSpace(text)
	octets := make([]byte, 64)
	switch {
	case len(text) == hex.EncodedLen(storeKeySize):
		if n, err := hex.Decode(octets, text); err == nil {
			return StoreKey{octets[:n]}, nil
		}
	case len(text) == base64.StdEncoding.EncodedLen(storeKeySize):
		if n, err := base64.StdEncoding.Strict().Decode(octets, text); err == nil && n == storeKeySize {
			return StoreKey{octets[:n]}, nil
		}
	case len(text) == 0:
		return StoreKey{}, errors.New("empty")
	}
	return StoreKey{}, errors.New("must be 32 octets, in base64 or hexadecimal")
}

const newSuffix = ".new"

// writeKeyFile makes a file with a key, as a whole or not at all; it is an
// fs.ErrExist if there is one. It will be for the same users as the file old, if
// one is named, or else for this one alone.
func writeKeyFile(path, old string, key StoreKey) error {
	dir := filepath.Dir(path)
	if err := durable.MakeFolder(dir); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, ".store-key-*") // mode 0600
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }()
	text := append(base64.StdEncoding.AppendEncode(nil, key.octets), '\n')
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
