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
		Short: "Show all that is known of keys",
		Long: `Show all that is known of keys: their dates, the message that they belong to and
how many recipients have got it. Who these are is not known to the store, which
has their addresses as HMAC only. The octets of a key are printed with --reveal.

An ID that is no UUID may be that of several keys, one for each peer; all are shown.`,
		Example: `  qkdmail store show 9b42e9e2-5f7a-4b8e-9d3c-1f2a3b4c5d6e
  qkdmail store show --json --reveal 9b42e9e2-5f7a-4b8e-9d3c-1f2a3b4c5d6e`,
		Args: flags.SomeArgs("ID", flags.MaxIDs),
		RunE: func(cmd *cobra.Command, ids []string) error { return s.runShow(cmd, ids, reveal) },
	}
	cmd.Flags().BoolVar(&reveal, "reveal", false, "print the octets of the keys, in base64")
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
	damaged := 0
	for _, id := range ids {
		before := len(keys)
		err := s.each(cmd.Context(), store, s.allSAEs, func(o keystore.Owner, store *keystore.Store) error {
			shown, err := showAll(cmd.Context(), o, store, id, reveal)
			if errors.Is(err, kmclient.ErrKeyNotFound) {
				return nil // it may be another SAE's
			}
			keys = append(keys, shown...)
			for _, k := range shown {
				if k.Damaged {
					damaged++
				}
			}
			return err
		})
		if err != nil {
			return err
		}
		if len(keys) == before {
			where := "the store"
			if !s.allSAEs {
				where = "the store, for SAE " + terminal.OrDash(terminal.Printable(s.SAE))
			}
			return terminal.Fail(terminal.ExitNoPerm, "see qkdmail store list", "key %s is not in %s", terminal.Printable(id), where)
		}
	}
	if s.asJSON {
		err = terminal.PrintJSON(cmd.OutOrStdout(), keys)
	} else {
		err = printShown(cmd.OutOrStdout(), keys)
	}
	if err != nil {
		return err
	}
	return damagedError(damaged)
}

// showAll returns what is known of the keys with an ID, and with reveal their bytes.
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
			row("Key octets", base64.StdEncoding.EncodeToString(k.Key))
		}
	}
	return w.Flush()
}
