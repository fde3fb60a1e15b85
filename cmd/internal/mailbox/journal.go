package mailbox

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/gofrs/flock"
	"github.com/qkdmail/qkdmail/kmclient/durable"
)

// What can be wrong with a copy that was begun earlier.
var (
	// ErrBusy means that another process makes this copy.
	ErrBusy = errors.New("another process writes it")
	// ErrOtherJob means that the existing copy was made with other options, or from an
	// mbox file that has changed since.
	ErrOtherJob = errors.New("it was begun with other options, or the original has changed since")
)

// A Result says what became of a message. Zero is good; the caller defines the others.
type Result int

// A job is the first line of a journal.
type job struct {
	Name     string    `json:"job"`
	Size     int64     `json:"size"` // of the original, in bytes
	Modified time.Time `json:"modified"`
}

// A record is a line of a journal: one message is in the copy. After a loss of power the
// record may be on disk and the message not; the digest shows that.
type record struct {
	In       int64  `json:"in,omitempty"`  // end of the message in the original, in bytes
	Out      int64  `json:"out,omitempty"` // its end in the copy
	SHA256   string `json:"sha256,omitempty"`
	Result   Result `json:"result,omitempty"`
	Finished bool   `json:"finished,omitempty"` // all messages are in the copy
}

// A journal says how far a copy has got. It outlives the process, which may end at any
// point.
type journal struct {
	file *os.File
	lock *flock.Flock
	name string
}

// tryLock locks a file that only one process may have.
func tryLock(lock *flock.Flock) error {
	ok, err := lock.TryLock()
	if err == nil && !ok {
		err = ErrBusy
	}
	if err != nil {
		return errors.Join(err, lock.Close())
	}
	return nil
}

// openJournal opens the journal of a job, and locks it. It calls each with the records
// that still agree with copied, and forgets the others. copied is nil if there is no
// file.
func openJournal(name string, j job, copied *os.File, each func(record)) (*journal, error) {
	lock := flock.New(name, flock.SetPermissions(0o600))
	if err := tryLock(lock); err != nil {
		return nil, err
	}
	file, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	l := &journal{file: file, lock: lock, name: name}
	if err := l.replay(j, copied, each); err != nil {
		return nil, errors.Join(err, l.close())
	}
	return l, nil
}

func (l *journal) replay(want job, copied *os.File, each func(record)) error {
	var have job
	d := json.NewDecoder(l.file)
	if d.Decode(&have) != nil { // no whole line: nothing has been done
		return l.begin(want)
	}
	if have.Name != want.Name || have.Size != want.Size || !have.Modified.Equal(want.Modified) {
		return ErrOtherJob
	}
	good, out := d.InputOffset(), int64(0)
	for {
		var r record
		if d.Decode(&r) != nil {
			break
		}
		if copied == nil && !r.Finished {
			continue // whether the copy has its name already decides that
		}
		if !r.Finished && !r.isOf(copied, out) {
			break
		}
		good = d.InputOffset()
		each(r)
		if r.Finished {
			break
		}
		out = r.Out
	}
	if err := l.file.Truncate(good); err != nil {
		return err
	}
	_, err := l.file.Seek(good, io.SeekStart)
	if err == nil {
		_, err = io.WriteString(l.file, "\n") // the decoder stops before it
	}
	return err
}

// begin writes the first line.
func (l *journal) begin(j job) error {
	if err := l.file.Truncate(0); err != nil {
		return err
	}
	if _, err := l.file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	return l.append(j, true)
}

// isOf reports whether the copy has the message of the record, after the offset before.
func (r record) isOf(copied io.ReaderAt, before int64) bool {
	if r.Out < before {
		return false
	}
	sum := sha256.New()
	n, err := io.Copy(sum, bufio.NewReaderSize(io.NewSectionReader(copied, before, r.Out-before), 64<<10))
	return err == nil && n == r.Out-before && hex.EncodeToString(sum.Sum(nil)) == r.SHA256
}

// append adds a line. With sync it is on disk when append returns.
func (l *journal) append(line any, sync bool) error {
	text, err := json.Marshal(line)
	if err == nil {
		_, err = l.file.Write(append(text, '\n'))
	}
	if err == nil && sync {
		err = l.file.Sync()
	}
	return err
}

func (l *journal) close() error { return errors.Join(l.file.Close(), l.lock.Close()) }

// privateFolder makes a folder that only its owner can look into, or uses an existing
// one.
func privateFolder(dir string) error {
	err := os.Mkdir(dir, 0o700)
	if err == nil || !errors.Is(err, fs.ErrExist) {
		return err
	}
	info, err := os.Lstat(dir)
	if err == nil && (!info.IsDir() || info.Mode().Perm()&0o077 != 0) {
		err = fmt.Errorf("%s is not a folder that only its owner can open: remove it", dir)
	}
	return err
}

// sync waits until the names in some folders are on disk.
func sync(dirs ...string) error {
	for _, dir := range dirs {
		if err := durable.Sync(dir); err != nil {
			return err
		}
	}
	return nil
}
