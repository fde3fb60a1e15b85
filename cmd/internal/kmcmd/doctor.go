package kmcmd

import (
	"io"
	"strings"
	"time"

	"github.com/qkdmail/qkdmail/cmd/internal/flags"
	"github.com/qkdmail/qkdmail/cmd/internal/kmdoctor"
	"github.com/qkdmail/qkdmail/cmd/internal/terminal"
	"github.com/spf13/cobra"
)

// A doctor holds the flags of "km doctor".
type doctor struct {
	*flags.Globals
	options kmdoctor.Options
	asJSON  bool
	asHTML  bool
}

func newDoctor(g *flags.Globals) *cobra.Command {
	d := &doctor{Globals: g}
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Check a KME against ETSI GS QKD 014",
		Long: `Check whether a KME follows the rules of ETSI GS QKD 014 V1.1.1. Each rule has a line
with the request and the answer. With --peer-url, --peer-cert and --peer-key, keys are
followed to the other site. The exit code is 69 if a rule is broken.

A KME that follows the rules hands out 6 keys. Another may hand out more, since some
requests are meant to be refused. A check that could take the run over --max-keys is
skipped, and reported as skipped. The last lines say how long the KME takes to answer
and how many keys were used.`,
		Example: `  qkdmail km doctor --km etsi014:https://127.0.0.1:8443 --sae SAE_A --peer SAE_B \
      --km-ca certs/ca.crt --km-cert certs/sae_a.crt --km-key certs/sae_a.key \
      --peer-url https://127.0.0.1:8444 --peer-cert certs/sae_b.crt --peer-key certs/sae_b.key`,
		Args: flags.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return d.run(cmd) },
	}
	f := cmd.Flags()
	f.BoolVar(&d.asJSON, "json", false, "print JSON")
	f.BoolVar(&d.asHTML, "html", false, "print a page in HTML")
	f.StringVar(&d.options.PeerURL, "peer-url", "", "https://HOST:PORT of the peer's KME")
	f.StringVar(&d.options.PeerCertFile, "peer-cert", "", "PEM file with the peer's certificate")
	f.StringVar(&d.options.PeerKeyFile, "peer-key", "", "PEM file with the private key of --peer-cert")
	f.StringVar(&d.options.PeerCAFile, "peer-ca", "", "PEM file with the CA of the peer's KME (default: --km-ca)")
	f.StringVar(&d.options.PeerKMEID, "peer-kme-id", "", "KME ID that the peer's KME must have")
	f.IntVar(&d.options.MaxKeys, "max-keys", kmdoctor.DefaultMaxKeys, "largest number of keys of the KME's default size that the run may use up")
	f.DurationVar(&d.options.Timeout, "timeout", 10*time.Second, "for each request")
	flags.OfferForms(cmd, "peer-url", "https://")
	flags.OfferCertificate(cmd, "peer-cert", "peer-key")
	flags.OfferCA(cmd, "peer-ca")
	return cmd
}

func (d *doctor) run(cmd *cobra.Command) error {
	spec, err := d.Spec()
	if err != nil {
		return err
	}
	url, ok := strings.CutPrefix(spec, "etsi014:")
	if !ok || strings.Contains(url, ",") {
		return terminal.Usage("km doctor needs --km etsi014:https://HOST:PORT, of one KME")
	}
	if d.asJSON && d.asHTML {
		return terminal.Usage("give --json or --html, not both")
	}
	if d.options.MaxKeys < 1 {
		return terminal.Usage("--max-keys %d: must be at least 1", d.options.MaxKeys)
	}
	o := d.options
	o.URL, o.SAE, o.Peer = url, d.SAE, d.Peer
	o.CertFile, o.KeyFile, o.CAFile, o.KMEID = d.KMCert, d.KMKey, d.KMCA, d.KMEID
	report, err := kmdoctor.Run(cmd.Context(), o)
	if err != nil {
		return err
	}
	write := kmdoctor.WriteTable
	if d.asHTML {
		write = kmdoctor.WriteHTML
	}
	err = terminal.Print(cmd.OutOrStdout(), d.asJSON, report, func(out io.Writer) error { return write(out, report) })
	if err == nil && !report.Conforms() {
		err = terminal.Fail(terminal.ExitUnavailable, "see the table", "the KME does not keep all rules")
	}
	return err
}
