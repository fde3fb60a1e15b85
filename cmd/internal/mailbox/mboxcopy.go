package mailbox

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// An MboxCopy is an mbox file that is made from another, message by message. Until it is
// complete it is in the folder PATH.unfinished, and opening it again continues where it
// ended. Only one process at a time can open it.
type MboxCopy struct {
	path string
	dir  string // PATH.unfinished
	q    Quoting
	in   *os.File
	size int64 // of in, in bytes
	was  job

	out      *os.File
	at       int64 // end of the last message in out
	journal  *journal
	scan     *Scanner
	last     int64 // offset in in of the last message that was in the copy when it was opened
	done     int64 // and its end
	result   Result
	finished bool
}

// OpenMbox begins or resumes the copy of in at path. The name stands for the caller's
// options: a copy that was begun under another name is not resumed. each is called with
// the Result of every message already in the copy, and its size in the original.
//
// If path exists the error is an fs.ErrExist, unless force is set. Then Finish replaces
// it.
func OpenMbox(in *os.File, path string, q Quoting, name string, force bool, each func(r Result, size int64)) (*MboxCopy, error) {
	info, err := in.Stat()
	if err != nil {
		return nil, err
	}
	c := &MboxCopy{path: path, dir: Unfinished(path), q: q, in: in, size: info.Size()}
	c.was = job{Name: name, Size: info.Size(), Modified: info.ModTime()}
	if _, err := os.Stat(c.dir); err != nil { // nothing to resume
		if _, err := os.Lstat(path); err == nil && !force {
			return nil, &fs.PathError{Op: "create", Path: path, Err: fs.ErrExist}
		}
	}
	if err := privateFolder(c.dir); err != nil {
		return nil, err
	}
	if err := c.open(each); err != nil {
		c.Close()
		return nil, err
	}
	if _, err := os.Lstat(path); err == nil && !force && !c.finished {
		c.Close()
		return nil, &fs.PathError{Op: "create", Path: path, Err: fs.ErrExist}
	}
	return c, nil
}

// Unfinished returns the folder of a copy that is not complete.
func Unfinished(path string) string { return path + ".unfinished" }

func (c *MboxCopy) part() string { return filepath.Join(c.dir, "mbox") }

