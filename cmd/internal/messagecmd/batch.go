package messagecmd

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/qkdmail/qkdmail/cmd/internal/flags"
	"github.com/qkdmail/qkdmail/cmd/internal/mailbox"
	"github.com/qkdmail/qkdmail/cmd/internal/terminal"
	"github.com/qkdmail/qkdmail/kmclient/durable"
	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// A batch is what "encrypt" and "decrypt" share: inputs, outputs, progress and a summary.
// A mailbox is processed message by message; any other file is one message.
type batch struct {
	output string // -o
	outDir string // --out-dir
	force  bool   // --force
	mbox   string // --mbox: the quoting of the mbox file; "": the input is not one
	done   string // "encrypted" or "decrypted", for the summary
}

func (b *batch) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVarP(&b.output, "output", "o", "", "write to this file, - for standard output")
	f.StringVar(&b.outDir, "out-dir", "", "write one file for each input into this folder")
	flags.OfferFiles(cmd, "output")
	flags.OfferFolders(cmd, "out-dir")
	f.BoolVar(&b.force, "force", false, "overwrite files")
	f.StringVar(&b.mbox, "mbox", "", "the input is an mbox file: process each message in it; rd, o or none says how lines that begin with \"From \" are quoted")
	f.Lookup("mbox").NoOptDefVal = string(mailbox.Rd)
	flags.OfferValues(cmd, "mbox", string(mailbox.Rd), string(mailbox.O), string(mailbox.None))
}

// A job is one message.
type job struct {
	name   string // for error messages
	input  string // "-": standard input
	output string // "" or "-": standard output
	size   int64  // in bytes; 0 if unknown
}

// An output takes the encrypted or decrypted message. With sync it is on disk when Finish
// returns.
type output interface {
	io.Writer
	Finish(sync bool) error
}

// A step encrypts or decrypts one message. It calls warn with what the user should know,
// and tell with what the user asked for.
type step func(ctx context.Context, in io.Reader, out output, warn, tell func(text string)) error

// A work is a step, and what mailboxes need besides. In a mailbox a message can be
// anything, even empty.
type work struct {
	do  func(mailbox bool) step
	job string // names all options that affect the output
	// passOn reports whether a message should be passed on unchanged after this error. An
	// error that would hit every message, of the key manager or the disk, ends the run.
	passOn func(context.Context, error) bool
	// settle does what may be left to do for a message whose output is complete.
	settle func(ctx context.Context, in io.Reader) error
}

// run processes all messages in args. After a failure it goes on with the others. The
// first failure decides the exit code.
func (b *batch) run(cmd *cobra.Command, args []string, w work) error {
	defer terminal.UntilHangUp(cmd)()
	if b.mbox != "" {
		return b.runMbox(cmd, args, w)
	}
	if names, err := b.maildirs(args); err != nil {
		return err
	} else if len(names) > 0 {
		return b.runMaildirs(cmd, args[0], names, w)
	}
	jobs, err := b.jobs(args, terminal.Note(cmd))
	if err != nil {
		return err
	}
	do := w.do(false)
	if b.outDir == "" {
		return b.one(cmd, jobs[0], nil, do)
	}
	var total, done int64
	for _, j := range jobs {
		total += j.size
	}
	bar := progress(cmd.ErrOrStderr(), total)
	start := time.Now()
	var first error
	failed := 0
	for _, j := range jobs {
		err := b.one(cmd, j, bar, do)
		if err == nil {
			done += j.size
			continue
		}
		if cmd.Context().Err() != nil {
			return err
		}
		failed++
		if first == nil {
			first = err
		} else {
			terminal.Report(cmd.ErrOrStderr(), err)
		}
	}
	if bar != nil {
		_ = bar.Finish()
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "%s %d of %d messages, %d bytes, in %.2f s\n",
		b.done, len(jobs)-failed, len(jobs), done, time.Since(start).Seconds())
	return first
}

// one processes one message.
func (b *batch) one(cmd *cobra.Command, j job, bar *progressbar.ProgressBar, do step) error {
	in, closeInput, err := terminal.OpenInput(cmd.Context(), j.input)
	if err != nil {
		return err
	}
	defer closeInput()
	if bar != nil {
		in = io.TeeReader(in, barWriter{bar})
	}
	out, err := terminal.CreateOutput(cmd, j.output, b.force)
	if err != nil {
		return err
	}
	defer out.Discard()
	warn := func(text string) { terminal.Note(cmd)("warning: %s: %s", j.name, text) }
	tell := func(text string) { terminal.Note(cmd)("%s: %s", j.name, text) }
	if err := do(cmd.Context(), in, out, warn, tell); err != nil {
		return fmt.Errorf("%s: %w", j.name, err)
	}
	return nil
}

// A barWriter counts bytes for a progress bar, and ignores the bar's errors.
type barWriter struct{ bar *progressbar.ProgressBar }

func (w barWriter) Write(p []byte) (int, error) {
	_ = w.bar.Add(len(p))
	return len(p), nil
}

