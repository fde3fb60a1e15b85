package cli

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/qkdmail/qkdmail/kmclient/keystore"
	"github.com/spf13/cobra"
)

// daemonProgram is the program with everything. The small one hands over to it.
const daemonProgram = "qkdmaild"

// A Daemon is what only qkdmaild has: what runs for long, and the clients that
// take a while to start. Linked into qkdmail, it would cost every encrypted file
// some milliseconds.
type Daemon struct {
	// Commands are those beside the client's, in the order of DaemonCommands.
	Commands func(*Globals) []*cobra.Command
	// Serve is "km serve".
	Serve func() *cobra.Command
	// OpenPostgres opens a key store that is named postgres://….
	OpenPostgres func(ctx context.Context, s StoreFlags) (keystore.Store, error)
}

// What the commands of the daemon are for, in the help of both programs.
const (
	ShortRelay    = "Encrypt outgoing and decrypt arriving mail, between two mail systems"
	ShortServe    = "Run a simulated key manager"
	ShortStore    = "Look after the keys of arriving messages"
	ShortInit     = "Make the files that a site needs"
	ShortSendTest = "Send a message through the whole path and report each hop"
)

// errHandOver: only the daemon's program can do this.
var errHandOver = errors.New("this needs " + daemonProgram)

// daemonCommands are those of the daemon, or what hands over to them.
func (g *Globals) daemonCommands() []*cobra.Command {
	if g.daemon != nil {
		return g.daemon.Commands(g)
	}
	return []*cobra.Command{
		handedOver("relay", ShortRelay), handedOver("store", ShortStore), handedOver("init", ShortInit), handedOver("send-test", ShortSendTest),
	}
}

func (g *Globals) serveCommand() *cobra.Command {
	if g.daemon != nil {
		return g.daemon.Serve()
	}
	return handedOver("serve", ShortServe)
}

// handedOver is a command that the daemon's program carries out, its --help
// included.
func handedOver(use, short string) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, DisableFlagParsing: true,
		RunE: func(*cobra.Command, []string) error { return errHandOver },
	}
}

// handOver runs the daemon's program in the place of this one: what stands
// beside it, or else in the PATH. It returns only if that fails, or if a signal has
// ended ctx: the other program would know nothing of it. After stop a signal ends
// the program.
func handOver(ctx context.Context, stop func(), args []string) error {
	program, err := findDaemon()
	if err == nil {
		if stop(); ctx.Err() != nil {
			return ctx.Err()
		}
		err = replace(program, append([]string{daemonProgram}, args...))
	}
	return Fail(ExitUnavailable, "install it beside this program, with: go install github.com/qkdmail/qkdmail/cmd/{qkdmail,qkdmaild}@latest", "this needs the program %s: %w", daemonProgram, err)
}

func findDaemon() (string, error) {
	if own, err := os.Executable(); err == nil {
		if own, err = filepath.EvalSymlinks(own); err == nil {
			if beside, err := exec.LookPath(filepath.Join(filepath.Dir(own), daemonProgram)); err == nil {
				return beside, nil
			}
		}
	}
	return exec.LookPath(daemonProgram)
}