func (c *MboxCopy) open(each func(Result, int64)) (err error) {
	// If the copy has its name already, there may be no such file.
	if c.out, err = os.OpenFile(c.part(), os.O_RDWR, 0); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	c.journal, err = openJournal(filepath.Join(c.dir, "journal"), c.was, c.out, func(r record) {
		if r.Finished {
			c.finished = true
			return
		}
		c.last, c.done, c.at, c.result = c.done, r.In, r.Out, r.Result
		each(r.Result, r.In-c.last)
	})
	if err != nil {
		return err
	}
	c.scan = NewScanner(c.in, c.done, c.q)
	if c.out == nil && !c.finished {
		c.out, err = os.OpenFile(c.part(), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	}
	if err != nil || c.finished {
		return err
	}
	return errors.Join(c.out.Truncate(c.at), sync(c.dir))
}

// Last returns the last message that was in the copy when it was opened, as it is in the
// original. It returns nil if there was none, or if its Result was not zero.
func (c *MboxCopy) Last() (io.Reader, error) {
	if c.done == 0 || c.result != 0 {
		return nil, nil
	}
	m, err := NewScanner(c.in, c.last, c.q).Next()
	return c.q.Unquote(c.section(m.Body, m.End)), err
}

func (c *MboxCopy) section(from, to int64) io.Reader { return io.NewSectionReader(c.in, from, to-from) }

// Next returns the next message of the original, or io.EOF.
func (c *MboxCopy) Next() (*MboxMessage, error) {
	if c.finished {
		return nil, io.EOF
	}
	m, err := c.scan.Next()
	if err != nil {
		return nil, err
	}
	w := &MboxMessage{Message: m, c: c}
	w.In = c.q.Unquote(c.section(m.Body, m.End))
	return w, w.restart()
}

// Finish gives the complete copy its name. All of it is then on disk.
func (c *MboxCopy) Finish(force bool) error {
	if !c.finished {
		if info, err := c.in.Stat(); err != nil || info.Size() != c.was.Size || !info.ModTime().Equal(c.was.Modified) {
			return errors.Join(err, ErrOtherJob)
		}
		if err := errors.Join(c.out.Sync(), c.journal.append(record{Finished: true}, true)); err != nil {
			return err
		}
	}
	if err := c.publish(force); err != nil {
		return err
	}
	if err := sync(filepath.Dir(c.path)); err != nil {
		return err
	}
	c.finished = true
	return c.remove()
}

// remove removes what is not needed once the copy has its name, or if it has no message.
// The journal goes last: without it the copy would start again.
func (c *MboxCopy) remove() error {
	for _, name := range []string{c.part(), c.journal.name, c.dir} {
		if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// publish renames the copy, unless that has been done.
func (c *MboxCopy) publish(force bool) error {
	part, err := os.Stat(c.part())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	there, err := os.Lstat(c.path)
	switch {
	case err == nil && os.SameFile(there, part):
		return nil
	case force:
		return os.Rename(c.part(), c.path)
	}
	err = os.Link(c.part(), c.path)
	if err == nil || errors.Is(err, fs.ErrExist) {
		return err
	}
	// The file system has no hard links.
	if _, err := os.Lstat(c.path); err == nil {
		return &fs.PathError{Op: "create", Path: c.path, Err: fs.ErrExist}
	}
	return os.Rename(c.part(), c.path)
}

// Close releases the copy. An unfinished one stays, to be resumed.
func (c *MboxCopy) Close() {
	if c.out != nil {
		_ = c.out.Close() // Finish has synced what matters
	}
	if c.journal == nil {
		return
	}
	if c.at == 0 && !c.finished {
		_ = c.remove() // best effort: it does no harm
	}
	_ = c.journal.close()
}

// An MboxMessage is a message of the original, and takes its content for the copy.
type MboxMessage struct {
	Message
	In io.Reader // the message, without the quoting of the file

	c      *MboxCopy
	quoted io.WriteCloser
	buf    *bufio.Writer
	sum    hash.Hash
	n      int64 // bytes written to the copy
	tail   byte  // the last byte of the message; a line end if it is empty
}

// restart begins the message in the copy again, after its From_ line.
func (w *MboxMessage) restart() error {
	if err := w.c.out.Truncate(w.c.at); err != nil {
		return err
	}
	if _, err := w.c.out.Seek(w.c.at, io.SeekStart); err != nil {
		return err
	}
	w.sum, w.n, w.tail = sha256.New(), 0, '\n'
	w.buf = bufio.NewWriterSize(mboxFile{w}, 64<<10)
	w.quoted = w.c.q.Quote(w.buf)
	_, err := io.Copy(w.buf, w.c.section(w.Start, w.Body))
	return err
}

// An mboxFile writes to a message's copy.
type mboxFile struct{ w *MboxMessage }

func (f mboxFile) Write(p []byte) (int, error) {
	n, err := f.w.c.out.Write(p)
	f.w.sum.Write(p[:n])
	f.w.n += int64(n)
	return n, err
}

// Write adds to the message in the copy.
func (w *MboxMessage) Write(p []byte) (int, error) {
	if len(p) > 0 {
		w.tail = p[len(p)-1]
	}
	return w.quoted.Write(p)
}

// Finish completes the message. With sync it is on disk when Finish returns.
func (w *MboxMessage) Finish(sync bool) error {
	if err := w.quoted.Close(); err != nil {
		return err
	}
	// Only the last message of a file may lack a line end.
	if last := w.Next == w.c.size && w.Next == w.End; w.tail != '\n' && !last {
		if err := w.buf.WriteByte('\n'); err != nil {
			return err
		}
	}
	if _, err := io.Copy(w.buf, w.c.section(w.End, w.Next)); err != nil {
		return err
	}
	return w.end(sync, 0)
}

// PassOn puts the message into the copy unchanged, in place of what was written.
func (w *MboxMessage) PassOn(r Result) error {
	if err := w.restart(); err != nil {
		return err
	}
	if _, err := io.Copy(w.buf, w.c.section(w.Body, w.Next)); err != nil {
		return err
	}
	return w.end(false, r)
}

func (w *MboxMessage) end(sync bool, r Result) error {
	if err := w.buf.Flush(); err != nil {
		return err
	}
	if sync {
		if err := w.c.out.Sync(); err != nil {
			return err
		}
	}
	end := w.c.at + w.n
	err := w.c.journal.append(record{In: w.Next, Out: end, SHA256: hex.EncodeToString(w.sum.Sum(nil)), Result: r}, sync)
	if err == nil {
		w.c.at = end
	}
	return err
}
