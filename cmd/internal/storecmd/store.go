package storecmd

import (
	"context"
	"fmt"

	"github.com/qkdmail/qkdmail/cmd/internal/flags"
	"github.com/qkdmail/qkdmail/cmd/internal/terminal"
	"github.com/qkdmail/qkdmail/kmclient/keystore"
	"github.com/qkdmail/qkdmail/mailer/relay/config"
	"github.com/spf13/cobra"
)

// storeFlags are the flags of all store commands.
type storeFlags struct {
	*flags.Globals
	flags.Store
	config string
	asJSON bool

	relay   *config.Config // the configuration that --config names; nil without one
	allSAEs bool           // --sae is not given
}

func newStore(g *flags.Globals) *cobra.Command {
	s := &storeFlags{Globals: g}
	cmd := &cobra.Command{
		Use:   "store",
		Short: "Look after the keys of arriving messages",
		Long: `Look after the store that keeps the keys of arriving messages: an SQLite file, or a
schema in PostgreSQL that several relays share. No key manager is needed, and relays
may be running.

--config takes the store, its key and its policies from a relay's configuration;
flags override it. The default is the file in the state directory. With --sae (or
QKD_SAE), list, show, sweep and export --reveal see only the keys of this SAE ID.

Run the commands as the relay's user: runuser -u qkdmail -- qkdmail store … They can't
read a store key that is a credential of the relay's unit; name it with --store-key
file:PATH, or run them with systemd-run -p LoadCredentialEncrypted=….

None of these commands makes a store, except "init" in PostgreSQL.`,
		Example: `  qkdmail store list --config /etc/qkdmail/relay.toml --state in_use
  qkdmail store export --config /etc/qkdmail/relay.toml -o /backup/keys.db
  qkdmail store verify --store copy.db --store-key file:/safe/keys.db.key`,
		Args: flags.NoCommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	f := cmd.PersistentFlags()
	s.Store.Register(cmd, f, flags.StoreUsage)
	f.StringVarP(&s.config, "config", "c", "", "the relay's configuration")
	flags.OfferConfig(cmd)
	f.BoolVar(&s.asJSON, "json", false, "print JSON")
	cmd.AddCommand(s.init(), s.list(), s.show(), s.sweep(), s.export(), s.rotate(), s.verify())
	return cmd
}

// settle completes the flags from the configuration and the defaults.
func (s *storeFlags) settle(cmd *cobra.Command) error {
	s.allSAEs = s.SAE == "" && !cmd.Flags().Changed("sae")
	if s.config != "" {
		cfg, err := terminal.Await(cmd.Context(), func() (*config.Config, error) { return config.Load(s.config) })
		if err != nil {
			return flags.BadConfig(err)
		}
		s.relay = cfg
		s.Store = s.Or(cfg.Store)
	}
	if err := s.Where(true); err != nil {
		return err
	}
	if s.Path == flags.NoStore {
		return terminal.Fail(terminal.ExitConfig, "name one with --store", "no keys are kept: the store is none")
	}
	return nil
}

// open settles the flags and opens the store, which must exist, without a key manager.
// The caller closes it.
func (s *storeFlags) open(cmd *cobra.Command) (*keystore.Store, error) {
	if err := s.settle(cmd); err != nil {
		return nil, err
	}
	return s.OpenExisting(cmd.Context(), nil, keystore.Options{Logger: terminal.Warnings(cmd)})
}

// each calls use with the store of each owner of keys, or only of --sae.
func (s *storeFlags) each(ctx context.Context, store *keystore.Store, all bool, use func(keystore.Owner, *keystore.Store) error) error {
	owners, err := store.Owners(ctx)
	if err != nil {
		return err
	}
	for _, owner := range owners {
		if !all && owner.SAE != s.SAE {
			continue
		}
		if err := use(owner, store.For(owner)); err != nil {
			return err
		}
	}
	return nil
}

// damagedError returns the error of a command that has found n damaged records.
func damagedError(n int) error {
	if n == 0 {
		return nil
	}
	return terminal.Fail(terminal.ExitData, "see qkdmail store verify", "%s damaged", count(n, "record is", "records are"))
}

// count returns a number with its noun.
func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
