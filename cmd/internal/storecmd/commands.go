// Package storecmd has "qkdmail store", which looks after the keys of arriving
// messages.
package storecmd

import (
	"github.com/qkdmail/qkdmail/cmd/internal/flags"
	"github.com/spf13/cobra"
)

// Commands makes the commands of this package.
func Commands(g *flags.Globals) []*cobra.Command {
	return []*cobra.Command{newStore(g)}
}
