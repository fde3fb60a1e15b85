package storecmd

import (
	"fmt"
	"io"
	"time"

	"github.com/qkdmail/qkdmail/cmd/internal/flags"
	"github.com/qkdmail/qkdmail/cmd/internal/terminal"
	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/keystore"
	"github.com/qkdmail/qkdmail/mailer/relay/config"
	"github.com/spf13/cobra"
)

// sweepFlags are the policies of a sweep.
type sweepFlags struct {
	close, tombstones, undelivered string
	dryRun                         bool
}

func (s *storeFlags) sweep() *cobra.Command {
	var f sweepFlags
	cmd := &cobra.Command{
		Use:   "sweep",
		Short: "Close keys whose time has come, and remove tombstones",
		Long: `Close keys of delivered messages when the policy says so, and remove tombstones that
are old enough. Relays sweep about once an hour; this command looks at all keys at
once, for example after a change of the policy.

The policies are those of --config and the flags. Without --config, --close must say
when the keys of delivered messages are closed: a closed key can't be used again. If
--config or --km names a key manager, the keys of its SAE ID are closed there as
well; otherwise the relay's next sweep does that.

With SQLite, the write-ahead log, which has copies of deleted records, is then
emptied. PostgreSQL frees their space itself (autovacuum).`,
		Example: `  qkdmail store sweep --config /etc/qkdmail/relay.toml --dry-run
  qkdmail store sweep --close after-delivery
  qkdmail store sweep --config /etc/qkdmail/relay.toml --undelivered 90d`,
		Args: flags.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return s.runSweep(cmd, f) },
	}
	fs := cmd.Flags()
	fs.StringVar(&f.close, "close", "", "when the key of a delivered message is closed: after-delivery, after:DURATION or never (default: as --config says)")
	flags.OfferValues(cmd, "close", "after-delivery", "after:", "never")
	fs.StringVar(&f.tombstones, "tombstones", "", "how long the tombstone of a closed key is kept, at least 31d (default 60d)")
	fs.StringVar(&f.undelivered, "undelivered", "", "also close keys whose message was not delivered for this long, at least 31d, or 0 for never (default: never)")
	fs.BoolVar(&f.dryRun, "dry-run", false, "only print what would be done")
	return cmd
}

// options returns the policies of a configuration and of the flags. Either must set
// them, or a sweep could close keys that the relay's own policy keeps.
func (f *sweepFlags) options(cfg *config.Config) (o keystore.Options, err error) {
	if cfg != nil {
		o = flags.KeepOptions(cfg, nil)
	} else if f.close == "" {
		return o, terminal.Usage("without --config, --close must say when the keys of delivered messages are closed")
	}
	if f.close != "" {
		if o.Close, err = keystore.ParsePolicy(f.close); err != nil {
			return o, terminal.Usage("--close %q: must be after-delivery, after:DURATION like after:7d, or never", f.close)
		}
	}
	for _, d := range []struct {
		flag, text string
		to         *time.Duration
	}{{"--tombstones", f.tombstones, &o.Tombstones}, {"--undelivered", f.undelivered, &o.Undelivered}} {
		if d.text == "" {
			continue
		}
		*d.to, err = keystore.ParseDuration(d.text)
		never := d.to == &o.Undelivered && *d.to == 0
		if err != nil || *d.to < config.MinTombstones && !never {
			return o, terminal.Usage("%s %q: must be 31d or more, since messages up to 30 days old, or a day ahead, are accepted", d.flag, d.text)
		}
	}
	return o, nil
}

// A swept is what --json prints.
type swept struct {
	Closed     int  `json:"closed"`
	Told       int  `json:"closed_at_km"`
	Untold     int  `json:"to_close_at_km"`
	Tombstones int  `json:"tombstones_removed"`
	Messages   int  `json:"messages_removed"`
	Damaged    int  `json:"damaged"`
	DryRun     bool `json:"dry_run"`
}

func (s *storeFlags) runSweep(cmd *cobra.Command, f sweepFlags) error {
	if err := s.settle(cmd); err != nil {
		return err
	}
	o, err := f.options(s.relay)
	if err != nil {
		return err
	}
	km, err := s.sweepKM(cmd)
	if err != nil {
		return err
	}
	o.Logger, o.SweepEvery = terminal.Warnings(cmd), -1
	store, err := s.OpenExisting(cmd.Context(), km, o)
	if err != nil {
		return err
	}
	defer store.Close(cmd.Context())
	total := &swept{DryRun: f.dryRun}
	all := s.allSAEs && km == nil // a key manager has the keys of one SAE only
	err = s.each(cmd.Context(), store, all, func(_ keystore.Owner, store *keystore.Store) error {
		did, err := store.SweepAll(cmd.Context(), f.dryRun)
		total.add(did)
		return err
	})
	if err != nil {
		return err
	}
	if err := terminal.Print(cmd.OutOrStdout(), s.asJSON, total, total.print); err != nil {
		return err
	}
	return damagedError(total.Damaged)
}

// sweepKM opens the key manager where keys are closed. It returns nil if none is
// named.
func (s *storeFlags) sweepKM(cmd *cobra.Command) (kmclient.KeyManager, error) {
	if s.relay != nil {
		s.SAE = s.relay.KM.SAE
		return flags.OpenConfigured(s.relay, terminal.Warnings(cmd))
	}
	if spec, err := s.Spec(); err != nil || spec == "" {
		return nil, err
	}
	return s.OpenManager(cmd)
}

func (t *swept) add(did keystore.Swept) {
	t.Closed += did.Closed
	t.Told += did.Told
	t.Untold += did.Untold
	t.Tombstones += did.Tombstones
	t.Messages += did.Messages
	t.Damaged += did.Damaged
}

func (t *swept) print(out io.Writer) error {
	closed, removed := "closed", "removed"
	if t.DryRun {
		closed, removed = "would close", "would remove"
	}
	fmt.Fprintf(out, "%s %s", closed, count(t.Closed, "key", "keys"))
	if t.Told > 0 {
		fmt.Fprintf(out, "; closed %d at the key manager", t.Told)
	}
	_, err := fmt.Fprintf(out, "\n%s %s and %s\n", removed, count(t.Tombstones, "tombstone", "tombstones"), count(t.Messages, "record of deliveries", "records of deliveries"))
	if t.Untold > 0 {
		fmt.Fprintf(out, "%s still to be closed at the key manager: the relay does that, or sweep with --km\n", count(t.Untold, "key is", "keys are"))
	}
	return err
}
