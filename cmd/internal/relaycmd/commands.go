// Package relaycmd has the relay's commands: "relay", with --check, "init" and
// "send-test".
package relaycmd

import (
	"github.com/qkdmail/qkdmail/cmd/internal/flags"
	"github.com/spf13/cobra"
)

// Commands returns the commands of this package.
func Commands(g *flags.Globals) []*cobra.Command {
	return []*cobra.Command{newRelay(g), newInit(g), newSendTest(g)}
}
