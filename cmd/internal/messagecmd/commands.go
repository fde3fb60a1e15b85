// Package messagecmd has the commands for messages in files: "encrypt", "decrypt",
// "inspect" and "demo", and "keygen" for the X-Wing keys that they take.
package messagecmd

import (
	"github.com/qkdmail/qkdmail/cmd/internal/flags"
	"github.com/spf13/cobra"
)

// Commands returns the commands of this package.
func Commands(g *flags.Globals) []*cobra.Command {
	return []*cobra.Command{newEncrypt(g), newDecrypt(g), newInspect(), newKeygen(), newDemo()}
}