// maildirs returns the Maildir folders in the folder that args name, if there are any.
// One run can't do both Maildir folders and folders of .eml files.
func (b *batch) maildirs(args []string) (names []string, err error) {
	for _, arg := range args {
		if info, err := os.Stat(arg); b.outDir == "" || err != nil || !info.IsDir() {
			continue
		}
		more, others, err := mailbox.Maildirs(arg, b.isOutDir)
		if err != nil {
			return nil, terminal.NoInput(err)
		}
		if len(more) > 0 && others > 0 {
			return nil, terminal.Usage("%s has Maildir folders and other .eml files: do them in separate runs", arg)
		}
		names = append(names, more...)
		if len(more) > 0 && (len(args) > 1 || b.isOutDir(arg)) {
			return nil, terminal.Usage("%s has Maildir folders: name nothing else, and give another folder with --out-dir", arg)
		}
	}
	if len(names) > 0 && b.output != "" {
		return nil, terminal.Usage("-o and --out-dir exclude each other")
	}
	return names, nil
}

// jobs returns the messages that args name. It calls note with what it skips.
func (b *batch) jobs(args []string, note func(string, ...any)) ([]job, error) {
	if len(args) == 0 {
		args = []string{"-"}
	}
	if b.outDir == "" {
		if len(args) > 1 {
			return nil, terminal.Usage("several inputs need --out-dir")
		}
		j := job{name: terminal.InputName(args[0]), input: args[0], output: b.output}
		if info, err := os.Stat(args[0]); err == nil && args[0] != "-" && info.IsDir() {
			return nil, terminal.Usage("%s is a folder, which needs --out-dir", args[0])
		}
		return []job{j}, nil
	}
	if b.output != "" {
		return nil, terminal.Usage("-o and --out-dir exclude each other")
	}
	if err := durable.MakeFolder(b.outDir); err != nil {
		return nil, terminal.CantCreate(err)
	}
	var jobs []job
	for _, arg := range args {
		more, err := b.list(arg, note)
		if err != nil {
			return nil, err
		}
		jobs = append(jobs, more...)
	}
	return jobs, checkOutputs(jobs)
}

// list returns the message that arg names, or the .eml files in the folder that arg
// names. In a folder it takes only regular files and links to them: a pipe could block
// the others.
func (b *batch) list(arg string, note func(string, ...any)) ([]job, error) {
	if arg == "-" {
		return nil, terminal.Usage("standard input has no name: --out-dir needs files")
	}
	info, err := os.Stat(arg)
	if err != nil {
		return nil, terminal.NoInput(err)
	}
	if !info.IsDir() {
		return []job{{name: arg, input: arg, output: filepath.Join(b.outDir, filepath.Base(arg)), size: info.Size()}}, nil
	}
	var jobs []job
	// The separator makes WalkDir follow arg if it is a link to a folder.
	err = filepath.WalkDir(arg+string(filepath.Separator), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.EqualFold(filepath.Ext(path), ".eml") {
			if err == nil && d.IsDir() && b.isOutDir(path) {
				return filepath.SkipDir // the output of an earlier run
			}
			return err
		}
		var size int64
		if info, err := os.Stat(path); err == nil { // otherwise opening it will fail
			if !info.Mode().IsRegular() {
				note("%s is skipped: it is not a regular file", path)
				return nil
			}
			size = info.Size()
		}
		rel, err := filepath.Rel(arg, path)
		if err != nil {
			return err
		}
		out := filepath.Join(b.outDir, rel)
		jobs = append(jobs, job{name: path, input: path, output: out, size: size})
		return durable.MakeFolder(filepath.Dir(out))
	})
	if err != nil {
		return nil, terminal.NoInput(err)
	}
	if len(jobs) == 0 {
		return nil, terminal.Fail(terminal.ExitNoInput, "name the files themselves", "no .eml file in %s", arg)
	}
	return jobs, nil
}

// isOutDir reports whether a folder is --out-dir.
func (b *batch) isOutDir(path string) bool {
	a, err := os.Stat(path)
	if err != nil {
		return false
	}
	o, err := os.Stat(b.outDir)
	return err == nil && os.SameFile(a, o)
}

// checkOutputs refuses two inputs with the same output.
func checkOutputs(jobs []job) error {
	seen := map[string]string{}
	for _, j := range jobs {
		if other, ok := seen[j.output]; ok {
			return terminal.Usage("%s and %s would both be written to %s", other, j.input, j.output)
		}
		seen[j.output] = j.input
	}
	return nil
}

// progress returns a bar for total bytes, or nil if standard error is not a terminal.
func progress(stderr io.Writer, total int64) *progressbar.ProgressBar {
	f, ok := stderr.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return nil
	}
	if total == 0 {
		total = -1 // unknown
	}
	return progressbar.NewOptions64(total,
		progressbar.OptionSetWriter(stderr),
		progressbar.OptionShowBytes(true),
		progressbar.OptionThrottle(100*time.Millisecond),
		progressbar.OptionClearOnFinish(),
	)
}
