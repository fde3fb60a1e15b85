package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/keystore"
	"github.com/qkdmail/qkdmail/kmclient/keystore/sqlite"
	"github.com/spf13/cobra"
)

// storeFlags say where receiving keys are kept.
type storeFlags struct {
	path string // "none": nowhere; "": in the state directory, where it is needed
	key  string
}

func (s *storeFlags) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&s.path, "store", "", "SQLite file that keeps the keys of arriving messages, or none (default: one in the state directory where the key manager deletes keys when it hands them out)")
	f.StringVar(&s.key, "store-key", "", "what the store is sealed with: file:PATH, credential:NAME or env:NAME (default: FILE.key beside the store)")
}

// A keptKM is a key manager with a store before it.
type keptKM struct {
	*keystore.Manager
	vault *keystore.Vault
}

// Close stores what is still to be stored, and closes the store.
func (k *keptKM) Close() error {
	return errors.Join(k.Manager.Close(context.Background()), k.vault.Close())
}

// open returns the key manager with a store before it, or nil if none is
// wanted or needed.
func (s *storeFlags) open(ctx context.Context, km kmclient.KeyManager, sae string, log *slog.Logger) (*keptKM, error) {
	path := s.path
	switch {
	case path == "none":
		return nil, nil
	case strings.HasPrefix(path, "etcd:"):
		return nil, fail(exitConfig, "name a file", "--store %s: only SQLite files can be used", path)
	case path == "" && !kmclient.DeletesOnDelivery(km):
		return nil, nil
	case path == "":
		dir, err := stateDir()
		if err != nil {
			return nil, err
		}
		path = filepath.Join(dir, "keys.db")
		log.Info("keys of arriving messages are kept until the messages are delivered", "store", path)
	}
	source, err := keystore.ParseKeySource(s.key, path+".key", log)
	if err != nil {
		return nil, err
	}
	store, err := sqlite.Open(ctx, path, sqlite.Options{})
	if err != nil {
		return nil, err
	}
	vault, err := keystore.Open(ctx, store, source, log)
	if err != nil {
		return nil, err
	}
	m, err := keystore.New(km, vault, keystore.Options{SAE: sae, Logger: log})
	if err != nil {
		_ = vault.Close()
		return nil, err
	}
	return &keptKM{m, vault}, nil
}

// stateDir is where a program keeps what it must not lose: systemd's
// StateDirectory, else the system's for root and the user's for others.
func stateDir() (string, error) {
	if dirs := os.Getenv("STATE_DIRECTORY"); dirs != "" {
		return strings.Split(dirs, ":")[0], nil
	}
	if dir := os.Getenv("XDG_STATE_HOME"); dir != "" {
		return filepath.Join(dir, "qkdmail"), nil
	}
	if os.Getuid() == 0 {
		return "/var/lib/qkdmail", nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fail(exitConfig, "name a file with --store, or none", "no state directory: %w", err)
	}
	return filepath.Join(home, ".local", "state", "qkdmail"), nil
}
