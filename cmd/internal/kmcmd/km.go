package kmcmd

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/qkdmail/qkdmail/cmd/internal/flags"
	"github.com/qkdmail/qkdmail/cmd/internal/kmsim"
	"github.com/qkdmail/qkdmail/cmd/internal/terminal"
	"github.com/qkdmail/qkdmail/kmclient/keydb"
	"github.com/spf13/cobra"
)

// newKM has the commands around key managers themselves.
func newKM(g *flags.Globals) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "km",
		Short: "Simulate, check and fill key managers",
		Long: `A key manager to develop and test against, and checks for real ones. What
"km serve" starts is a simulator: its keys come from the system's randomness and
one process serves both sites. It is not QKD.`,
		Args: flags.NoCommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newKMServe(), newKMCerts(), newKMImport(), newKMExport(), newKMDoctor(g))
	return cmd
}

func newKMCerts() *cobra.Command {
	var o kmsim.CertOptions
	cmd := &cobra.Command{
		Use:   "certs DIR",
		Short: "Make certificates for the simulator and its SAEs",
		Long: `Make a CA and certificates for KMEs and SAEs, ECDSA on P-256, with the ID as
common name: ca.crt, kme_a.crt, kme_a.key, sae_a.crt, sae_a.key and so on. They
are for development: whoever has ca.key can be any SAE. Nothing is overwritten.`,
		Example: `  qkdmail km certs certs/
  qkdmail km certs --kme KME_1 --sae ALICE --sae BOB --host km.example certs/`,
		Args: flags.SomeArgs("DIR", 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			files, err := kmsim.WriteCerts(args[0], o)
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
	f.StringSliceVar(&o.Hosts, "host", nil, "names and addresses of the KMEs beside localhost, 127.0.0.1 and ::1")
	f.DurationVar(&o.Valid, "valid", 365*24*time.Hour, "how long the certificates are valid")
	return cmd
}

// DBFlag adds --db, the database of the simulator and of mock:PATH.db.
func DBFlag(cmd *cobra.Command, path *string) {
	cmd.Flags().StringVar(path, "db", "instance/km.db", "SQLite file with the keys")
}

func newKMImport() *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use:   "import [FILE]",
		Short: "Import keys from the reference system's JSON file",
		Long: `Import the keys of a JSON file, as the reference system and the mock write it,
into the database of "km serve --api qmail" and of --km mock:PATH.db. All keys
are imported or none. Without FILE standard input is read.`,
		Example: "  qkdmail km import --db keys.db instance/mock_qkd_keys.json",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return terminal.Usage("unexpected argument %q", args[1])
			}
			in, closeInput, err := terminal.OpenInput(cmd.Context(), append(args, "-")[0])
			if err != nil {
				return err
			}
			defer closeInput()
			db, err := keydb.Open(cmd.Context(), path, keydb.Options{})
			if err != nil {
				return err
			}
			defer db.Close()
			n, err := db.Import(cmd.Context(), in)
			if err != nil {
				return terminal.Fail(terminal.ExitData, "nothing was imported", "%w", err)
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "imported %d keys into %s\n", n, path)
			return nil
		},
	}
	DBFlag(cmd, &path)
	return cmd
}

func newKMExport() *cobra.Command {
	var path, target string
	var force bool
	cmd := &cobra.Command{
		Use:   "export",
		Short: "Export keys as the reference system's JSON file",
		Long: `Export the keys of the database of "km serve --api qmail" or of --km
mock:PATH.db as a JSON file that the reference system and --km mock:PATH read.
It holds the keys in clear.`,
		Example: "  qkdmail km export --db keys.db -o instance/mock_qkd_keys.json",
		Args:    flags.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if _, err := os.Stat(path); err != nil {
				return terminal.NoInput(err)
			}
			db, err := keydb.Open(cmd.Context(), path, keydb.Options{})
			if err != nil {
				return err
			}
			defer db.Close()
			return terminal.WriteOutput(cmd, target, force, func(out io.Writer) error { return db.Export(cmd.Context(), out) })
		},
	}
	DBFlag(cmd, &path)
	cmd.Flags().StringVarP(&target, "output", "o", "", "write to this file, - for standard output")
	cmd.Flags().BoolVar(&force, "force", false, "overwrite the file")
	return cmd
}
