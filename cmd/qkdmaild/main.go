// Command qkdmaild is qkdmail with the parts that run for long: the relay, the
// simulated key manager, the store, and what an administrator sets a site up with.
// qkdmail starts it where it is needed; a service manager can start it itself:
// "qkdmaild relay".
package main

import (
	"os"

	"github.com/qkdmail/qkdmail/cmd/internal/cli"
	"github.com/qkdmail/qkdmail/cmd/internal/daemon"
)

func main() { os.Exit(cli.Main(daemon.New())) }
