package kmcmd

import (
	"strings"
	"time"

	"github.com/qkdmail/qkdmail/cmd/internal/flags"
	"github.com/qkdmail/qkdmail/cmd/internal/kmdoctor"
	"github.com/qkdmail/qkdmail/cmd/internal/terminal"
	"github.com/spf13/cobra"
)

func newKMDoctor(g *flags.Globals) *cobra.Command {
	var (
		o      kmdoctor.Options
		asJSON bool
	)
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Check a KME against ETSI GS QKD 014",
		Long: `Check whether a KME keeps the rules of ETSI GS QKD 014 V1.1.1, and print a line
for each with what was asked and what came. With --peer-url, --peer-cert and
--peer-key it follows keys to the other site. The exit code is 69 if a rule is
broken.

A KME that keeps the rules gives out 6 keys. One that does not may give out more,
since some requests are there to be refused: a check that could bring the run over
--max-keys is skipped, and says so. The last line has the number that it was.`,
		Example: `  qkdmail km doctor --km etsi014:https://127.0.0.1:8443 --sae SAE_A --peer SAE_B \
      --km-ca certs/ca.crt --km-cert certs/sae_a.crt --km-key certs/sae_a.key \
      --peer-url https://127.0.0.1:8444 --peer-cert certs/sae_b.crt --peer-key certs/sae_b.key`,
		Args: flags.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			spec, err := g.Spec()
			if err != nil {
				return err
			}
			url, ok := strings.CutPrefix(spec, "etsi014:")
			if !ok || strings.Contains(url, ",") {
				return terminal.Usage("km doctor needs --km etsi014:https://HOST:PORT, of one KME")
			}
			if o.MaxKeys < 1 {
				return terminal.Usage("--max-keys %d: must be at least 1", o.MaxKeys)
			}
			o.URL, o.SAE, o.Peer = url, g.SAE, g.Peer
			o.CertFile, o.KeyFile, o.CAFile, o.KMEID = g.KMCert, g.KMKey, g.KMCA, g.KMEID
			report, err := kmdoctor.Run(cmd.Context(), o)
			if err != nil {
				return err
			}
			if asJSON {
				err = terminal.PrintJSON(cmd.OutOrStdout(), report)
			} else {
				err = kmdoctor.WriteTable(cmd.OutOrStdout(), report)
			}
			if err == nil && !report.Conforms() {
				err = terminal.Fail(terminal.ExitUnavailable, "see the table", "the KME does not keep all rules")
			}
			return err
		},
	}
	f := cmd.Flags()
	f.BoolVar(&asJSON, "json", false, "print JSON")
	f.StringVar(&o.PeerURL, "peer-url", "", "https://HOST:PORT of the peer's KME")
	f.StringVar(&o.PeerCertFile, "peer-cert", "", "PEM file with the peer's certificate")
	f.StringVar(&o.PeerKeyFile, "peer-key", "", "PEM file with the private key of --peer-cert")
	f.StringVar(&o.PeerCAFile, "peer-ca", "", "PEM file with the CA of the peer's KME (default: --km-ca)")
	f.StringVar(&o.PeerKMEID, "peer-kme-id", "", "KME ID that the peer's KME must have")
	f.IntVar(&o.MaxKeys, "max-keys", kmdoctor.DefaultMaxKeys, "keys of the KME's default size that the run may make it give out")
	f.DurationVar(&o.Timeout, "timeout", 10*time.Second, "for each request")
	return cmd
}
