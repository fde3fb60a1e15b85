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

// A StoreKey seals the records of a store. It prints as nothing.
type StoreKey = storekey.Key

// NewStoreKey returns a random one.
func NewStoreKey() StoreKey { return storekey.New() }

// A StoreKeySource gives the store key, or several of which one is right: while the
// store key is being changed both are needed. fresh reports that the store has
// nothing in it yet, so that a new key may be made.
type StoreKeySource func(fresh bool) ([]StoreKey, error)

// Keys is a source of these keys.
func Keys(keys ...StoreKey) StoreKeySource {
	return func(bool) ([]StoreKey, error) { return keys, nil }
}

// KeyFile is a source that reads a file: 32 bytes, as they are, in base64 or in
// hexadecimal, with or without a line end. FILE.new, where [Store.ReplaceKeyFile]
// was interrupted, is read as well. If neither the file nor the store is there yet,
// it is made (mode 0600), with a warning: a key that lies beside the store protects
// copies of the store only. logger may be nil.
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

// ParseStoreKeySource understands file:PATH, a file that must be there; credential:NAME, a
// credential of systemd (LoadCredential=NAME:PATH or LoadCredentialEncrypted=), both in
// the forms of a [KeyFile]; env:NAME, an environment variable in base64 or hexadecimal;
// and the empty string, which is a KeyFile at path.
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

// keyCredential reads a credential of systemd.
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

// Rotate seals all records, whoever the owner, with another store key. From then
// on the old one opens nothing but copies that were made before. Messages may be
// worked on meanwhile.
//
// If it is interrupted, both keys are needed to open the store until Rotate has
// been called again, with the same new key, and has come to its end. Other
// processes ask their StoreKeySource again when they meet the new key; one whose
// source does not give it can't read or write any more, and asks the key manager
// for no key: its errors are an ErrStoreKey until it is started with the new key.
//
// Recipients stay recorded under the key that was made with the store, since
// they are not known here; it is sealed with the new key.
func (s *Store) Rotate(ctx context.Context, newKey StoreKey) error {
	return s.records.Rotate(ctx, newKey)
}

// ReplaceKeyFile makes a new store key, changes to it and puts it into the file
// at path, in the place of the old one and with its owner and permissions.
// Interrupted at any moment, it can be called again; in between a [KeyFile] gives
// both keys.
func (s *Store) ReplaceKeyFile(ctx context.Context, path string) error {
	return storekey.Replace(path, func(key StoreKey) error { return s.Rotate(ctx, key) })
}
