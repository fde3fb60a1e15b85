// Package cli is the command line of qkdmail: flags, files, what a terminal
// shows, exit codes. Two programs have it: qkdmail, which starts fast, and
// qkdmaild, which has the daemon's commands as well; see [Daemon]. The first
// hands over to the second what it does not have, so that users know one only.
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
// which the process is to end. Without daemon, what needs it is handed over.
func Main(daemon *Daemon) int {
	// net/http logs stray octets of a connection, which might be a key's, on
	// the standard logger.
	log.SetOutput(io.Discard)
	noCoreDumps()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the program at once
	// A write to a pipe that nobody reads any more is an error like others, and
	// does not end the program by a signal before it has said so.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	return execute(ctx, daemon, os.Args[1:])
}
