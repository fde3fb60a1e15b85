package kmcmd

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/qkdmail/qkdmail/cmd/internal/flags"
	"github.com/qkdmail/qkdmail/cmd/internal/terminal"
	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/etsi014"
	"github.com/spf13/cobra"
)

// keyFlags are the flags of the key commands.
type keyFlags struct {
	*flags.Globals
	asJSON bool
	reveal bool
}

func newKey(g *flags.Globals) *cobra.Command {
	k := &keyFlags{Globals: g}
	cmd := &cobra.Command{
		Use:   "key",
		Short: "Get, show, close and list keys",
		Long: `Work with single keys, to try out a key manager. The bytes of a key are printed only
with --reveal. A key manager that deletes keys on delivery does so for these commands
too.`,
		Example: `  qkdmail key get --size 256
  qkdmail key show --reveal MOCK-KEY-00000001-20251012195636
  qkdmail key list --json`,
		Args: flags.NoCommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.PersistentFlags().BoolVar(&k.asJSON, "json", false, "print JSON")
	cmd.AddCommand(k.get(), k.show(), k.close(), k.list())
	return cmd
}

func (k *keyFlags) get() *cobra.Command {
	var size, number int
	var extensions []string
	cmd := &cobra.Command{
		Use:   "get",
		Short: "Fetch fresh keys",
		Long: `Fetch fresh keys. With --extension the key manager must meet extensions of the
request ("extension_mandatory") or refuse it. NAME=VALUE is sent as the object
{"NAME": VALUE}; a VALUE that is not JSON is sent as a string. NAME alone is sent as a
name to the QMail REST API, and as {"NAME": true} to a KME, since ETSI GS QKD 014
allows only objects.

If the key manager hands out fewer keys than asked for, they are printed and the exit
code is 75.`,
		Example: `  qkdmail key get --size 1024 --number 3 --json
  qkdmail key get --extension route_type=direct --extension n=3`,
		Args: flags.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := kmclient.CheckSize(size); err != nil {
				return terminal.Usage("%w", err)
			}
			if number < 1 {
				return terminal.Usage("--number %d: must be at least 1", number)
			}
			if _, err := terminal.ToStandardOutput(cmd); err != nil {
				return err
			}
			return k.WithManager(cmd, func(km kmclient.KeyManager) error {
				keys, err := k.fresh(cmd.Context(), km, extensions, size, number)
				if err != nil {
					kmclient.WipeAll(keys)
					return err
				}
				if err := k.print(cmd.OutOrStdout(), keys, false); err != nil || len(keys) == number {
					return err
				}
				return fmt.Errorf("%w: these are %d of %d", kmclient.ErrKeyExhausted, len(keys), number)
			})
		},
	}
	cmd.Flags().StringArrayVar(&extensions, "extension", nil, "mandatory extension, NAME or NAME=VALUE; may be repeated")
	cmd.Flags().IntVar(&size, "size", 256, "size of each key in bits, a multiple of 8")
	cmd.Flags().IntVar(&number, "number", 1, "number of keys")
	k.revealFlag(cmd)
	return cmd
}

// fresh fetches fresh keys, with the mandatory extensions.
func (k *keyFlags) fresh(ctx context.Context, km kmclient.KeyManager, extensions []string, size, number int) ([]*kmclient.Key, error) {
	if len(extensions) == 0 {
		return km.GetKeys(ctx, k.Peer, size, number)
	}
	with, ok := km.(interface {
		GetKeysWith(ctx context.Context, peer string, mandatory []any, size, number int) ([]*kmclient.Key, error)
	})
	if !ok {
		return nil, fmt.Errorf("get keys: extensions: %w", kmclient.ErrUnsupported)
	}
	_, objects := km.(*etsi014.Client)
	mandatory := make([]any, len(extensions))
	for i, arg := range extensions {
		var err error
		if mandatory[i], err = parseExtension(arg, objects); err != nil {
			return nil, err
		}
	}
	return with.GetKeysWith(ctx, k.Peer, mandatory, size, number)
}

// parseExtension returns what to send for NAME or NAME=VALUE. With object it is always
// an object.
func parseExtension(arg string, object bool) (any, error) {
	name, text, hasValue := strings.Cut(arg, "=")
	switch {
	case name == "":
		return nil, terminal.Usage("--extension %q: must be NAME or NAME=VALUE", arg)
	case !hasValue && !object:
		return name, nil
	case !hasValue:
		return map[string]any{name: true}, nil
	case json.Valid([]byte(text)):
		return map[string]any{name: json.RawMessage(text)}, nil
	}
	return map[string]any{name: text}, nil
}

