package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/qkdmail/qkdmail/cmd/internal/cli"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
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

// all calls do for all commands.
func all(c *cobra.Command, do func(*cobra.Command)) {
	do(c)
	for _, sub := range c.Commands() {
		all(sub, do)
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

// unescaped returns what a reader sees of a page, without its layout.
func unescaped(page string) string {
	return strings.NewReplacer(`\-`, "-", `\&`, "", `\fB`, "", `\fI`, "", `\fR`, "", `\fP`, "", `\[la]`, "<", `\[ra]`, ">", `\e`, `\`, "\n", " ").Replace(page)
}

// verbatim returns the lines of a page that are printed as they are.
func verbatim(page string) (lines []string) {
	within := false
	for line := range strings.Lines(page) {
		switch line = strings.TrimRight(line, "\n"); line {
		case ".EX", ".EE":
			within = line == ".EX"
		default:
			if within {
				lines = append(lines, strings.TrimRight(unescaped(line), " "))
			}
		}
	}
	return lines
}

// helpOf returns what --help prints.
func helpOf(t *testing.T, c *cobra.Command) string {
	t.Helper()
	root, out := cli.NewRoot(), new(strings.Builder)
	root.SetOut(out)
	root.SetArgs(append(strings.Fields(c.CommandPath())[1:], "--help"))
	if err := root.Execute(); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// TestPagesSayAll: a page has every word of the help, its tables line by line, and no
// flag without a meaning there.
func TestPagesSayAll(t *testing.T) {
	dir, tables := t.TempDir(), 0
	if err := write(dir, t.TempDir()); err != nil {
		t.Fatal(err)
	}
	all(cli.NewRoot(), func(c *cobra.Command) {
		raw, err := os.ReadFile(filepath.Join(dir, strings.ReplaceAll(c.CommandPath(), " ", "-")+".1"))
		if err != nil {
			t.Fatal(err)
		}
		page := unescaped(string(raw))
		said := c.Long
		c.Flags().VisitAll(func(f *pflag.Flag) { said += " " + f.Usage })
		for _, word := range strings.Fields(said) {
			if !strings.Contains(page, word) {
				t.Errorf("the page of %s lacks %q", c.CommandPath(), word)
			}
		}
		kept := verbatim(string(raw))
		for line := range strings.Lines(c.Long) {
			line = strings.TrimRight(line, "\n")
			if !strings.HasPrefix(line, " ") {
				continue
			}
			tables++
			if !slices.Contains(kept, line) {
				t.Errorf("the page of %s lacks this line of a table:\n%s", c.CommandPath(), line)
			}
		}
		help := helpOf(t, c)
		for _, flag := range []string{"--km-ca", "--km-key", "--kme-id"} {
			if inHelp, inPage := strings.Contains(help, "  "+flag+" "), strings.Contains(page, flag+"="); inHelp != inPage {
				t.Errorf("%s: %s in its help: %t, on its page: %t", c.CommandPath(), flag, inHelp, inPage)
			}
		}
	})
	if tables < 20 {
		t.Errorf("only %d lines of tables: are they no longer indented?", tables)
	}
}

// TestWrite: each command has a page with the build date, and the completions are
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
