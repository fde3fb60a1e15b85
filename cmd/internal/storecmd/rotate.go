package storecmd

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/qkdmail/qkdmail/cmd/internal/flags"
	"github.com/qkdmail/qkdmail/cmd/internal/terminal"
	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/keystore"
	"github.com/spf13/cobra"
)

func (s *storeFlags) rotate() *cobra.Command {
	var newKey string
	cmd := &cobra.Command{
		Use:   "rotate",
		Short: "Seal a store with another key",
		Long: `Seal all that is in a store with another store key. From then on the old one opens
nothing but copies that were made before: what was deleted before can't be
recovered with it from the disk.

If the store key is in a file, a new one is made and takes its place. Relays that
read that file go on without a restart. Run it as the relay's user, not as root:
runuser -u qkdmail -- qkdmail store rotate …

--new-key names a key that is there already. Relays can't use the store until they
are started again with it: mail waits meanwhile. This is the way for keys that come
as a credential or from the environment, and for a file on several machines.

Interrupted, run it again with the same flags; until then both keys are needed.

In PostgreSQL the old records remain in the server's files and write-ahead log, sealed
with the old key, until those are used again; VACUUM FULL of the table records makes
that sooner. SQLite overwrites them.`,
		Example: `  runuser -u qkdmail -- qkdmail store rotate --config /etc/qkdmail/relay.toml
  head -c 32 /dev/urandom | base64 >new.key
  qkdmail store rotate --store-key file:old.key --new-key file:new.key`,
		Args: flags.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if newKey == "" {
				return s.replaceKey(cmd)
			}
			return s.changeKey(cmd, newKey)
		},
	}
	cmd.Flags().StringVar(&newKey, "new-key", "", "the new store key: file:PATH, credential:NAME or env:NAME (default: a new one in the file of the old one)")
	return cmd
}

// replaceKey makes a new key in the file of the old one.
func (s *storeFlags) replaceKey(cmd *cobra.Command) error {
	if err := s.settle(cmd); err != nil {
		return err
	}
	path, isFile := strings.CutPrefix(s.Key, "file:")
	switch {
	case s.Key == "" && !s.IsPostgres():
		path = s.Path + ".key"
	case !isFile:
		return terminal.Usage("--new-key is missing: the store key is in no file in whose place a new one could be put")
	}
	if info, err := os.Lstat(path); err == nil && info.Mode()&fs.ModeSymlink != 0 {
		return terminal.Usage("%s is a link, in whose place a new key can't be put: name the file itself, or a new one with --new-key", path)
	}
	store, err := s.open(cmd)
	if err != nil {
		return err
	}
	defer store.Close(cmd.Context())
	if err := store.ReplaceKeyFile(cmd.Context(), path); err != nil {
		return interrupted(err)
	}
	return s.printRotated(cmd, path, "relays that read this file go on; back it up, apart from the store, and copy it to all machines that share the store")
}

// changeKey changes to a key that is there.
func (s *storeFlags) changeKey(cmd *cobra.Command, newKey string) error {
	if err := s.settle(cmd); err != nil {
		return err
	}
	if newKey == s.Key {
		return terminal.Usage("--new-key is the old one")
	}
	source, err := keystore.ParseKeySource(newKey, "", nil)
	var keys []keystore.StoreKey
	if err == nil {
		keys, err = source(false)
	}
	if err != nil {
		return terminal.Fail(terminal.ExitConfig, "make one with: head -c 32 /dev/urandom | base64 >FILE", "--new-key: %w", err)
	}
	store, err := s.OpenExisting(cmd.Context(), nil, keystore.Options{Logger: terminal.Warnings(cmd)}, keystore.Keys(keys...))
	if err != nil {
		return err
	}
	defer store.Close(cmd.Context())
	if err := store.Rotate(cmd.Context(), keys[0]); err != nil {
		return interrupted(err)
	}
	return s.printRotated(cmd, newKey, "start the relays again with it: until then they answer 451 and mail waits")
}

func interrupted(err error) error {
	if errors.Is(err, kmclient.ErrConfig) && !errors.Is(err, keystore.ErrStoreKey) {
		return terminal.Fail(terminal.ExitCantCreate, "check the permissions of the folder, and run it again", "%w", err)
	}
	return terminal.Fail(terminal.ExitIO, "run it again with the same flags, and keep both keys until it is done", "%w", err)
}

func (s *storeFlags) printRotated(cmd *cobra.Command, key, next string) error {
	if s.asJSON {
		return terminal.PrintJSON(cmd.OutOrStdout(), map[string]string{"store": s.Shown(), "store_key": key})
	}
	_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s is sealed with the key in %s\n%s\n", s.Shown(), key, next)
	return err
}
