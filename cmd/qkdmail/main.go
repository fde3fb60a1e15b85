// Command qkdmail encrypts and decrypts e-mail with keys from Quantum Key
// Distribution. "qkdmail --help" lists its commands.
package main

import (
	"context"
	"io"
	"log"
	"os"
	"os/signal"
	"syscall"
)

func main() { os.Exit(run()) }

func run() int {
	// net/http logs stray octets of a connection, which might be a key's, on
	// the standard logger.
	log.SetOutput(io.Discard)
	noCoreDumps()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the program at once
	return execute(ctx, newRoot(), os.Args[1:])
}
