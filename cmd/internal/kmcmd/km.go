package kmcmd

import (
	"fmt"
	"time"

	"github.com/qkdmail/qkdmail/cmd/internal/flags"
	"github.com/qkdmail/qkdmail/cmd/internal/kmsim"
	"github.com/qkdmail/qkdmail/cmd/internal/terminal"
	"github.com/spf13/cobra"
)

func newKM(g *flags.Globals) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "km",
		Short: "Simulate and check key managers",
		Long: `A key manager to develop and test against, and checks for real ones. "km serve" is a
simulator, not QKD: its keys come from the system's random numbers, and one
process serves both sites.`,
		Args: flags.NoCommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newServe(), newCerts(), newDoctor(g))
	return cmd
}

func newCerts() *cobra.Command {
	var o kmsim.CertOptions
	cmd := &cobra.Command{
		Use:   "certs DIR",
		Short: "Make certificates for the simulator and its SAEs",
		Long: `Make a CA and certificates for KMEs and SAEs, ECDSA on P-256, with the ID as
common name: ca.crt, kme_a.crt, kme_a.key, sae_a.crt, sae_a.key and so on. They
are for development: with ca.key anyone can be any SAE. Nothing is overwritten.`,
		Example: `  qkdmail km certs certs/
  qkdmail km certs --kme KME_1 --sae ALICE --sae BOB --host km.example certs/`,
		Args:              flags.SomeArgs("DIR", 1),
		ValidArgsFunction: flags.FolderArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			files, err := kmsim.Certs(args[0]).Make(o)
			if err != nil {
				return terminal.Fail(terminal.ExitCantCreate, "name another folder, or check the IDs", "%w", err)
			}
			for _, f := range files {
				fmt.Fprintln(cmd.OutOrStdout(), f)
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.StringSliceVar(&o.KMEs, "kme", []string{"KME_A", "KME_B"}, "IDs of the KMEs")
	f.StringSliceVar(&o.SAEs, "sae", []string{"SAE_A", "SAE_B"}, "IDs of the SAEs")
	f.StringSliceVar(&o.Hosts, "host", nil, "names and addresses of the KMEs, besides localhost, 127.0.0.1 and ::1")
	f.DurationVar(&o.Valid, "valid", 365*24*time.Hour, "how long the certificates are valid")
	flags.HideGlobals(cmd)
	return cmd
}
