package storecmd

import (
	"errors"
	"fmt"
	"io"
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
		Short: "Seal a store with a new store key",
		Long: `Seal everything in a store with a new store key. Afterwards the old key opens only
older copies: it can't recover anything deleted from the disk.

If the store key is in a file, a new key replaces it there. Relays that read this file
need no restart. Run it as the relay's user, not as root:
runuser -u qkdmail -- qkdmail store rotate …

--new-key names a key that already exists. Relays can't use the store until they are
restarted with it, and mail waits meanwhile. Use --new-key for a key that is a
credential or comes from the environment, and for a key file on several machines.

If the command is interrupted, run it again with the same flags; until then both keys
are needed.

In PostgreSQL the old records, sealed with the old key, remain in the server's files
and write-ahead log until the space is reused; VACUUM FULL on the table "records"
frees it sooner. SQLite overwrites them.`,
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
	cmd.Flags().StringVar(&newKey, "new-key", "", "the new store key: file:PATH, credential:NAME or env:NAME (default: a new key, in the file of the old one)")
	return cmd
}

// replaceKey replaces the old key in its file with a new one.
func (s *storeFlags) replaceKey(cmd *cobra.Command) error {
	if err := s.settle(cmd); err != nil {
		return err
	}
	path, isFile := strings.CutPrefix(s.Key, "file:")
	switch {
	case s.Key == "" && !s.IsPostgres():
		path = s.DefaultKeyFile()
	case !isFile:
		return terminal.Usage("--new-key is missing: the store key is not in a file that can be replaced")
	}
	if info, err := os.Lstat(path); err == nil && info.Mode()&fs.ModeSymlink != 0 {
		return terminal.Usage("%s is a link, which can't be replaced: name the file itself, or a new key with --new-key", path)
	}
	store, err := s.open(cmd)
	if err != nil {
		return err
	}
	defer store.Close(cmd.Context())
	if err := store.ReplaceKeyFile(cmd.Context(), path); err != nil {
		return interrupted(err)
	}
	return s.printRotated(cmd, path, "relays that read this file need no restart; back it up separately from the store, and copy it to all machines that share the store")
}

// changeKey changes to an existing key.
func (s *storeFlags) changeKey(cmd *cobra.Command, newKey string) error {
	if err := s.settle(cmd); err != nil {
		return err
	}
	if newKey == s.Key {
		return terminal.Usage("--new-key names the old key")
	}
	source, err := keystore.ParseStoreKeySource(newKey, "", nil)
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
	return s.printRotated(cmd, newKey, "restart the relays with it: until then they answer 451 and mail waits")
}

func interrupted(err error) error {
	if errors.Is(err, kmclient.ErrConfig) && !errors.Is(err, keystore.ErrStoreKey) {
		return terminal.Fail(terminal.ExitCantCreate, "check the permissions of the folder, and run it again", "%w", err)
	}
	return terminal.Fail(terminal.ExitIO, "run it again with the same flags, and keep both keys until it is done", "%w", err)
}

func (s *storeFlags) printRotated(cmd *cobra.Command, key, next string) error {
	return terminal.Print(cmd.OutOrStdout(), s.asJSON, map[string]string{"store": s.Shown(), "store_key": key}, func(out io.Writer) error {
		_, err := fmt.Fprintf(out, "%s is sealed with the key in %s\n%s\n", s.Shown(), key, next)
		return err
	})
}
