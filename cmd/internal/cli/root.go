package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/qkdmail/qkdmail/cmd/internal/flags"
	"github.com/qkdmail/qkdmail/cmd/internal/kmcmd"
	"github.com/qkdmail/qkdmail/cmd/internal/messagecmd"
	"github.com/qkdmail/qkdmail/cmd/internal/relaycmd"
	"github.com/qkdmail/qkdmail/cmd/internal/storecmd"
	"github.com/qkdmail/qkdmail/cmd/internal/terminal"
	"github.com/spf13/cobra"
)

const rootLong = `qkdmail encrypts e-mail with keys from Quantum Key Distribution (QKD), and
restores it byte for byte.

The key manager is named by --km:
  mock:PATH             no hardware: keys in a JSON file
  http://HOST:PORT      the QMail REST API, also with https://
  etsi014:https://HOST:PORT[,https://HOST:PORT…]
                        ETSI GS QKD 014, at this site's KMEs, tried in this
                        order; needs --sae and --peer, and --km-cert and
                        --km-key for mutual TLS
or else by the environment:
  QKD_KM         the same as --km
  QKD_USE_MOCK   true: the mock in instance/mock_qkd_keys.json; false: the
                 QMail REST API, at
  QKD_KM_HOST    its host (default localhost)
  QKD_KM_PORT    its port (default 8080)
  QKD_KM_HTTPS   true: HTTPS; QKD_KM_USE_HTTPS is the same
If nothing names one, encrypt, decrypt, key and status use that mock and say so; it
gives no security. relay does not start.

Other flags have variables as well: QKD_KM_CA, QKD_KM_CERT, QKD_KM_KEY,
QKD_KME_ID, QKD_SAE, QKD_PEER; QKD_HYBRID for encrypt, QKD_HYBRID_KEY for decrypt.

Exit codes: 0 done, 64 usage, 65 bad message, 66 no input, 69 key manager
unavailable, 73 can't create the output, 74 reading or writing failed, 75 try
again (no key now), 77 key not found or refused, 78 configuration.`

// NewRoot returns the command tree.
func NewRoot() *cobra.Command {
	g := &flags.Globals{}
	var showVersion bool
	root := &cobra.Command{
		Use:           "qkdmail",
		Short:         "Encrypt e-mail with keys from Quantum Key Distribution",
		Long:          rootLong,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          flags.NoCommand,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if showVersion {
				_, err := fmt.Fprintf(cmd.OutOrStdout(), "qkdmail version %s\n", terminal.Version())
				return err
			}
			return cmd.Help()
		},
	}
	root.Flags().BoolVarP(&showVersion, "version", "v", false, "version for qkdmail")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return terminal.Usage("%w", err) })
	g.Register(root)
	flags.OfferNothing(root)
	for _, room := range []func(*flags.Globals) []*cobra.Command{messagecmd.Commands, kmcmd.Commands, storecmd.Commands, relaycmd.Commands} {
		root.AddCommand(room(g)...)
	}
	return root
}

// execute runs a command line and returns its exit code. It prints an error on one line
// of standard error.
func execute(ctx context.Context, args []string) int {
	root := NewRoot()
	root.SetArgs(args)
	if len(args) > 1 && strings.HasPrefix(args[0], cobra.ShellCompRequestCmd) { // and ShellCompNoDescRequestCmd
		if cmd, _, err := root.Find(args[1 : len(args)-1]); err == nil {
			flags.SetHidden(cmd)
		}
	}
	out := terminal.NewStandardOutput(ctx)
	root.SetOut(out)
	cmd, err := root.ExecuteContextC(ctx)
	tempfail, _ := root.PersistentFlags().GetBool(flags.TempFail)
	if err == nil {
		err = out.Close()
	}
	if err == nil {
		return terminal.ExitOK
	}
	if config := cmd.Flags().Lookup("config"); config == nil || config.Value.String() == "" { // with a configuration file, nothing comes from the environment
		err = flags.NameVariables(err, flags.Environment(cmd.Flags()))
	}
	code := terminal.Report(root.ErrOrStderr(), err)
	if tempfail && code != terminal.ExitUsage && code != terminal.ExitData {
		code = terminal.ExitTempFail
	}
	return code
}
