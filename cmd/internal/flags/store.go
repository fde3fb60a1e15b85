package flags

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/qkdmail/qkdmail/cipher"
	"github.com/qkdmail/qkdmail/cmd/internal/terminal"
	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/keystore"
	"github.com/qkdmail/qkdmail/kmclient/keystore/postgres"
	"github.com/qkdmail/qkdmail/kmclient/keystore/sqlite"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// A Store holds the flags that say where keys are kept.
type Store struct {
	Path string // an SQLite file, postgres://…, NoStore, or "" for the command's default
	Key  string // see [keystore.ParseStoreKeySource]
}

// StoreUsage is the help on --store for commands that may need a store.
const StoreUsage = "where keys are kept: an SQLite file, postgres://USER@HOST/DATABASE, or none (default: keys.db in the state directory; for relay, only if the key manager deletes keys on delivery)"

// NoStore is the Path that means no store.
const NoStore = "none"

// Register adds the flags to those of cmd; usage is the help on --store.
func (s *Store) Register(cmd *cobra.Command, f *pflag.FlagSet, usage string) {
	f.StringVar(&s.Path, "store", s.Path, usage)
	f.StringVar(&s.Key, "store-key", s.Key, "key that the store is sealed with: file:PATH, credential:NAME or env:NAME (default: FILE.key beside an SQLite file)")
	OfferFiles(cmd, "store", "postgres://", NoStore)
	OfferForms(cmd, "store-key", "file:", "credential:", "env:")
}

// IsPostgres reports whether the store is in PostgreSQL.
func (s Store) IsPostgres() bool { return s.location().IsPostgres() }

// IsFile reports whether Path names a file, or no store.
func (s Store) IsFile() bool { return s.location().IsFile() }

// Shown returns Path without a password.
func (s Store) Shown() string { return s.location().String() }

func (s Store) location() keystore.Location { return keystore.Location(s.Path) }

// Where sets Path if it is empty: to the file in the state directory if a store is
// needed, otherwise to NoStore.
func (s *Store) Where(needed bool) error {
	switch {
	case s.Path != "":
		return nil
	case !needed:
		s.Path = NoStore
		return nil
	}
	dir, err := stateDir(os.Getuid())
	s.Path = filepath.Join(dir, "keys.db")
	return err
}

// Keep opens the store for the keys of km, and makes it if it does not exist. It
// returns nil if no store is wanted or needed. Keys are kept under the SAE ID in the
// options.
func (s Store) Keep(ctx context.Context, km kmclient.KeyManager, o keystore.Options) (*keystore.Store, error) {
	if err := s.Where(km.DeletesOnDelivery()); err != nil {
		return nil, err
	}
	if s.Path == NoStore {
		return nil, nil
	}
	var err error
	if o.Key, err = s.source(o.Logger); err != nil {
		return nil, err
	}
	if o.Engine, err = s.openEngine(ctx); err != nil {
		return nil, err
	}
	store, err := keystore.Open(ctx, km, o)
	if err != nil {
		return nil, advised(err)
	}
	o.Logger.Info("keys are kept", "store", s.Shown())
	for _, w := range store.Warnings() {
		o.Logger.Warn("the server of the key store is not set up as it should be", "store", s.Shown(), "warning", w)
	}
	return store, nil
}

// WithStore calls do with the key manager, or with a store in front of it if one is
// wanted or needed. A store that can't be closed may have lost a key.
func (g *Globals) WithStore(cmd *cobra.Command, s Store, km kmclient.KeyManager, do func(kmclient.KeyManager, cipher.KeyBinder) error) error {
	chosen := s.Path != ""
	if err := s.Where(km.DeletesOnDelivery()); err != nil {
		return err
	}
	if !chosen && s.Path != NoStore && os.Geteuid() == 0 {
		terminal.Note(cmd)("the keys are kept in %s, which a relay on this machine may use as well: name another with --store", s.Path)
	}
	// No sweeps: a relay that uses the same store may have a different policy.
	store, err := s.Keep(cmd.Context(), km, keystore.Options{SAE: g.SAE, SweepEvery: -1, Logger: terminal.Warnings(cmd)})
	if err != nil {
		return err
	}
	if store == nil {
		return do(km, cipher.Unbound)
	}
	err = do(store, store)
	return errors.Join(err, CloseStore(store))
}

// CloseStore closes a store. It waits for keys that are on their way, but only as
// long as a key manager's client waits for an answer, so that a program told to stop
// ends before it is killed.
func CloseStore(s *keystore.Store) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	return s.Close(ctx)
}

// advised adds advice on the flags to check to the error of a store that can't be
// opened.
func advised(err error) error {
	switch {
	case errors.Is(err, keystore.ErrStoreKey):
		return terminal.Fail(terminal.ExitConfig, "use --store-key to name the key that it is sealed with", "%w", err)
	case errors.Is(err, kmclient.ErrConfig):
		return terminal.Fail(terminal.ExitConfig, "check --store and --store-key", "%w", err)
	case errors.Is(err, kmclient.ErrStoreBusy): // Explain knows what to do
		return err
	case errors.Is(err, kmclient.ErrStore):
		return terminal.Fail(terminal.ExitConfig, "restore a backup, or name another with --store", "%w", err)
	}
	return err
}

