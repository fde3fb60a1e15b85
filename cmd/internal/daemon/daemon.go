// Package daemon has the commands that only qkdmaild has: "relay", "store",
// "init", "send-test" and "km serve".
package daemon

import (
	"context"
	"log/slog"

	"github.com/qkdmail/qkdmail/cmd/internal/cli"
	"github.com/qkdmail/qkdmail/kmclient/keystore"
	"github.com/spf13/cobra"
)

// New returns what makes qkdmaild of the client's command line.
func New() *cli.Daemon {
	return &cli.Daemon{
		Commands: func(g *cli.Globals) []*cobra.Command {
			return []*cobra.Command{newRelay(g), newInit(g), newSendTest(g)}
		},
		Serve:    newKMServe,
		OpenEtcd: openEtcd,
	}
}

// openEtcd opens a key store in etcd.
func openEtcd(_ context.Context, spec string, _ *slog.Logger) (keystore.Store, error) {
	return nil, cli.Fail(cli.ExitConfig, "name a file", "--store %s: only SQLite files can be used", spec)
}
