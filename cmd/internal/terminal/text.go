package terminal

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"unicode"

	"github.com/spf13/cobra"
)

// Note returns a function that prints a line to standard error.
func Note(cmd *cobra.Command) func(format string, args ...any) {
	return func(format string, args ...any) {
		fmt.Fprintf(cmd.ErrOrStderr(), "qkdmail: %s\n", OneLine(fmt.Errorf(format, args...), ""))
	}
}

// Warnings returns a logger that prints warnings and errors to standard error.
func Warnings(cmd *cobra.Command) *slog.Logger {
	return slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: slog.LevelWarn}))
}

// Printable replaces characters that could control a terminal, in text from
// outside.
func Printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '\uFFFD'
	}, s)
}

// OrDash returns s, or a dash if s is empty.
func OrDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// Print prints v as JSON if asJSON is set, and otherwise calls text.
func Print(out io.Writer, asJSON bool, v any, text func(io.Writer) error) error {
	if asJSON {
		return PrintJSON(out, v)
	}
	return text(out)
}

// PrintJSON prints v as indented JSON.
func PrintJSON(out io.Writer, v any) error {
	e := json.NewEncoder(out)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}
