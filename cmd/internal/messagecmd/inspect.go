package messagecmd

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/qkdmail/qkdmail/cipher"
	"github.com/qkdmail/qkdmail/cmd/internal/flags"
	"github.com/qkdmail/qkdmail/cmd/internal/terminal"
	"github.com/spf13/cobra"
)

func newInspect() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "inspect [flags] FILE",
		Short: "Show what an encrypted message says without a key",
		Long: `Show what an encrypted message says without a key: suite, key IDs, the fingerprint of
its X-Wing key, SAE IDs, sizes and outer fields. None of it is authenticated. The
plaintext is the message together with its recipient list, which can't be told apart
without a key. FILE may be -, for standard input.`,
		Example: `  qkdmail inspect secret.eml
  qkdmail inspect --json secret.eml | jq .key_ids`,
		Args:              flags.SomeArgs("FILE", 1),
		ValidArgsFunction: flags.FileArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			in, closeInput, err := terminal.OpenInput(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			defer closeInput()
			head, in, err := readHead(in, make([]byte, formStart))
			if err != nil {
				return err
			}
			info, err := cipher.Inspect(in)
			if err != nil {
				return fmt.Errorf("%s: %w", terminal.InputName(args[0]), notOurs(err, head))
			}
			return terminal.Print(cmd.OutOrStdout(), asJSON, inspected(info), func(out io.Writer) error { return printInfo(out, info) })
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// An inspection is what "inspect --json" prints.
type inspection struct {
	Suite         cipher.Suite   `json:"suite"`
	Time          time.Time      `json:"time"`
	SenderSAE     string         `json:"sender_sae,omitempty"`
	RecipientSAE  string         `json:"recipient_sae,omitempty"`
	Fingerprint   string         `json:"fingerprint,omitempty"`
	KeyIDs        []string       `json:"key_ids"`
	PlaintextSize int64          `json:"plaintext_octets"`
	PayloadSize   int64          `json:"payload_octets"`
	Outer         []cipher.Field `json:"outer_fields"`
}

func inspected(i *cipher.Info) inspection {
	return inspection{i.Suite, i.Time, i.SenderSAE, i.RecipientSAE, fingerprint(i), i.KeyIDs, i.PlaintextSize, i.PayloadSize, i.Outer}
}

// fingerprint returns the fingerprint of the X-Wing key that a message is for,
// "" for none.
func fingerprint(i *cipher.Info) string {
	if !i.Suite.Hybrid() {
		return ""
	}
	return i.Fingerprint.String()
}

// shownKeys is how many key IDs "inspect" prints without --json.
const shownKeys = 20

func printInfo(out io.Writer, i *cipher.Info) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	row := func(name, value string) { fmt.Fprintf(w, "%s\t%s\n", name, terminal.Printable(value)) }
	row("Suite", string(i.Suite))
	row("Fingerprint", terminal.OrDash(fingerprint(i)))
	row("Encrypted", i.Time.Format(time.RFC3339))
	row("Sender SAE", terminal.OrDash(i.SenderSAE))
	row("Recipient SAE", terminal.OrDash(i.RecipientSAE))
	row("Plaintext", fmt.Sprintf("%d bytes: the message and its recipient list", i.PlaintextSize))
	row("Payload", fmt.Sprintf("%d bytes", i.PayloadSize))
	row("Keys", fmt.Sprint(len(i.KeyIDs)))
	for n, id := range i.KeyIDs {
		if n == shownKeys {
			row("", fmt.Sprintf("… and %d more (--json has all)", len(i.KeyIDs)-shownKeys))
			break
		}
		row("", id)
	}
	fmt.Fprintln(w, "Outer fields\t")
	for _, f := range i.Outer {
		row("  "+f.Name, f.Value)
	}
	return w.Flush()
}
