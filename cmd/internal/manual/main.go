// Command manual writes the manual pages and the shell completions of qkdmail's
// commands:
//
//	go run ./cmd/internal/manual MAN-DIR COMPLETIONS-DIR
//
// SOURCE_DATE_EPOCH, if it is set, is the date on the pages.
package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/qkdmail/qkdmail/cmd/internal/cli"
	"github.com/qkdmail/qkdmail/cmd/internal/flags"
	"github.com/qkdmail/qkdmail/cmd/internal/terminal"
	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: manual MAN-DIR COMPLETIONS-DIR")
		os.Exit(terminal.ExitUsage)
	}
	if err := write(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "manual:", err)
		os.Exit(terminal.ExitCantCreate)
	}
}

func write(man, completions string) error {
	root := cli.NewRoot()
	root.DisableAutoGenTag = true
	date, err := pageDate()
	if err != nil {
		return err
	}
	header := doc.GenManHeader{Section: "1", Date: &date, Source: "qkdmail", Manual: "qkdmail"}
	if err := writePages(root, header, man); err != nil {
		return err
	}
	return writeCompletions(root, completions)
}

// writePages writes the page of a command, and those of its subcommands.
func writePages(c *cobra.Command, header doc.GenManHeader, dir string) error {
	for _, sub := range c.Commands() {
		if err := writePages(sub, header, dir); err != nil {
			return err
		}
	}
	flags.SetHidden(c)
	c.Long = fenced(c.Long)
	var page bytes.Buffer
	if err := doc.GenMan(c, &header, &page); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, strings.ReplaceAll(c.CommandPath(), " ", "-")+".1"), page.Bytes(), 0o644)
}

// fenced puts the tables of a help text, whose lines are indented, between Markdown
// fences. Otherwise the pages would fill their lines like those of a paragraph.
func fenced(text string) string {
	const fence = "```\n"
	var b strings.Builder
	within := false
	for line := range strings.Lines(text) {
		if table := strings.HasPrefix(line, " "); table != within {
			within = table
			if table {
				b.WriteString("\n") // Markdown wants a blank line before
			}
			b.WriteString(fence)
		}
		b.WriteString(line)
	}
	if within {
		b.WriteString("\n" + fence)
	}
	return b.String()
}

func writeCompletions(root *cobra.Command, dir string) error {
	if err := root.GenBashCompletionFileV2(filepath.Join(dir, "qkdmail.bash"), true); err != nil {
		return err
	}
	if err := root.GenZshCompletionFile(filepath.Join(dir, "_qkdmail")); err != nil {
		return err
	}
	return root.GenFishCompletionFile(filepath.Join(dir, "qkdmail.fish"), true)
}

func pageDate() (time.Time, error) {
	epoch := os.Getenv("SOURCE_DATE_EPOCH")
	if epoch == "" {
		return time.Now().UTC(), nil
	}
	seconds, err := strconv.ParseInt(epoch, 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("SOURCE_DATE_EPOCH: %w", err)
	}
	return time.Unix(seconds, 0).UTC(), nil
}
