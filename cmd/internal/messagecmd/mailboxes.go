package messagecmd

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/qkdmail/qkdmail/cipher"
	"github.com/qkdmail/qkdmail/cmd/internal/mailbox"
	"github.com/qkdmail/qkdmail/cmd/internal/terminal"
	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
)

// A mailboxRun makes a copy of a mailbox in which each message is encrypted or decrypted.
type mailboxRun struct {
	*batch
	cmd *cobra.Command
	work
	step   step
	bar    *progressbar.ProgressBar
	start  time.Time
	before int   // messages that an earlier run has done
	done   int   // messages encrypted or decrypted, by this run and, in an mbox file, earlier ones
	plain  int   // ordinary messages that were passed on
	faulty int   // others that were passed on
	bytes  int64 // of the messages done
	code   int   // exit code of the first faulty one
	first  error // the first other failure
}

func (b *batch) mailboxRun(cmd *cobra.Command, w work) *mailboxRun {
	return &mailboxRun{batch: b, cmd: cmd, work: w, step: w.do(true), start: time.Now()}
}

// A copied message takes a message's content in the copy of a mailbox.
type copied interface {
	output
	PassOn(mailbox.Result) error // unchanged
}

// ordinary is the result of a message that is passed on because it is not encrypted. For
// others that are passed on, the result is the exit code.
const ordinary mailbox.Result = 1

// count counts a message.
func (r *mailboxRun) count(result mailbox.Result, size int64) {
	switch result {
	case 0:
		r.done++
		r.bytes += size
	case ordinary:
		r.plain++
	default:
		r.faulty++
		if r.code == 0 {
			r.code = int(result)
		}
	}
}

// message processes one message. An error means that the run can't go on.
func (r *mailboxRun) message(name string, size int64, in io.Reader, to copied) error {
	ctx := r.cmd.Context()
	if err := ctx.Err(); err != nil {
		return err
	}
	note := terminal.Note(r.cmd)
	if r.bar != nil {
		in = io.TeeReader(in, barWriter{r.bar})
	}
	out := &completion{output: to}
	err := r.step(ctx, in, out, func(text string) { note("warning: %s: %s", name, text) }, func(text string) { note("%s: %s", name, text) })
	switch {
	case out.complete: // something later failed, such as closing keys
		r.count(0, size)
		r.failed(name, err)
		return nil
	case ctx.Err() != nil || r.passOn == nil || !r.passOn(ctx, err):
		return fmt.Errorf("%s: %w", name, err)
	}
	note("%s is passed on unchanged: %s", name, terminal.OneLine(err, terminal.Advice(err)))
	result := ordinary
	if !errors.Is(err, cipher.ErrNotEncrypted) {
		code, _ := terminal.Explain(err)
		result = mailbox.Result(code)
	}
	if err := to.PassOn(result); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	r.count(result, size)
	return nil
}

// failed keeps the first failure for the end, and reports the others.
func (r *mailboxRun) failed(name string, err error) {
	switch {
	case err == nil:
	case r.first == nil:
		r.first = fmt.Errorf("%s: %w", name, err)
	default:
		terminal.Report(r.cmd.ErrOrStderr(), fmt.Errorf("%s: %w", name, err))
	}
}

// settleIn does what an earlier run may have left to do for a message.
func (r *mailboxRun) settleIn(name string, in io.Reader) {
	if r.settle != nil {
		r.failed(name, r.settle(r.cmd.Context(), in))
	}
}

// A completion knows whether its output was completed.
type completion struct {
	output
	complete bool
}

func (c *completion) Finish(sync bool) error {
	err := c.output.Finish(sync)
	c.complete = err == nil
	return err
}

// end prints how many of the messages were processed. It returns the error of the run.
func (r *mailboxRun) end(total int) error {
	if r.bar != nil {
		_ = r.bar.Finish()
	}
	var more string
	if r.plain+r.faulty > 0 {
		more = fmt.Sprintf(", passed on %d unchanged (%d of them ordinary mail)", r.plain+r.faulty, r.plain)
	}
	if r.before > 0 {
		more += fmt.Sprintf(", %d were done before", r.before)
	}
	fmt.Fprintf(r.cmd.ErrOrStderr(), "%s %d of %d messages%s, %d bytes, in %.2f s\n",
		r.batch.done, r.done, total, more, r.bytes, time.Since(r.start).Seconds())
	if r.first == nil && r.faulty > 0 {
		return terminal.Fail(r.code, "they are in the output unchanged", "encrypted messages that could not be decrypted: %d", r.faulty)
	}
	return r.first
}

// stopped returns the error of a run that can't go on, and says how to continue.
func (r *mailboxRun) stopped(err error) error {
	if n := r.done + r.plain + r.faulty + r.before; n > 0 {
		terminal.Note(r.cmd)("stopped after %d messages; the same command continues from there", n)
	}
	return err
}

// mailboxError adds what to do to an error of package mailbox.
func mailboxError(path string, err error) error {
	switch {
	case errors.Is(err, mailbox.ErrNotMbox):
		return terminal.Fail(terminal.ExitData, "for a file that is one message, leave --mbox out", "%s: %w", path, err)
	case errors.Is(err, mailbox.ErrBusy):
		return terminal.Fail(terminal.ExitTempFail, "wait for it", "%s: %w", path, err)
	case errors.Is(err, mailbox.ErrOtherJob):
		return terminal.Fail(terminal.ExitCantCreate, "name another output, or remove this one to start again", "%s: %w", path, err)
	case errors.Is(err, fs.ErrExist):
		return terminal.Fail(terminal.ExitCantCreate, "name another output", "%s exists", path)
	}
	return err
}

