package cli

import (
	"context"
	"fmt"
	"os"
	"runtime/debug"
	"strings"

	"github.com/qkdmail/qkdmail/kmclient/open"
	"github.com/spf13/cobra"
)

// Globals are the flags that every command has.
type Globals struct {
	KM     string // the key manager; see rootLong, and Spec
	KMCA   string // PEM file
	KMCert string // PEM file
	KMKey  string // PEM file
	KMEID  string
	SAE    string
	Peer   string

	tempfail bool
}

const rootLong = `qkdmail encrypts e-mail with keys from Quantum Key Distribution (QKD), and
restores it octet for octet.

The key manager is named by --km:
  mock:PATH             no hardware: keys in a JSON file, or in an SQLite
                        database where PATH ends in .db
  http://HOST:PORT      the QMail REST API; https:// as well
  etsi014:https://HOST:PORT[,https://HOST:PORT…]
                        ETSI GS QKD 014, at the KMEs of this site in the order
                        in which they are asked; needs --sae and --peer, and
                        --km-cert and --km-key for mutual TLS
or else by the environment:
  QKD_KM         the same as --km
  QKD_USE_MOCK   true: the mock in instance/mock_qkd_keys.json; false: a QMail
                 REST key manager, at
  QKD_KM_HOST    its host (default localhost)
  QKD_KM_PORT    its port (default 8080)
  QKD_KM_HTTPS   true: HTTPS; QKD_KM_USE_HTTPS is the same
Where nothing names one, encrypt, decrypt, key and status use that mock, which
gives no security, and say so; relay does not start.

The other flags have their variables too: QKD_KM_CA, QKD_KM_CERT, QKD_KM_KEY,
QKD_KME_ID, QKD_SAE, QKD_PEER.

Exit codes: 0 done, 64 usage, 65 bad message, 66 no input, 69 key manager
unavailable, 73 can't create the output, 74 reading or writing failed, 75 try
again (no key now), 77 key not found or refused, 78 configuration.`

// Commands makes the commands of a package.
type Commands func(*Globals) []*cobra.Command

// NewRoot returns the command tree, with the commands of other packages.
func NewRoot(more ...Commands) *cobra.Command {
	g := &Globals{}
	root := &cobra.Command{
		Use:           "qkdmail",
		Short:         "Encrypt e-mail with keys from Quantum Key Distribution",
		Long:          rootLong,
		Version:       version(),
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          NoCommand,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return Usage("%w", err) })
	f := root.PersistentFlags()
	f.StringVar(&g.KM, "km", "", "key manager: mock:PATH, http://HOST:PORT, https://HOST:PORT or etsi014:https://HOST:PORT[,…]")
	f.StringVar(&g.KMCA, "km-ca", os.Getenv("QKD_KM_CA"), "PEM file with the CA of the key manager's certificate")
	f.StringVar(&g.KMCert, "km-cert", os.Getenv("QKD_KM_CERT"), "PEM file with our certificate for the key manager")
	f.StringVar(&g.KMKey, "km-key", os.Getenv("QKD_KM_KEY"), "PEM file with the private key of --km-cert")
	f.StringVar(&g.KMEID, "kme-id", os.Getenv("QKD_KME_ID"), "KME ID that the key manager's certificate must hold (its CN, URI or DNS name, or serial number)")
	f.StringVar(&g.SAE, "sae", os.Getenv("QKD_SAE"), "own SAE ID")
	f.StringVar(&g.Peer, "peer", os.Getenv("QKD_PEER"), "SAE ID of the other side")
	f.BoolVar(&g.tempfail, "tempfail", false, "exit with 75 where it is not 0, 64 or 65: for Postfix pipe(8), which bounces on others")
	root.AddCommand(newEncrypt(g), newDecrypt(g), newInspect(), newKey(g), newStatus(g), newDemo())
	for _, commands := range more {
		root.AddCommand(commands(g)...)
	}
	return root
}

// NoCommand refuses a word that is no command.
func NoCommand(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return Usage("unknown command %q", args[0])
	}
	return nil
}

// NoArgs refuses arguments.
func NoArgs(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return Usage("unexpected argument %q", args[0])
	}
	return nil
}

// SomeArgs wants one argument at least and most at most; what says what they are.
func SomeArgs(what string, most int) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) == 0 {
			return Usage("%s is missing", what)
		}
		if len(args) > most {
			return Usage("unexpected argument %q", args[most])
		}
		return nil
	}
}

// execute runs a command line and returns its exit code. An error is one line
// on standard error.
func execute(ctx context.Context, more Commands, args []string) int {
	root := NewRoot(more)
	root.SetArgs(args)
	out := &standardOutput{ctx: ctx}
	root.SetOut(out)
	cmd, err := root.ExecuteContextC(ctx)
	tempfail, _ := root.PersistentFlags().GetBool("tempfail")
	if err == nil {
		err = out.close()
	}
	if err == nil {
		return ExitOK
	}
	code, hint := explain(err)
	if config := cmd.Flags().Lookup("config"); config == nil || config.Value.String() == "" { // a file has all that counts
		err = open.NameVariables(err, environment(root.PersistentFlags()))
	}
	fmt.Fprintf(root.ErrOrStderr(), "qkdmail: %s\n", OneLine(err, hint))
	if tempfail && code != ExitUsage && code != ExitData {
		code = ExitTempFail
	}
	return code
}

// version is what the Go toolchain has stamped into the program: the module's
// version, and the commit where that does not name it.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "(devel)"
	}
	text := info.Main.Version
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && !strings.Contains(text, s.Value[:min(12, len(s.Value))]) {
			text += " (" + s.Value + ")"
		}
	}
	return text
}
