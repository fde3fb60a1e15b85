package flags

import (
	"github.com/qkdmail/qkdmail/cmd/internal/terminal"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// NoCommand refuses a word that is no command.
func NoCommand(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return terminal.Usage("unknown command %q", args[0])
	}
	return nil
}

// NoArgs refuses arguments.
func NoArgs(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return terminal.Usage("unexpected argument %q", args[0])
	}
	return nil
}

// SomeArgs wants one argument at least and most at most; what says what they are.
func SomeArgs(what string, most int) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) == 0 {
			return terminal.Usage("%s is missing", what)
		}
		if len(args) > most {
			return terminal.Usage("unexpected argument %q", args[most])
		}
		return nil
	}
}

// Admin adds --admin to a command; what is what is served there.
func Admin(f *pflag.FlagSet, address *string, what string) {
	f.StringVar(address, "admin", "", what+" are served here, HOST:PORT, or :PORT for loopback; there is no password")
}

// MaxIDs is how many key IDs a command line can name.
const MaxIDs = 1000
