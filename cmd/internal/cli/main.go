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
	"sync"
	"syscall"
)

// Main runs the command line of this process and returns its exit code, with
// which the process is to end. Without daemon, what needs it is handed over.
func Main(daemon *Daemon) int {
	// net/http logs stray octets of a connection, which might be a key's, on
	// the standard logger.
	log.SetOutput(io.Discard)
	noCoreDumps()

	ctx, stop := untilSignal()
	defer stop()
	// A write to a pipe that nobody reads any more is an error like others, and
	// does not end the program by a signal before it has said so.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	return execute(ctx, stop, daemon, os.Args[1:])
}

// untilSignal returns a context that ends with the first SIGINT or SIGTERM. A second
// one ends the program at once. So does the first once stop has returned; one that
// came before has ended the context then.
func untilSignal() (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	seen := make(chan struct{})
	go func() {
		defer close(seen)
		if _, came := <-signals; came {
			cancel()
			signal.Stop(signals)
		}
	}()
	return ctx, sync.OnceFunc(func() {
		signal.Stop(signals) // none is on its way then
		close(signals)
		<-seen
	})
}
