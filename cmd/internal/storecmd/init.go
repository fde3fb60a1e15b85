package storecmd

import (
	"fmt"

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
		Long: `Make the schema that keeps the keys in a PostgreSQL database, or bring one of an
older version to this one, and print the SQL that gives the relays' role what it
needs. The schema is qkdmail, or what search_path= in the URL says.

--store names the database with a role that may make schemas in it. The relays use
another, made beforehand (createuser qkdmail), which needs only what is printed: run it
with psql. Passwords belong into libpq's password file or the environment variable
PGPASSWORD.

Relays of the version before must be stopped; what is in the store stays there.`,
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
		return terminal.Usage("%s: only a store in PostgreSQL is made beforehand", s.Shown())
	}
	grants, err := postgres.Grants(s.Path, role)
	if err == nil {
		err = postgres.Init(cmd.Context(), s.Path)
	}
	if err != nil {
		return flags.PostgresError(err)
	}
	if s.asJSON {
		return terminal.PrintJSON(cmd.OutOrStdout(), map[string]string{"store": s.Shown(), "grants": grants})
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "-- %s is ready. The role of the relays needs:\n%s", s.Shown(), grants)
	return err
}
