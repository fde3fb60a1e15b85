package storecmd

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/qkdmail/qkdmail/cmd/internal/flags"
	"github.com/qkdmail/qkdmail/cmd/internal/terminal"
	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/keystore"
	"github.com/spf13/cobra"
)

func (s *storeFlags) show() *cobra.Command {
	var reveal bool
	cmd := &cobra.Command{
		Use:   "show ID…",
		Short: "Show everything about keys",
		Long: `Show everything about keys: their dates, the message that they belong to and how many
recipients have received it. The store does not know who they are: it has only HMACs
of their addresses. --reveal prints the bytes of a key.

Several peers may have keys with the same ID unless it is a UUID; all are shown.`,
		Example: `  qkdmail store show 9b42e9e2-5f7a-4b8e-9d3c-1f2a3b4c5d6e
  qkdmail store show --json --reveal 9b42e9e2-5f7a-4b8e-9d3c-1f2a3b4c5d6e`,
		Args: flags.SomeArgs("ID", flags.MaxIDs),
		RunE: func(cmd *cobra.Command, ids []string) error { return s.runShow(cmd, ids, reveal) },
	}
	cmd.Flags().BoolVar(&reveal, "reveal", false, "print the bytes of the keys, in base64")
	return cmd
}

func (s *storeFlags) runShow(cmd *cobra.Command, ids []string, reveal bool) error {
	store, err := s.open(cmd)
	if err != nil {
		return err
	}
	defer store.Close(cmd.Context())
	var keys []keyJSON
	defer func() {
		for _, k := range keys {
			clear(k.Key)
		}
	}()
	for _, id := range ids {
		found, err := s.find(cmd.Context(), store, id, reveal)
		keys = append(keys, found...)
		if err != nil {
			return err
		}
	}
	err = terminal.Print(cmd.OutOrStdout(), s.asJSON, keys, func(out io.Writer) error { return printShown(out, keys) })
	if err != nil {
		return err
	}
	damaged := 0
	for _, k := range keys {
		if k.Damaged {
			damaged++
		}
	}
	return damagedError(damaged)
}

// find returns the keys with an ID, of --sae or of all SAEs. There must be at least
// one.
func (s *storeFlags) find(ctx context.Context, store *keystore.Store, id string, reveal bool) (keys []keyJSON, err error) {
	err = s.each(ctx, store, s.allSAEs, func(o keystore.Owner, store *keystore.Store) error {
		shown, err := showAll(ctx, o, store, id, reveal)
		if errors.Is(err, kmclient.ErrKeyNotFound) {
			return nil // another SAE may have the key
		}
		keys = append(keys, shown...)
		return err
	})
	if err == nil && len(keys) == 0 {
		where := "the store"
		if !s.allSAEs {
			where = "the store, for SAE " + terminal.OrDash(terminal.Printable(s.SAE))
		}
		err = terminal.Fail(terminal.ExitNoPerm, "see qkdmail store list", "key %s is not in %s", terminal.Printable(id), where)
	}
	return keys, err
}

// showAll returns an owner's keys with an ID. With reveal they include their bytes.
func showAll(ctx context.Context, o keystore.Owner, store *keystore.Store, id string, reveal bool) (keys []keyJSON, err error) {
	infos, err := store.Show(ctx, id)
	if errors.Is(err, keystore.ErrRecord) {
		return []keyJSON{{ID: id, KM: o.KM, SAE: o.SAE, Damaged: true}}, nil
	}
	if err != nil {
		return nil, err
	}
	for _, info := range infos {
		k := jsonOf(o, info)
		if reveal && info.State != kmclient.StateClosed {
			key, err := store.Key(ctx, info)
			if err != nil {
				return keys, err
			}
			k.Key = bytes.Clone(key.Reveal())
			key.Wipe()
		}
		keys = append(keys, k)
	}
	return keys, nil
}

func printShown(out io.Writer, keys []keyJSON) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for n, k := range keys {
		if n > 0 {
			fmt.Fprintln(w)
		}
		row := func(name, value string) {
			if value != "" && value != "-" {
				fmt.Fprintf(w, "%s\t%s\n", name, terminal.Printable(value))
			}
		}
		row("Key", k.ID)
		if k.Damaged {
			row("State", "damaged: the record can't be read")
		}
		if k.Size > 0 {
			row("Size", fmt.Sprintf("%d bits", k.Size))
		}
		row("State", string(k.State))
		row("Key manager", k.KM)
		row("SAE", k.SAE)
		row("Peer", k.Peer)
		row("Stored", when(k.Stored))
		row("In use", when(k.InUse))
		row("Used", when(k.Used))
		row("Closed", when(k.Closed))
		row("Message", k.Message)
		if k.Message != "" {
			row("Frame", fmt.Sprint(k.Frame))
			row("Recipients", fmt.Sprint(k.Recipients))
		}
		row("Delivered", when(k.Delivered))
		if k.Key != nil {
			row("Key bytes", base64.StdEncoding.EncodeToString(k.Key))
		}
	}
	return w.Flush()
}
