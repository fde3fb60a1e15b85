package storecmd

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/qkdmail/qkdmail/cmd/internal/flags"
	"github.com/qkdmail/qkdmail/cmd/internal/terminal"
	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/keystore"
	"github.com/spf13/cobra"
)

func (s *storeFlags) verify() *cobra.Command {
	return &cobra.Command{
		Use:   "verify",
		Short: "Check that everything in a store can be read",
		Long: `Check a store: that the SQLite file is sound, that the store key is right, and that
every record can be unsealed and has valid contents. Relays may be running.

Damaged records are listed, and the exit code is then 65. It is 78 if the store can't
be opened at all: with a wrong store key, or a file whose beginning or write-ahead
log is damaged.

A file is opened as a relay would open it: its folder must be writable, and a file of
an older version is migrated. To leave a backup unchanged, verify a copy.

In PostgreSQL only the records are checked; pg_amcheck checks the server's files.`,
		Example: `  qkdmail store verify
  qkdmail store verify --store copy.db --store-key file:/safe/keys.db.key`,
		Args: flags.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return s.runVerify(cmd) },
	}
}

// A verified is what --json prints.
type verified struct {
	Store    string                 `json:"store"`
	File     string                 `json:"file,omitempty"` // "sound", or what is wrong with it; SQLite only
	Keys     map[kmclient.State]int `json:"keys"`
	Messages int                    `json:"messages"`
	Claims   int                    `json:"claimed_key_ids"`
	Damaged  int                    `json:"damaged"`
	Damages  []damage               `json:"damages,omitempty"`
}

// A damage is a damaged record.
type damage struct {
	Kind   string `json:"kind"`
	KM     string `json:"km,omitempty"`
	SAE    string `json:"sae,omitempty"`
	ID     string `json:"id"`
	Reason string `json:"reason"`
}

const sound = "sound"

func (s *storeFlags) runVerify(cmd *cobra.Command) error {
	if err := s.settle(cmd); err != nil {
		return err
	}
	store, err := s.OpenExisting(cmd.Context(), nil, keystore.Options{Logger: terminal.Warnings(cmd)})
	if errors.Is(err, keystore.ErrRecord) {
		return terminal.Fail(terminal.ExitData, whenDamaged, "%w", err)
	}
	if err != nil {
		return err
	}
	defer store.Close(cmd.Context())
	r, err := store.Check(cmd.Context())
	if err != nil {
		return err
	}
	v := s.verified(r)
	if err := terminal.Print(cmd.OutOrStdout(), s.asJSON, v, v.print); err != nil {
		return err
	}
	switch {
	case v.File != "" && v.File != sound:
		return terminal.Fail(terminal.ExitData, whenDamaged, "%s", v.File)
	case v.Damaged > 0:
		return terminal.Fail(terminal.ExitData, whenDamaged, "%s: %s damaged", s.Shown(), count(v.Damaged, "record is", "records are"))
	}
	return nil
}

const whenDamaged = "the other records can still be used; keep a copy of the store, and restore a backup if the keys are needed"

// verified converts the report of a check.
func (s *storeFlags) verified(r *keystore.Report) *verified {
	v := &verified{Store: s.Shown(), Keys: r.Keys, Messages: r.Messages, Claims: r.Claims, Damaged: r.Damaged}
	switch {
	case r.Engine != nil:
		v.File = terminal.OneLine(r.Engine, "")
	case s.IsFile():
		v.File = sound
	}
	for _, d := range r.Damages {
		v.Damages = append(v.Damages, damage{d.Kind, d.Owner.KM, d.Owner.SAE, d.ID, d.Reason})
	}
	return v
}

func (v *verified) print(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "Store\t%s\n", v.Store)
	if v.File != "" {
		fmt.Fprintf(w, "File\t%s\n", v.File)
	}
	fmt.Fprintln(w, "Store key\tright")
	total := 0
	var parts []string
	for _, state := range []kmclient.State{kmclient.StateStored, kmclient.StateInUse, kmclient.StateUsed, kmclient.StateClosed} {
		if n := v.Keys[state]; n > 0 {
			total += n
			parts = append(parts, fmt.Sprintf("%d %s", n, state))
		}
	}
	keys := fmt.Sprint(total)
	if len(parts) > 0 {
		keys += ": " + strings.Join(parts, ", ")
	}
	fmt.Fprintf(w, "Keys\t%s\n", keys)
	fmt.Fprintf(w, "Delivered messages\t%d\n", v.Messages)
	fmt.Fprintf(w, "Claimed key IDs\t%d\n", v.Claims)
	fmt.Fprintf(w, "Damaged records\t%d\n", v.Damaged)
	for _, d := range v.Damages {
		fmt.Fprintf(w, "  %s %s\t%s\n", d.Kind, terminal.Printable(d.ID), d.Reason)
	}
	if left := v.Damaged - len(v.Damages); left > 0 {
		fmt.Fprintf(w, "  and %d more\t\n", left)
	}
	return w.Flush()
}
