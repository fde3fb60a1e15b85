package mailbox

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/gofrs/flock"
	"github.com/qkdmail/qkdmail/kmclient/durable"
)

// A MaildirCopy is a folder with copies of Maildir folders. A message gets its name in
// new or cur once it is complete and on disk, so that another run can add those that
// are missing. Only one process at a time can open it.
type MaildirCopy struct {
	dir  string
	lock *flock.Flock
}

// mark is the file that marks a copy and records the options that its messages were
// made with.
const mark = ".qkdmail-copy"

// unfinished is the message in tmp that is being written.
const unfinished = ".unfinished"

// OpenMaildirs opens the copy of folders in the folder dir, or begins one. The name
// stands for the caller's options: a copy that was begun under another name is an
// ErrOtherJob. If there are messages in one of the folders, and no copy was begun, the
// error is an fs.ErrExist.
func OpenMaildirs(dir, name string, folders []string) (*MaildirCopy, error) {
	if err := durable.MakeFolder(dir); err != nil {
		return nil, err
	}
	path := filepath.Join(dir, mark)
	lock := flock.New(path, flock.SetPermissions(0o600))
	if err := tryLock(lock); err != nil {
		return nil, err
	}
	c := &MaildirCopy{dir: dir, lock: lock}
	if err := c.identify(path, job{Name: name}, folders); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

func (c *MaildirCopy) identify(path string, want job, folders []string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var have job
	if json.Unmarshal(text, &have) == nil {
		if have.Name != want.Name {
			return ErrOtherJob
		}
		return nil
	}
	for _, name := range folders {
		for _, sub := range []string{subNew, subCur} {
			dir := filepath.Join(c.dir, name, sub)
			if found, err := uniques(dir); len(found) > 0 || err != nil && !errors.Is(err, fs.ErrNotExist) {
				return errors.Join(err, &fs.PathError{Op: "create", Path: dir, Err: fs.ErrExist})
			}
		}
	}
	if text, err = json.Marshal(want); err != nil {
		return err
	}
	if err := os.WriteFile(path, append(text, '\n'), 0o600); err != nil {
		return err
	}
	return sync(path, c.dir)
}

// Close releases the copy.
func (c *MaildirCopy) Close() { _ = c.lock.Close() }

// A MaildirFolder is one of the folders that are copied.
type MaildirFolder struct {
	Missing []MaildirEntry // those not in the copy
	Made    int            // how many messages are in it
	dir     string         // of the copy
	ready   map[string]string
}

// Folder returns the Maildir folder at dir, whose copy has this name, and makes the
// folder for the copy. It calls skipped for files that are not messages.
func (c *MaildirCopy) Folder(dir, name string, skipped func(path, why string)) (*MaildirFolder, error) {
	f := &MaildirFolder{dir: filepath.Join(c.dir, name)}
	for _, sub := range []string{subNew, subCur, subTmp} {
		if err := durable.MakeFolder(filepath.Join(f.dir, sub)); err != nil {
			return nil, err
		}
	}
	if _, err := os.Stat(filepath.Join(dir, maildirMark)); err == nil {
		if err := os.WriteFile(filepath.Join(f.dir, maildirMark), nil, 0o600); err != nil {
			return nil, err
		}
	}
	inNew, err := uniques(filepath.Join(f.dir, subNew))
	if err != nil {
		return nil, err
	}
	inCur, err := uniques(filepath.Join(f.dir, subCur))
	if err != nil {
		return nil, err
	}
	if f.ready, err = uniques(filepath.Join(f.dir, subTmp)); err != nil {
		return nil, err
	}
	all, err := list(dir, skipped)
	for _, e := range all {
		if inNew[e.id] != "" || inCur[e.id] != "" {
			f.Made++
		} else {
			f.Missing = append(f.Missing, e)
		}
	}
	return f, err
}

// Sync waits until the names of all messages are on disk.
func (f *MaildirFolder) Sync() error {
	return sync(filepath.Join(f.dir, subNew), filepath.Join(f.dir, subCur), filepath.Join(f.dir, subTmp))
}

// A MaildirMessage is a message of the original, and takes its content for the copy.
type MaildirMessage struct {
	In    *os.File
	Ready bool // it was completed earlier, and only Deliver is left to do

	entry   MaildirEntry
	folder  *MaildirFolder
	out     *os.File
	buf     *bufio.Writer
	n       int64
	bare    int64 // lines that end with LF alone
	before  byte
	pending string // name in tmp of the complete message
}

// Open opens a missing message. Only one is open at a time.
func (f *MaildirFolder) Open(e MaildirEntry) (*MaildirMessage, error) {
	in, err := os.Open(e.Path)
	if err != nil {
		return nil, err
	}
	w := &MaildirMessage{In: in, entry: e, folder: f, pending: f.ready[e.id]}
	if w.Ready = w.pending != ""; w.Ready {
		return w, nil
	}
	name := w.path(subTmp, unfinished)
	if err = os.Remove(name); err == nil || errors.Is(err, fs.ErrNotExist) {
		w.out, err = os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	}
	if err != nil {
		return nil, errors.Join(err, in.Close())
	}
	w.buf = bufio.NewWriterSize(w.out, 64<<10)
	return w, nil
}

func (w *MaildirMessage) path(sub, name string) string { return filepath.Join(w.folder.dir, sub, name) }

// Write adds to the message in the copy.
func (w *MaildirMessage) Write(p []byte) (int, error) {
	for _, b := range p {
		if b == '\n' && w.before != '\r' {
			w.bare++
		}
		w.before = b
	}
	w.n += int64(len(p))
	return w.buf.Write(p)
}

// Finish completes the message, and puts it on disk. With sync its name in tmp is on
// disk as well, and Deliver gives it its name in new or cur.
func (w *MaildirMessage) Finish(sync bool) error {
	if err := w.complete(); err != nil {
		return err
	}
	name := sized(filepath.Base(w.entry.Path), w.n, w.n+w.bare)
	if !sync {
		return os.Rename(w.path(subTmp, unfinished), w.path(w.entry.sub, name))
	}
	w.pending = name
	if err := os.Rename(w.path(subTmp, unfinished), w.path(subTmp, name)); err != nil {
		return err
	}
	return durable.Sync(w.path(subTmp, ""))
}

func (w *MaildirMessage) complete() error {
	if err := w.buf.Flush(); err != nil {
		return err
	}
	info, err := w.In.Stat()
	if err == nil { // mail programs take it for the time of arrival
		err = os.Chtimes(w.out.Name(), info.ModTime(), info.ModTime())
	}
	return errors.Join(err, w.out.Sync(), w.out.Close())
}

// PassOn puts the message into the copy unchanged, in place of what was written. The
// Result is not kept.
func (w *MaildirMessage) PassOn(Result) error {
	w.buf.Reset(w.out)
	w.n, w.bare, w.before = 0, 0, 0
	if _, err := w.In.Seek(0, io.SeekStart); err != nil {
		return err
	}
	if _, err := w.out.Seek(0, io.SeekStart); err != nil {
		return err
	}
	if err := w.out.Truncate(0); err != nil {
		return err
	}
	if _, err := io.Copy(struct{ io.Writer }{w}, w.In); err != nil {
		return err
	}
	return w.Finish(false)
}

// Deliver gives the complete message its name in new or cur, unless it has one.
func (w *MaildirMessage) Deliver() error {
	if w.pending == "" {
		return nil
	}
	return os.Rename(w.path(subTmp, w.pending), w.path(w.entry.sub, w.pending))
}

// Close closes the original. A message that is not complete is not kept.
func (w *MaildirMessage) Close() {
	_ = w.In.Close()
	if w.out != nil {
		_ = w.out.Close() // Finish has closed it, or it is not complete
		_ = os.Remove(w.path(subTmp, unfinished))
	}
}
