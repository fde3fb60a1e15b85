package storecmd

import (
	"fmt"
	"io"

	"github.com/qkdmail/qkdmail/cmd/internal/flags"
	"github.com/qkdmail/qkdmail/cmd/internal/terminal"
	"github.com/qkdmail/qkdmail/kmclient/keystore/postgres"
	"github.com/spf13/cobra"
)

func (s *storeFlags) init() *cobra.Command {
	var role string
	cmd := &cobra.Command{
		Use:   "init --store postgres://OWNER@HOST/DATABASE",
		Short: "Make the schema of a store in PostgreSQL",
		Long: `Make the schema for the keys in a PostgreSQL database, or migrate one of an older
version, and print the SQL that grants the relays' role what it needs. The schema is
qkdmail, or the one in search_path= of the URL.

--store names the database and a role that may create schemas in it. The relays use
another role, made beforehand (createuser qkdmail), which needs only what the printed
SQL grants: run it with psql. Passwords belong in libpq's password file or the
environment variable PGPASSWORD.

Stop relays of an older version first. The contents of a store are kept.`,
		Example: `  qkdmail store init --store postgres://postgres@db.example/mail
  qkdmail store init --store postgres://postgres@db.example/mail | psql -d mail
  qkdmail store init --store 'postgres://dba@db.example/mail?search_path=keys' --role relay`,
		Args: flags.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return s.runInit(cmd, role) },
	}
	cmd.Flags().StringVar(&role, "role", "qkdmail", "the role of the relays")
	return cmd
}

func (s *storeFlags) runInit(cmd *cobra.Command, role string) error {
	if err := s.settle(cmd); err != nil {
		return err
	}
	if !s.IsPostgres() {
		return terminal.Usage("%s: only a store in PostgreSQL is made with init", s.Shown())
	}
	grants, err := postgres.Grants(s.Path, role)
	if err == nil {
		err = postgres.Init(cmd.Context(), s.Path)
	}
	if err != nil {
		return flags.PostgresError(err)
	}
	return terminal.Print(cmd.OutOrStdout(), s.asJSON, map[string]string{"store": s.Shown(), "grants": grants}, func(out io.Writer) error {
		_, err := fmt.Fprintf(out, "-- %s is ready. The role of the relays needs:\n%s", s.Shown(), grants)
		return err
	})
}
