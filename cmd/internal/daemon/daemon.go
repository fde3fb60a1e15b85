// Package daemon has the commands that only qkdmaild has: "relay", "store",
// "init", "send-test" and "km serve".
package daemon

import (
	"context"
	"log/slog"

	"github.com/qkdmail/qkdmail/cmd/internal/cli"
	"github.com/qkdmail/qkdmail/kmclient/keystore"
	"github.com/qkdmail/qkdmail/kmclient/keystore/etcdstore"
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
		OpenEtcd:     openEtcd,
		OpenPostgres: openPostgres,
	}
}

// openEtcd opens a key store in etcd.
func openEtcd(ctx context.Context, s cli.StoreFlags, log *slog.Logger) (keystore.Store, error) {
	o, err := etcdstore.ParseURL(s.Path)
	if err != nil {
		return nil, err
	}
	o.CAFile, o.CertFile, o.KeyFile = s.CA, s.Cert, s.CertKey
	o.Logger = log
	store, err := etcdstore.Open(ctx, o)
	if err != nil {
		return nil, err
	}
	return store, nil
}

// openPostgres opens a key store in PostgreSQL.
func openPostgres(ctx context.Context, s cli.StoreFlags) (keystore.Store, error) {
	store, err := postgres.Open(ctx, postgres.Options{URL: s.Path})
	if err != nil {
		return nil, err
	}
	return store, nil
}