func (k *keyFlags) revealFlag(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&k.reveal, "reveal", false, "print the bytes of the keys, in base64")
}

func (k *keyFlags) show() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "show ID…",
		Short:   "Fetch keys by their IDs",
		Example: "  qkdmail key show MOCK-KEY-00000001-20251012195636",
		Args:    flags.SomeArgs("ID", flags.MaxIDs),
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, err := terminal.ToStandardOutput(cmd); err != nil {
				return err
			}
			return k.WithManager(cmd, func(km kmclient.KeyManager) error {
				keys, err := km.KeysByID(cmd.Context(), k.Peer, args...)
				if err != nil {
					kmclient.WipeAll(keys)
					return err
				}
				return k.print(cmd.OutOrStdout(), keys, true)
			})
		},
	}
	k.revealFlag(cmd)
	return cmd
}

func (k *keyFlags) close() *cobra.Command {
	return &cobra.Command{
		Use:     "close ID…",
		Short:   "Close keys: the key manager deletes them",
		Example: "  qkdmail key close MOCK-KEY-00000001-20251012195636",
		Args:    flags.SomeArgs("ID", flags.MaxIDs),
		RunE: func(cmd *cobra.Command, args []string) error {
			return k.WithManager(cmd, func(km kmclient.KeyManager) error {
				if km.DeletesOnDelivery() {
					return fmt.Errorf("close key: %w: it deletes keys on delivery", kmclient.ErrUnsupported)
				}
				for _, id := range args {
					if err := km.CloseKey(cmd.Context(), id); err != nil {
						return err
					}
				}
				return k.printClosed(cmd.OutOrStdout(), args)
			})
		},
	}
}

func (k *keyFlags) list() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the keys that the key manager stores",
		Long: `List the keys that the key manager stores. Only the mock can list them. It sees no
messages: a key is "in_use" once it has been handed out, "used" once it has been
fetched by its ID, as for decryption, and "stored" if another program put it into the
file. A closed key is gone.`,
		Example: "  qkdmail key list --km mock:keys.json",
		Args:    flags.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return k.WithManager(cmd, func(km kmclient.KeyManager) error {
				lister, ok := km.(kmclient.Lister)
				if !ok {
					return fmt.Errorf("list keys: %w", kmclient.ErrUnsupported)
				}
				infos, err := lister.ListKeys(cmd.Context())
				if err != nil {
					return err
				}
				return k.printInfos(cmd.OutOrStdout(), infos)
			})
		},
	}
}

func (k *keyFlags) printClosed(out io.Writer, ids []string) error {
	if k.asJSON {
		return terminal.PrintJSON(out, map[string][]string{"closed": ids})
	}
	for _, id := range ids {
		fmt.Fprintf(out, "closed %s\n", terminal.Printable(id))
	}
	return nil
}

func (k *keyFlags) printInfos(out io.Writer, infos []kmclient.KeyInfo) error {
	if k.asJSON {
		if infos == nil {
			infos = []kmclient.KeyInfo{} // [] rather than null
		}
		return terminal.PrintJSON(out, infos)
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "KEY ID\tBITS\tTIME\tSTATE")
	for _, i := range infos {
		fmt.Fprintf(w, "%s\t%d\t%s\t%s\n", terminal.Printable(i.ID), i.Size, shortTime(i.Time), i.State)
	}
	return w.Flush()
}

// print prints keys and wipes them. With state it prints their states as well.
func (k *keyFlags) print(out io.Writer, keys []*kmclient.Key, state bool) error {
	defer kmclient.WipeAll(keys)
	if k.asJSON {
		return k.printJSON(out, keys)
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprint(w, "KEY ID\tBITS")
	if state {
		fmt.Fprint(w, "\tSTATE")
	}
	if k.reveal {
		fmt.Fprint(w, "\tKEY")
	}
	fmt.Fprintln(w)
	for _, key := range keys {
		fmt.Fprintf(w, "%s\t%d", terminal.Printable(key.ID()), key.Size())
		if state {
			fmt.Fprintf(w, "\t%s", key.Info().State)
		}
		if k.reveal {
			fmt.Fprintf(w, "\t%s", base64.StdEncoding.EncodeToString(key.Reveal()))
		}
		fmt.Fprintln(w)
	}
	return w.Flush()
}

func (k *keyFlags) printJSON(out io.Writer, keys []*kmclient.Key) error {
	list := make([]json.RawMessage, len(keys))
	for i, key := range keys {
		marshal := key.MarshalJSON
		if k.reveal {
			marshal = key.RevealJSON
		}
		var err error
		if list[i], err = marshal(); err != nil {
			return err
		}
	}
	return terminal.PrintJSON(out, list)
}

func shortTime(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.Format(time.DateTime)
}
