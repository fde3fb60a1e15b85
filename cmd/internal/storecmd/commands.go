// Package storecmd has "qkdmail store", the commands for the store that keeps the keys
// of arriving messages.
package storecmd

import (
	"github.com/qkdmail/qkdmail/cmd/internal/flags"
	"github.com/spf13/cobra"
)

// Commands returns the commands of this package.
func Commands(g *flags.Globals) []*cobra.Command {
	return []*cobra.Command{newStore(g)}
}
