// Package cli is the command line of qkdmail: the tree of commands, and how the process
// begins and ends.
package cli

import (
	"context"
	"io"
	"log"
	"os"
	"os/signal"
	"syscall"
)

// Main runs the command line of this process and returns the exit code.
func Main() int {
	// net/http logs stray bytes from a connection, which could be part of a key, to the
	// standard logger.
	log.SetOutput(io.Discard)
	noCoreDumps()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the program at once
	// Have a write to a pipe that is no longer read return an error: the signal would
	// kill the program before it could report it.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	return execute(ctx, os.Args[1:])
}
