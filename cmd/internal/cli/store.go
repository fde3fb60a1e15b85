package cli

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

// StoreFlags say where receiving keys are kept.
type StoreFlags struct {
	Path string // "none": nowhere; "": in the state directory, where it is needed
	Key  string // see [keystore.ParseKeySource]
}

// Register adds --store and --store-key to a command.
func (s *StoreFlags) Register(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&s.Path, "store", "", "what keeps the keys of arriving messages: an SQLite file, etcd://HOST:PORT,…/PREFIX, or none (default: a file in the state directory where the key manager deletes keys when it hands them out)")
	f.StringVar(&s.Key, "store-key", "", "what the store is sealed with: file:PATH, credential:NAME or env:NAME (default: FILE.key beside the store)")
}

// A KeptKM is a key manager with a store before it.
type KeptKM struct {
	*keystore.Manager
	vault *keystore.Vault
}

// Close stores what is still to be stored, and closes the store.
func (k *KeptKM) Close() error {
	return errors.Join(k.Manager.Close(context.Background()), k.vault.Close())
}

// Keep returns the key manager with a store before it, or nil if none is
// wanted or needed. The options' SAE is the name under which keys are kept.
func (g *Globals) Keep(ctx context.Context, s StoreFlags, km kmclient.KeyManager, o keystore.Options) (*KeptKM, error) {
	switch {
	case s.Path == "none", s.Path == "" && !kmclient.DeletesOnDelivery(km):
		return nil, nil
	case s.Path == "":
		dir, err := StateDir()
		if err != nil {
			return nil, err
		}
		s.Path = filepath.Join(dir, "keys.db")
		o.Logger.Info("keys of arriving messages are kept until the messages are delivered", "store", s.Path)
	}
	vault, err := g.OpenVault(ctx, s, o.Logger)
	if err != nil {
		return nil, err
	}
	m, err := keystore.New(km, vault, o)
	if err != nil {
		_ = vault.Close()
		return nil, err
	}
	return &KeptKM{m, vault}, nil
}

// OpenVault opens the store at s.Path, which is not empty.
func (g *Globals) OpenVault(ctx context.Context, s StoreFlags, log *slog.Logger) (*keystore.Vault, error) {
	var beside string // the file of the store key, where none is named
	open := func() (keystore.Store, error) { return sqlite.Open(ctx, s.Path, sqlite.Options{}) }
	if strings.HasPrefix(s.Path, "etcd:") {
		if g.daemon == nil {
			return nil, errHandOver
		}
		open = func() (keystore.Store, error) { return g.daemon.OpenEtcd(ctx, s.Path, log) }
	} else {
		beside = s.Path + ".key"
	}
	source, err := keystore.ParseKeySource(s.Key, beside, log)
	if err != nil {
		return nil, err
	}
	store, err := open()
	if err != nil {
		return nil, err
	}
	return keystore.Open(ctx, store, source, log)
}

// StateDir returns where a program keeps what it must not lose: systemd's
// StateDirectory, else the system's for root and the user's for others.
func StateDir() (string, error) {
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
		return "", Fail(ExitConfig, "name a file with --store, or none", "no state directory: %w", err)
	}
	return filepath.Join(home, ".local", "state", "qkdmail"), nil
}
