// Package kmcmd has the commands for key managers: "key", "status" and "km", with the
// simulator and the checks.
package kmcmd

import (
	"github.com/qkdmail/qkdmail/cmd/internal/flags"
	"github.com/spf13/cobra"
)

// Commands returns the commands of this package.
func Commands(g *flags.Globals) []*cobra.Command {
	return []*cobra.Command{newKey(g), newStatus(g), newKM(g)}
}
