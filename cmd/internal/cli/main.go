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
	// net/http logs stray bytes of a connection, which could be part of a key, with the
	// standard logger.
	log.SetOutput(io.Discard)
	noCoreDumps()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the program at once
	// Writing to a pipe that is no longer read returns an error, and does not kill the
	// program before it can report it.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	return execute(ctx, os.Args[1:])
}
