package kmcmd

import (
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/qkdmail/qkdmail/cmd/internal/flags"
	"github.com/qkdmail/qkdmail/cmd/internal/terminal"
	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/spf13/cobra"
)

func newStatus(g *flags.Globals) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Ask the key manager for its state and limits",
		Long: `Ask the key manager for its state, its stock of keys and its limits. What it does not
report is left out, except that an unreported stock is shown as "not reported" (in JSON:
absent), which differs from 0. "Connection" is what protects keys on their way from
it. If it reports in any way that it or the QKD link does not work, the first line (in
JSON: "trouble") says so.`,
		Example: `  qkdmail status
  qkdmail status --km https://km.example:8443 --json`,
		Args: flags.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return g.WithManager(cmd, func(km kmclient.KeyManager) error {
				s, err := km.Status(cmd.Context(), g.Peer)
				if err != nil {
					return err
				}
				if asJSON {
					return terminal.PrintJSON(cmd.OutOrStdout(), struct {
						Trouble string `json:"trouble,omitempty"`
						kmclient.Status
					}{s.Trouble(), s})
				}
				return printStatus(cmd.OutOrStdout(), s)
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func printStatus(out io.Writer, s kmclient.Status) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	text := func(name, value string) {
		if value != "" {
			fmt.Fprintf(w, "%s\t%s\n", name, terminal.Printable(value))
		}
	}
	number := func(name string, n int, unit string) {
		if n != 0 {
			fmt.Fprintf(w, "%s\t%d%s\n", name, n, unit)
		}
	}
	count := func(name string, n *int) {
		if n != nil {
			fmt.Fprintf(w, "%s\t%d\n", name, *n)
		}
	}
	text("TROUBLE", s.Trouble())
	text("Key manager", s.State)
	text("QKD link", s.Link)
	text("Mode", s.Mode)
	text("KME", s.SourceKME)
	text("Peer's KME", s.TargetKME)
	text("SAE", s.MasterSAE)
	text("Peer", s.SlaveSAE)
	if s.StoredKeys == nil {
		text("Keys stored", "not reported")
	}
	count("Keys stored", s.StoredKeys)
	if s.OnDemand {
		text("New keys", "made on demand")
	}
	count("Keys made", s.KeysGenerated)
	count("Requests waiting", s.QueueLength)
	number("Keys at most", s.MaxKeys, "")
	number("Key size", s.KeySize, " bits")
	number("Shortest key", s.MinKeySize, " bits")
	number("Longest key", s.MaxKeySize, " bits")
	number("Keys per request", s.MaxKeyPerRequest, "")
	number("Multicast SAEs", s.MaxSAEIDs, "")
	text("As of", s.Timestamp)
	for _, c := range s.Connections {
		text("Connection", c.KME+": "+c.String())
	}
	return w.Flush()
}
