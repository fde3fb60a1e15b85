// Package cli is the command line of qkdmail: flags, files, what a terminal
// shows, exit codes.
package cli

import (
	"context"
	"io"
	"log"
	"os"
	"os/signal"
	"syscall"
)

// Main runs the command line of this process and returns its exit code, with
// which the process is to end.
func Main() int {
	// net/http logs stray octets of a connection, which might be a key's, on
	// the standard logger.
	log.SetOutput(io.Discard)
	noCoreDumps()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the program at once
	// A write to a pipe that nobody reads any more is an error like others, and
	// does not end the program by a signal before it has said so.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	return execute(ctx, os.Args[1:])
}
