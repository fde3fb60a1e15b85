// Command manual writes the manual pages and the shell completions of qkdmail's
// commands:
//
//	go run ./cmd/internal/manual MAN-DIR COMPLETIONS-DIR
//
// SOURCE_DATE_EPOCH, if it is set, is the date on the pages.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/qkdmail/qkdmail/cmd/internal/cli"
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
	header := &doc.GenManHeader{Section: "1", Date: &date, Source: "qkdmail", Manual: "qkdmail"}
	if err := doc.GenManTree(root, header, man); err != nil {
		return err
	}
	return writeCompletions(root, completions)
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
