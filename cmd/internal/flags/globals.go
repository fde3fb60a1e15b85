// Package flags has the flags that several commands share, and opens what they name:
// the key manager and the key store, from the command line, the environment or a
// relay's configuration.
package flags

import (
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Globals are the flags that every command has.
type Globals struct {
	KM     string // the key manager; see Spec
	KMCA   string // PEM file
	KMCert string // PEM file
	KMKey  string // PEM file
	KMEID  string
	SAE    string
	Peer   string
}

// TempFail is the flag that makes nearly every failure exit with 75.
const TempFail = "tempfail"

// Register adds the flags to the root of all commands. Their defaults come from the
// environment.
func (g *Globals) Register(root *cobra.Command) {
	f := root.PersistentFlags()
	f.StringVar(&g.KM, "km", "", "key manager: mock:PATH, http://HOST:PORT, https://HOST:PORT or etsi014:https://HOST:PORT[,…]")
	f.StringVar(&g.KMCA, "km-ca", os.Getenv("QKD_KM_CA"), "PEM file with the CA of the key manager's certificate")
	f.StringVar(&g.KMCert, "km-cert", os.Getenv("QKD_KM_CERT"), "PEM file with our certificate for the key manager")
	f.StringVar(&g.KMKey, "km-key", os.Getenv("QKD_KM_KEY"), "PEM file with the private key of --km-cert")
	f.StringVar(&g.KMEID, "kme-id", os.Getenv("QKD_KME_ID"), "KME ID that the key manager's certificate must hold (its CN, URI or DNS name, or serial number)")
	f.StringVar(&g.SAE, "sae", os.Getenv("QKD_SAE"), "our SAE ID")
	f.StringVar(&g.Peer, "peer", os.Getenv("QKD_PEER"), "SAE ID of the other side")
	f.Bool(TempFail, false, "exit with 75 instead of any code but 0, 64 and 65: for Postfix pipe(8), which bounces on others")
	OfferForms(root, "km", "mock:", "http://", "https://", "etsi014:https://")
	OfferCA(root, "km-ca")
	OfferCertificate(root, "km-cert", "km-key")
}

// HideGlobals hides the global flags in the help of a command that they do not concern.
func HideGlobals(cmd *cobra.Command) {
	cmd.Annotations = map[string]string{noGlobals: ""}
	cmd.SetHelpFunc(func(c *cobra.Command, args []string) {
		SetHidden(c)
		c.Parent().HelpFunc()(c, args)
	})
}

const noGlobals = "no globals" // an annotation of commands

// SetHidden hides the global flags if HideGlobals was called for this command, and shows
// them otherwise. Commands share these flags, so it is called before each help, manual
// page or completion.
func SetHidden(cmd *cobra.Command) {
	_, hidden := cmd.Annotations[noGlobals]
	cmd.InheritedFlags().VisitAll(func(f *pflag.Flag) { f.Hidden = hidden })
}
