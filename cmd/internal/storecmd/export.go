package storecmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/google/uuid"
	"github.com/qkdmail/qkdmail/cmd/internal/flags"
	"github.com/qkdmail/qkdmail/cmd/internal/terminal"
	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/keystore"
	"github.com/qkdmail/qkdmail/kmclient/keystore/sqlite"
	"github.com/spf13/cobra"
)

func (s *storeFlags) export() *cobra.Command {
	var target string
	var reveal, force bool
	cmd := &cobra.Command{
		Use:   "export -o FILE",
		Short: "Back up a store, or rescue the keys in it",
		Long: `Copy an SQLite store, as it is now, to a new file; relays may be running. The copy is
sealed like the store and needs the store key, which belongs in another backup. A copy
that is restored lacks keys stored after it was made.

--reveal instead writes the keys in clear, except closed ones, in the JSON format of
the reference system and the mock: --km mock:FILE decrypts with them. With --peer it
writes the keys of one peer. A store in PostgreSQL is backed up with its database, so
only --reveal works with it.`,
		Example: `  qkdmail store export -o /backup/keys.db
  qkdmail store export --reveal --sae SAE_B -o rescued.json
  qkdmail decrypt --km mock:rescued.json --sae SAE_B --peer SAE_A -o message.eml secret.eml`,
		Args: flags.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if reveal {
				return s.exportKeys(cmd, target, force)
			}
			if force {
				return terminal.Usage("--force goes with --reveal: a backup overwrites nothing")
			}
			return s.backUp(cmd, target)
		},
	}
	f := cmd.Flags()
	f.StringVarP(&target, "output", "o", "", "write to this file; with --reveal, - is standard output")
	flags.OfferFiles(cmd, "output")
	f.BoolVar(&reveal, "reveal", false, "write the keys in clear")
	f.BoolVar(&force, "force", false, "overwrite the file of --reveal")
	return cmd
}

// backUp copies the sealed records. It needs no store key.
func (s *storeFlags) backUp(cmd *cobra.Command, target string) error {
	if target == "" || target == "-" {
		return terminal.Usage("-o FILE is missing")
	}
	if err := s.settle(cmd); err != nil {
		return err
	}
	if s.IsPostgres() {
		return terminal.Usage("%s: back up the database with: pg_dump", s.Shown())
	}
	engine, err := s.OpenEngine(cmd.Context())
	if err != nil {
		return err
	}
	defer engine.Close()
	file, ok := engine.(*sqlite.Engine)
	if !ok {
		return fmt.Errorf("this store can't be copied: %T", engine)
	}
	err = file.Backup(cmd.Context(), target)
	_, notMade := errors.AsType[*fs.PathError](err)
	switch {
	case errors.Is(err, fs.ErrExist):
		return terminal.Fail(terminal.ExitCantCreate, "name another", "%s exists", target)
	case notMade:
		return terminal.Fail(terminal.ExitCantCreate, "check that the folder can be written to", "%w", err)
	case err != nil:
		return terminal.Fail(terminal.ExitIO, "check the disks; nothing was written", "%w", err)
	}
	return terminal.Print(cmd.OutOrStdout(), s.asJSON, map[string]string{"store": s.Path, "copy": target}, func(out io.Writer) error {
		_, err := fmt.Fprintf(out, "copied %s to %s, sealed: it needs the store key, which must be kept elsewhere\n", s.Path, target)
		return err
	})
}

// exportKeys writes the keys in clear.
func (s *storeFlags) exportKeys(cmd *cobra.Command, target string, force bool) error {
	store, err := s.open(cmd)
	if err != nil {
		return err
	}
	defer store.Close(cmd.Context())
	owners, err := store.Owners(cmd.Context())
	if err != nil {
		return err
	}
	if len(owners) > 1 && s.allSAEs {
		return terminal.Usage("the store has keys of %d SAE IDs, and a file can have those of only one: choose it with --sae", len(owners))
	}
	r := revealer{peer: s.Peer, peers: map[string]string{}}
	err = terminal.WriteOutput(cmd, target, force, func(out io.Writer) error {
		r.file = newKeyFile(out)
		err := s.each(cmd.Context(), store, s.allSAEs, func(_ keystore.Owner, store *keystore.Store) error { return r.all(cmd.Context(), store) })
		if err != nil {
			return err
		}
		return r.file.end()
	})
	if err != nil {
		return err
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "exported %s in clear\n", count(r.file.keys, "key", "keys"))
	return damagedError(r.damaged)
}

// A revealer writes keys in clear, one at a time.
type revealer struct {
	file    *keyFile
	peer    string            // whose keys; "" for all
	peers   map[string]string // by ID, for IDs that are not UUIDs: a file can have each only once
	damaged int
}

// all writes all keys of a store that can be read.
func (r *revealer) all(ctx context.Context, store *keystore.Store) error {
	for info, err := range store.List(ctx) {
		if err != nil && !errors.Is(err, keystore.ErrRecord) {
			return err
		}
		if err != nil {
			r.damaged++
		}
		if info.Size == 0 || info.State == kmclient.StateClosed || r.peer != "" && info.Peer != r.peer {
			continue
		}
		if err := r.one(ctx, store, info); err != nil {
			return err
		}
	}
	return nil
}

// one writes a key.
func (r *revealer) one(ctx context.Context, store *keystore.Store, info keystore.Info) error {
	if other, twice := r.peers[info.ID]; twice {
		return terminal.Usage("%s and %s have a key with the ID %s, and a file can have only one of them: choose it with --peer",
			terminal.Printable(other), terminal.Printable(info.Peer), terminal.Printable(info.ID))
	}
	if uuid.Validate(info.ID) != nil {
		r.peers[info.ID] = info.Peer
	}
	key, err := store.Key(ctx, info)
	if errors.Is(err, keystore.ErrClosed) || errors.Is(err, kmclient.ErrKeyNotFound) {
		return nil // it was closed just now
	}
	if err != nil {
		return err
	}
	defer key.Wipe()
	return r.file.add(info.ID, key.Reveal())
}
