package flags

import (
	"github.com/qkdmail/qkdmail/cmd/internal/terminal"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// NoCommand refuses words that are not commands.
func NoCommand(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return terminal.Usage("unknown command %q", args[0])
	}
	return nil
}

// NoArgs refuses arguments.
func NoArgs(cmd *cobra.Command, args []string) error { return AtMost(0)(cmd, args) }

// AtMost refuses more than most arguments.
func AtMost(most int) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) > most {
			return terminal.Usage("unexpected argument %q", args[most])
		}
		return nil
	}
}

// SomeArgs requires between 1 and most arguments; what names them in an error.
func SomeArgs(what string, most int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return terminal.Usage("%s is missing", what)
		}
		return AtMost(most)(cmd, args)
	}
}

// Admin adds the flag --admin; what names the things served there, for its help.
func Admin(f *pflag.FlagSet, address *string, what string) {
	f.StringVar(address, "admin", "", "address for "+what+": HOST:PORT, or :PORT on loopback; there is no password")
}

// MaxIDs is the largest number of key IDs on a command line.
const MaxIDs = 1000
