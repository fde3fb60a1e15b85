package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/qkdmail/qkdmail/cmd/internal/cli"
	"github.com/spf13/cobra"
)

// each calls do for all commands without subcommands.
func each(c *cobra.Command, do func(*cobra.Command)) {
	if len(c.Commands()) == 0 {
		do(c)
	}
	for _, sub := range c.Commands() {
		each(sub, do)
	}
}

// TestHelp: each command has a description and an example.
func TestHelp(t *testing.T) {
	commands := 0
	each(cli.NewRoot(), func(c *cobra.Command) {
		commands++
		if c.Short == "" || c.Example == "" {
			t.Errorf("%s: short %q, example %q; it must have both", c.CommandPath(), c.Short, c.Example)
		}
		for line := range strings.Lines(c.Example) {
			if len(line) > 100 {
				t.Errorf("%s: a line of %d characters in its example", c.CommandPath(), len(line))
			}
		}
	})
	if commands < 20 {
		t.Errorf("only %d commands", commands)
	}
}

// TestWrite: each command has a page with the date of the build, and the completions are
// written.
func TestWrite(t *testing.T) {
	t.Setenv("SOURCE_DATE_EPOCH", "1767225600") // in January 2026
	man, completions := t.TempDir(), t.TempDir()
	if err := write(man, completions); err != nil {
		t.Fatal(err)
	}
	each(cli.NewRoot(), func(c *cobra.Command) {
		page, err := os.ReadFile(filepath.Join(man, strings.ReplaceAll(c.CommandPath(), " ", "-")+".1"))
		if err != nil || !strings.Contains(string(page), `"Jan 2026"`) {
			t.Errorf("page of %s: %v:\n%.300s", c.CommandPath(), err, page)
		}
	})
	for _, file := range []string{"qkdmail.bash", "_qkdmail", "qkdmail.fish"} {
		if text, err := os.ReadFile(filepath.Join(completions, file)); err != nil || !strings.Contains(string(text), "__complete") {
			t.Errorf("%s: %v", file, err)
		}
	}
	t.Setenv("SOURCE_DATE_EPOCH", "yesterday")
	if err := write(man, completions); err == nil {
		t.Error("an invalid date is accepted")
	}
}
