// Package daemon has the commands "relay", "store", "init", "send-test" and "km".
package daemon

import (
	"github.com/qkdmail/qkdmail/cmd/internal/cli"
	"github.com/spf13/cobra"
)

// Commands makes the commands of this package.
func Commands(g *cli.Globals) []*cobra.Command {
	return []*cobra.Command{cli.NewKM(g, newKMServe()), newRelay(g), newStore(g), newInit(g), newSendTest(g)}
}