// OpenExisting opens the store for the keys of km, which may be nil. It does not make
// one. others are sources of further store keys that may be needed.
func (s Store) OpenExisting(ctx context.Context, km kmclient.KeyManager, o keystore.Options, others ...keystore.StoreKeySource) (*keystore.Store, error) {
	source, err := s.source(o.Logger)
	if err != nil {
		return nil, err
	}
	if o.Engine, err = s.OpenEngine(ctx); err != nil {
		return nil, err
	}
	o.Key = func(fresh bool) ([]keystore.StoreKey, error) {
		if fresh {
			return nil, noStore(s.Path)
		}
		keys, err := source(fresh)
		for _, other := range others {
			more, otherErr := other(false)
			keys, err = append(keys, more...), errors.Join(err, otherErr)
		}
		return keys, err
	}
	store, err := keystore.Open(ctx, km, o)
	return store, advised(err)
}

// OpenEngine opens the engine of the store. It does not make a store.
func (s Store) OpenEngine(ctx context.Context) (keystore.Engine, error) {
	if err := s.location().Check(); err != nil {
		return nil, advised(err)
	}
	if s.IsFile() {
		if _, err := os.Stat(s.Path); errors.Is(err, fs.ErrNotExist) {
			return nil, noStore(s.Path)
		}
	}
	return s.openEngine(ctx)
}

// ErrNoStore is the error of a store that does not exist.
var ErrNoStore = errors.New("there is no key store")

func noStore(path string) error {
	return terminal.Fail(terminal.ExitNoInput, "name another with --store; qkdmail relay and decrypt make one when they need it", "%w at %s", ErrNoStore, keystore.Location(path))
}

// CheckKey checks that the key named by --store-key can be read. The default key,
// beside an SQLite file, is made together with the file.
func (s Store) CheckKey(log *slog.Logger) error {
	if s.Key == "" {
		return nil
	}
	source, err := s.source(log)
	if err == nil {
		_, err = source(false)
	}
	return advised(err)
}

// source returns the source of the store key.
func (s Store) source(log *slog.Logger) (keystore.StoreKeySource, error) {
	if err := s.location().Check(); err != nil {
		return nil, advised(err)
	}
	if s.IsPostgres() && s.Key == "" {
		return nil, terminal.Fail(terminal.ExitConfig, "name the key that it is sealed with, as file:PATH", "a store in PostgreSQL needs --store-key")
	}
	source, err := keystore.ParseStoreKeySource(s.Key, s.DefaultKeyFile(), log)
	return source, advised(err)
}

// DefaultKeyFile returns the file of the store key beside an SQLite file: the one that a
// link leads to, if there is none beside the link.
func (s Store) DefaultKeyFile() string {
	const suffix = ".key"
	if _, err := os.Stat(s.Path + suffix); errors.Is(err, fs.ErrNotExist) {
		if file, err := filepath.EvalSymlinks(s.Path); err == nil {
			return file + suffix
		}
	}
	return s.Path + suffix
}

func (s Store) openEngine(ctx context.Context) (keystore.Engine, error) {
	if s.IsPostgres() {
		engine, err := postgres.Open(ctx, postgres.Options{URL: s.Path})
		if err != nil {
			return nil, PostgresError(err)
		}
		return engine, nil
	}
	engine, err := sqlite.Open(ctx, s.Path, sqlite.Options{})
	if err != nil {
		return nil, advised(fmt.Errorf("open the key store: %w", err))
	}
	return engine, nil
}

// PostgresError adds what to do to the error of a store in PostgreSQL.
func PostgresError(err error) error {
	if errors.Is(err, kmclient.ErrStore) || errors.Is(err, kmclient.ErrUnavailable) {
		return terminal.Fail(terminal.ExitUnavailable, "check that PostgreSQL runs, and --store", "open the key store: %w", err)
	}
	return advised(err)
}

// systemState is the StateDirectory of the relay's unit, and the home of its account.
const systemState = "/var/lib/qkdmail"

// stateDir returns the folder for data that the program must not lose: systemd's
// StateDirectory, otherwise the system's for root and the relay's account, and the
// user's for others.
func stateDir(uid int) (string, error) {
	if dirs := os.Getenv("STATE_DIRECTORY"); dirs != "" {
		return strings.Split(dirs, ":")[0], nil
	}
	if dir := os.Getenv("XDG_STATE_HOME"); dir != "" {
		return filepath.Join(dir, "qkdmail"), nil
	}
	if uid == 0 {
		return systemState, nil
	}
	home, err := os.UserHomeDir()
	switch {
	case err != nil:
		return "", terminal.Fail(terminal.ExitConfig, "name a file with --store, or none", "no state directory: %w", err)
	case home == systemState:
		return systemState, nil
	}
	return filepath.Join(home, ".local", "state", "qkdmail"), nil
}
