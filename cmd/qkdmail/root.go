package main

import (
	"context"
	"fmt"
	"os"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// globals are the flags that every command has.
type globals struct {
	km       string // the key manager; see rootLong
	kmCA     string // PEM file
	kmCert   string // PEM file
	kmKey    string // PEM file
	kmeID    string
	sae      string
	peer     string
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
  QKD_USE_MOCK   true (default): the mock in instance/mock_qkd_keys.json
  QKD_KM_HOST    host of a QMail REST key manager (default localhost)
  QKD_KM_PORT    its port (default 8080)
  QKD_KM_HTTPS   true: HTTPS
The other flags have their variables too: QKD_KM_CA, QKD_KM_CERT, QKD_KM_KEY,
QKD_KME_ID, QKD_SAE, QKD_PEER.

Exit codes: 0 done, 64 usage, 65 bad message, 66 no input, 69 key manager
unavailable, 73 can't create the output, 74 reading or writing failed, 75 try
again (no key now), 77 key not found or refused, 78 configuration.`

func newRoot() *cobra.Command {
	g := &globals{}
	root := &cobra.Command{
		Use:           "qkdmail",
		Short:         "Encrypt e-mail with keys from Quantum Key Distribution",
		Long:          rootLong,
		Version:       version(),
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          noCommand,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usage("%w", err) })
	f := root.PersistentFlags()
	f.StringVar(&g.km, "km", "", "key manager: mock:PATH, http://HOST:PORT, https://HOST:PORT or etsi014:https://HOST:PORT[,…]")
	f.StringVar(&g.kmCA, "km-ca", os.Getenv("QKD_KM_CA"), "PEM file with the CA of the key manager's certificate")
	f.StringVar(&g.kmCert, "km-cert", os.Getenv("QKD_KM_CERT"), "PEM file with our certificate for the key manager")
	f.StringVar(&g.kmKey, "km-key", os.Getenv("QKD_KM_KEY"), "PEM file with the private key of --km-cert")
	f.StringVar(&g.kmeID, "kme-id", os.Getenv("QKD_KME_ID"), "KME ID that the key manager's certificate must hold (its CN, URI or DNS name, or serial number)")
	f.StringVar(&g.sae, "sae", os.Getenv("QKD_SAE"), "own SAE ID")
	f.StringVar(&g.peer, "peer", os.Getenv("QKD_PEER"), "SAE ID of the other side")
	f.BoolVar(&g.tempfail, "tempfail", false, "exit with 75 where it is not 0, 64 or 65: for Postfix pipe(8), which bounces on others")
	root.AddCommand(newEncrypt(g), newDecrypt(g), newInspect(), newKey(g), newStatus(g), newDemo(), newKM(g), newRelay(g))
	return root
}

// noCommand refuses a word that is no command.
func noCommand(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usage("unknown command %q", args[0])
	}
	return nil
}

// noArgs, oneArg and someArgs check the number of arguments.
func noArgs(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usage("unexpected argument %q", args[0])
	}
	return nil
}

func someArgs(what string, most int) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) == 0 {
			return usage("%s is missing", what)
		}
		if len(args) > most {
			return usage("unexpected argument %q", args[most])
		}
		return nil
	}
}

// execute runs a command line and returns its exit code. An error is one line
// on standard error.
func execute(ctx context.Context, root *cobra.Command, args []string) int {
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	code, hint := explain(err)
	fmt.Fprintf(root.ErrOrStderr(), "qkdmail: %s\n", oneLine(err, hint))
	if tempfail, _ := root.PersistentFlags().GetBool("tempfail"); tempfail && code != exitUsage && code != exitData {
		code = exitTempFail
	}
	return code
}

// version is what the Go toolchain has stamped into the program.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "(devel)"
	}
	return info.Main.Version
}
