// Package daemon has the commands that only qkdmaild has: "relay", "store",
// "init", "send-test" and "km serve".
package daemon

import (
	"context"

	"github.com/qkdmail/qkdmail/cmd/internal/cli"
	"github.com/qkdmail/qkdmail/kmclient/keystore"
	"github.com/qkdmail/qkdmail/kmclient/keystore/postgres"
	"github.com/spf13/cobra"
)

// New returns what makes qkdmaild of the client's command line.
func New() *cli.Daemon {
	return &cli.Daemon{
		Commands: func(g *cli.Globals) []*cobra.Command {
			return []*cobra.Command{newRelay(g), newStore(g), newInit(g), newSendTest(g)}
		},
		Serve:        newKMServe,
		OpenPostgres: openPostgres,
	}
}

// openPostgres opens a key store in PostgreSQL.
func openPostgres(ctx context.Context, s cli.StoreFlags) (keystore.Store, error) {
	store, err := postgres.Open(ctx, postgres.Options{URL: s.Path})
	if err != nil {
		return nil, err
	}
	return store, nil
}
