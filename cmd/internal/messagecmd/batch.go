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

	"github.com/qkdmail/qkdmail/cmd/internal/terminal"
	"github.com/qkdmail/qkdmail/kmclient/durable"
	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// batch is what encrypt and decrypt have in common: inputs, outputs, progress
// and the summary.
type batch struct {
	output string // -o
	outDir string // --out-dir
	force  bool   // --force
	done   string // what was done to a message, for the summary
}

func (b *batch) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVarP(&b.output, "output", "o", "", "write to this file, - for standard output")
	f.StringVar(&b.outDir, "out-dir", "", "write one file for each input into this folder")
	f.BoolVar(&b.force, "force", false, "overwrite files")
}

// A job is one message.
type job struct {
	name   string // for error messages
	input  string // "-": standard input
	output string // "" or "-": standard output
	size   int64  // octets; 0 if unknown
}

// step does one message. It tells warn what the user should know.
type step func(ctx context.Context, in io.Reader, out *terminal.Output, warn func(text string)) error

// run does all messages that args name. One that fails does not keep the
// others from being done; the first failure gives the exit code.
func (b *batch) run(cmd *cobra.Command, args []string, do step) error {
	defer terminal.UntilHangUp(cmd)()
	jobs, err := b.jobs(args, terminal.Note(cmd))
	if err != nil {
		return err
	}
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
			_, hint := terminal.Explain(err)
			fmt.Fprintf(cmd.ErrOrStderr(), "qkdmail: %s\n", terminal.OneLine(err, hint))
		}
	}
	if bar != nil {
		_ = bar.Finish()
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "%s %d of %d messages, %d octets, in %.2f s\n",
		b.done, len(jobs)-failed, len(jobs), done, time.Since(start).Seconds())
	return first
}

// one does one message.
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
	if err := do(cmd.Context(), in, out, warn); err != nil {
		return fmt.Errorf("%s: %w", j.name, err)
	}
	return nil
}

// barWriter counts for a bar, whose own troubles are nobody's.
type barWriter struct{ bar *progressbar.ProgressBar }

func (w barWriter) Write(p []byte) (int, error) {
	_ = w.bar.Add(len(p))
	return len(p), nil
}

// jobs lists the messages that args name, and notes what it passes over.
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

// list returns the message that arg names, or the .eml files below it. Below a
// folder only regular files count, and links to them: a pipe there would keep
// the others waiting.
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
	// With the separator, arg is walked if it is a link to a folder.
	err = filepath.WalkDir(arg+string(filepath.Separator), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.EqualFold(filepath.Ext(path), ".eml") {
			if err == nil && d.IsDir() && b.isOutDir(path) {
				return filepath.SkipDir // what an earlier run has written
			}
			return err
		}
		var size int64
		if info, err := os.Stat(path); err == nil { // else it fails when it is opened
			if !info.Mode().IsRegular() {
				note("%s is passed over: it is no regular file", path)
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

// isOutDir reports whether a folder is the one that is written to.
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

// progress returns a bar for so many octets, nil where standard error is no
// terminal.
func progress(stderr io.Writer, total int64) *progressbar.ProgressBar {
	f, ok := stderr.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return nil
	}
	if total == 0 {
		total = -1 // not known
	}
	return progressbar.NewOptions64(total,
		progressbar.OptionSetWriter(stderr),
		progressbar.OptionShowBytes(true),
		progressbar.OptionThrottle(100*time.Millisecond),
		progressbar.OptionClearOnFinish(),
	)
}