// runMbox processes an mbox file; the result goes to the file -o.
func (b *batch) runMbox(cmd *cobra.Command, args []string, w work) error {
	q, err := mailbox.ParseQuoting(b.mbox)
	switch {
	case err != nil:
		return terminal.Usage("--mbox: %w", err)
	case len(args) != 1 || args[0] == "-" || b.output == "" || b.output == "-":
		return terminal.Usage("--mbox takes one file, and writes the file that -o names")
	case b.outDir != "":
		return terminal.Usage("-o and --out-dir exclude each other")
	}
	info, err := os.Stat(args[0])
	if err != nil {
		return terminal.NoInput(err)
	}
	if !info.Mode().IsRegular() { // opening a pipe would block
		return terminal.Fail(terminal.ExitNoInput, "name a file", "%s is not a regular file", args[0])
	}
	in, err := os.Open(args[0])
	if err != nil {
		return terminal.NoInput(err)
	}
	defer func() { _ = in.Close() }()
	if out, err := os.Stat(b.output); err == nil && !out.Mode().IsRegular() {
		return terminal.Fail(terminal.ExitCantCreate, "name a file", "%s is not a regular file", b.output)
	}
	if err := terminal.CheckOwner(mailbox.Unfinished(b.output)); err != nil {
		return err
	}
	r := b.mailboxRun(cmd, w)
	before := int64(0)
	c, err := mailbox.OpenMbox(in, b.output, q, w.job, b.force, func(result mailbox.Result, size int64) {
		r.count(result, size)
		before += size
	})
	if err != nil {
		return mailboxError(b.output, err)
	}
	defer c.Close()
	if r.bar = progress(cmd.ErrOrStderr(), info.Size()); r.bar != nil {
		_ = r.bar.Add64(before)
	}
	if err := r.mboxMessages(args[0], c); err != nil {
		return r.stopped(mailboxError(args[0], err))
	}
	if err := c.Finish(b.force); err != nil {
		return mailboxError(b.output, err)
	}
	return r.end(r.done + r.plain + r.faulty)
}

// mboxMessages processes the messages that are not in the copy yet.
func (r *mailboxRun) mboxMessages(file string, c *mailbox.MboxCopy) error {
	n := r.done + r.plain + r.faulty
	if n > 0 {
		terminal.Note(r.cmd)("%d messages are done; continuing after them", n)
	}
	if last, err := c.Last(); err != nil {
		return err
	} else if last != nil {
		r.settleIn(file, last)
	}
	undated := false
	for {
		m, err := c.Next()
		if err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		n++
		name := fmt.Sprintf("%s: message %d at byte %d", file, n, m.Start)
		if !m.Dated && !undated {
			undated = true
			terminal.Note(r.cmd)("warning: %s: its \"From \" line has no time: if it is part of the previous message, start again with --mbox=none", name)
		}
		if err := r.message(name, m.Next-m.Start, m.In, m); err != nil {
			return err
		}
	}
}

// runMaildirs processes the Maildir folders with these names in a folder; the results go
// to --out-dir.
func (b *batch) runMaildirs(cmd *cobra.Command, root string, names []string, w work) error {
	if b.force {
		return terminal.Usage("--force is not for Maildir folders: name a new --out-dir")
	}
	c, err := mailbox.OpenMaildirs(b.outDir, w.job, names)
	if err != nil {
		return mailboxError(b.outDir, err)
	}
	defer c.Close()
	r := b.mailboxRun(cmd, w)
	var folders []*mailbox.MaildirFolder
	total, size := 0, int64(0)
	for _, name := range names {
		f, err := c.Folder(filepath.Join(root, name), name, func(path, why string) { r.failed(path, terminal.Fail(terminal.ExitNoInput, "", "%s", why)) })
		if err != nil {
			return mailboxError(b.outDir, err)
		}
		folders = append(folders, f)
		r.before += f.Made
		total += f.Made + len(f.Missing)
		for _, e := range f.Missing {
			size += e.Size
		}
	}
	r.bar = progress(cmd.ErrOrStderr(), size)
	for _, f := range folders {
		for _, e := range f.Missing {
			if err := r.maildirMessage(f, e); err != nil {
				return r.stopped(err)
			}
		}
		if err := f.Sync(); err != nil {
			return r.stopped(err)
		}
	}
	return r.end(total)
}

func (r *mailboxRun) maildirMessage(f *mailbox.MaildirFolder, e mailbox.MaildirEntry) error {
	m, err := f.Open(e)
	if errors.Is(err, fs.ErrNotExist) {
		r.failed(e.Path, terminal.Fail(terminal.ExitNoInput, "run this again", "it was moved or deleted"))
		return nil
	} else if err != nil {
		return err
	}
	defer m.Close()
	if m.Ready { // an earlier run ended before it was delivered
		r.count(0, e.Size)
		r.settleIn(e.Path, m.In)
	} else if err := r.message(e.Path, e.Size, m.In, m); err != nil {
		return err
	}
	return m.Deliver()
}

// digestOf returns a digest of some values.
func digestOf(values ...any) string {
	return fmt.Sprintf("%x", sha256.Sum256(fmt.Appendf(nil, "%q", values)))
}
