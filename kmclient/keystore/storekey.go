package keystore

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/keystore/internal/storekey"
	"github.com/qkdmail/qkdmail/kmclient/textfile"
)

// A StoreKey seals the records of a store. Printing it shows none of its bytes.
type StoreKey = storekey.Key

// NewStoreKey returns a random store key.
func NewStoreKey() StoreKey { return storekey.New() }

// A StoreKeySource returns the store key, or several of which one is right: while the
// store key is being changed, both are needed. fresh means that the store is still
// empty, so that a new key may be made.
type StoreKeySource func(fresh bool) ([]StoreKey, error)

// Keys returns a source of these keys.
func Keys(keys ...StoreKey) StoreKeySource {
	return func(bool) ([]StoreKey, error) { return keys, nil }
}

// KeyFile returns a source that reads a file: 32 bytes, raw, in base64 or in
// hexadecimal, with or without a line end. It also reads FILE.new, which an interrupted
// [Store.ReplaceKeyFile] leaves. If neither the file nor the store exists yet, it makes
// the file (mode 0600), with a warning: a key that lies beside the store protects only
// copies of the store. logger may be nil.
func KeyFile(path string, logger *slog.Logger) StoreKeySource {
	return func(fresh bool) ([]StoreKey, error) {
		if fresh {
			made, err := storekey.Make(path)
			if err != nil {
				return nil, err
			}
			if made && logger != nil {
				logger.Warn("a store key was made; it protects copies of the store, not this machine: back it up elsewhere, without it the store can't be read",
					"path", path)
			}
		}
		return storekey.ReadBoth(path)
	}
}

// ParseStoreKeySource parses file:PATH, a file that must exist; credential:NAME, a
// systemd credential (LoadCredential=NAME:PATH or LoadCredentialEncrypted=), both in
// the forms of a [KeyFile]; env:NAME, an environment variable in base64 or hexadecimal;
// and the empty string, which means a KeyFile at path.
func ParseStoreKeySource(spec, path string, logger *slog.Logger) (StoreKeySource, error) {
	how, what, _ := strings.Cut(spec, ":")
	switch {
	case spec == "":
		return KeyFile(path, logger), nil
	case what == "":
	case how == "file":
		return func(bool) ([]StoreKey, error) { return storekey.ReadBoth(what) }, nil
	case how == "credential":
		return func(bool) ([]StoreKey, error) { return keyCredential(what) }, nil
	case how == "env":
		return func(bool) ([]StoreKey, error) { return keyVariable(what) }, nil
	}
	return nil, fmt.Errorf("%w: store key: want file:PATH, credential:NAME or env:NAME", kmclient.ErrConfig) // spec could be the key
}

// keyCredential reads a systemd credential.
func keyCredential(name string) ([]StoreKey, error) {
	path, err := textfile.Path("credential:" + name)
	if err != nil {
		return nil, fmt.Errorf("%w: store key: %w", kmclient.ErrConfig, err)
	}
	key, err := storekey.Read(path)
	return []StoreKey{key}, err
}

// keyVariable reads an environment variable.
func keyVariable(name string) ([]StoreKey, error) {
	key, err := storekey.Parse([]byte(os.Getenv(name)))
	if err != nil {
		return nil, fmt.Errorf("%w: store key: environment variable %s: %w", kmclient.ErrConfig, name, err)
	}
	return []StoreKey{key}, nil
}

// Rotate seals all records, whoever the owner, with another store key. From then on the
// old key opens only copies that were made before. The store can be used meanwhile.
//
// If Rotate is interrupted, both keys are needed to open the store until Rotate has
// been called again with the same new key and has completed. Other processes ask their
// StoreKeySource again when they meet the new key. A process whose source does not
// return it can no longer read or write, and asks the key manager for no key: its
// errors are ErrStoreKey until it is started with the new key.
//
// Recipients stay recorded under the key for recipients that was made with the store,
// since the store does not know them; that key is sealed with the new store key.
func (s *Store) Rotate(ctx context.Context, newKey StoreKey) error {
	return s.records.Rotate(ctx, newKey)
}

// ReplaceKeyFile makes a new store key, changes to it, and replaces the file at path
// with it, keeping owner and permissions. If it is interrupted at any moment, it can be
// called again; in between, a [KeyFile] returns both keys.
func (s *Store) ReplaceKeyFile(ctx context.Context, path string) error {
	return storekey.Replace(path, func(key StoreKey) error { return s.Rotate(ctx, key) })
}
