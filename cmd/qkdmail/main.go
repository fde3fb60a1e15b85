// Command qkdmail encrypts and decrypts e-mail with keys from Quantum Key
// Distribution. "qkdmail --help" lists its commands.
package main

import (
	"os"

	"github.com/qkdmail/qkdmail/cmd/internal/cli"
)

func main() { os.Exit(cli.Main()) }
