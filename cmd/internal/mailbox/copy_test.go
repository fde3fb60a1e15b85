package mailbox_test

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/qkdmail/qkdmail/cmd/internal/mailbox"
)

const three = first + "A: 1\n\na\n\n" + second + ">From b\n\n" + first + "c"

// A bench has an mbox file, and a path for its copy.
type bench struct {
	*testing.T
	in   string
	path string
	made []string // messages that were copied
}

func newBench(t *testing.T, file string) *bench {
	t.Helper()
	dir := t.TempDir()
	b := &bench{T: t, in: filepath.Join(dir, "in.mbox"), path: filepath.Join(dir, "out.mbox")}
	b.write(b.in, file)
	return b
}

func (b *bench) write(path, text string) {
	b.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		b.Fatal(err)
	}
}

func (b *bench) read(path string) string {
	b.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		b.Fatal(err)
	}
	return string(text)
}

// open opens the copy. before are the results of the messages already in it.
func (b *bench) open(name string, force bool) (c *mailbox.MboxCopy, before []mailbox.Result, err error) {
	b.Helper()
	in, err := os.Open(b.in)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = in.Close() })
	c, err = mailbox.OpenMbox(in, b.path, mailbox.Rd, name, force, func(r mailbox.Result, _ int64) { before = append(before, r) })
	return c, before, err
}

// copy copies n messages, turning them into lower case.
func (b *bench) copy(c *mailbox.MboxCopy, n int) {
	b.Helper()
	for range n {
		m, err := c.Next()
		if err != nil {
			b.Fatal(err)
		}
		text, err := io.ReadAll(m.In)
		if err != nil {
			b.Fatal(err)
		}
		b.made = append(b.made, string(text))
		if _, err := m.Write(bytes.ToLower(text)); err != nil {
			b.Fatal(err)
		}
		if err := m.Finish(false); err != nil {
			b.Fatal(err)
		}
	}
}

// finish opens the copy, adds the missing messages and finishes it.
func (b *bench) finish(force bool) (before []mailbox.Result) {
	b.Helper()
	c, before, err := b.open("x", force)
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	for len(before)+len(b.made) < 3 {
		b.copy(c, 1)
	}
	if _, err := c.Next(); err != io.EOF {
		b.Errorf("after the last message: %v", err)
	}
	if err := c.Finish(force); err != nil {
		b.Fatal(err)
	}
	if got, want := b.read(b.path), strings.ReplaceAll(strings.ReplaceAll(three, "A: 1", "a: 1"), ">From b", "from b"); got != want {
		b.Errorf("the copy is %q, want %q", got, want)
	}
	if _, err := os.Stat(mailbox.Unfinished(b.path)); !errors.Is(err, fs.ErrNotExist) {
		b.Errorf("the unfinished copy is still there: %v", err)
	}
	return before
}

// A copy continues after its last complete message, whatever was cut short or did not
// reach the disk.
func TestMboxResume(t *testing.T) {
	for _, tt := range []struct {
		name   string
		spoil  func(b *bench, mbox, journal string)
		before int // how many of the two messages are taken as done
	}{
		{"killed between messages", func(*bench, string, string) {}, 2},
		{"killed within a message", func(b *bench, mbox, _ string) { b.write(mbox, b.read(mbox)+"From x\nhalf") }, 2},
		{"record cut short", func(b *bench, _, journal string) { b.write(journal, strings.TrimSuffix(b.read(journal), "\"}\n")) }, 1},
		{"records lost", func(b *bench, _, journal string) {
			b.write(journal, strings.SplitAfter(b.read(journal), "\n")[0])
		}, 0},
		{"journal lost", func(b *bench, _, journal string) { b.write(journal, "") }, 0},
		{"journal full of zeros", func(b *bench, _, journal string) {
			b.write(journal, strings.Repeat("\x00", len(b.read(journal))))
		}, 0},
		{"end of the copy lost", func(b *bench, mbox, _ string) { b.write(mbox, b.read(mbox)[:len(b.read(mbox))-1]) }, 1},
		{"zeros in the copy", func(b *bench, mbox, _ string) {
			b.write(mbox, strings.Repeat("\x00", 9)+b.read(mbox)[9:])
		}, 0},
		{"the copy lost", func(b *bench, mbox, _ string) {
			if err := os.Remove(mbox); err != nil {
				b.Fatal(err)
			}
		}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench(t, three)
			c, _, err := b.open("x", false)
			if err != nil {
				t.Fatal(err)
			}
			b.copy(c, 2)
			c.Close()
			dir := mailbox.Unfinished(b.path)
			tt.spoil(b, filepath.Join(dir, "mbox"), filepath.Join(dir, "journal"))
			b.made = nil
			if before := b.finish(false); len(before) != tt.before {
				t.Errorf("%d messages are taken as done, want %d", len(before), tt.before)
			}
			if len(b.made) != 3-tt.before {
				t.Errorf("made after that: %q", b.made)
			}
		})
	}
}

// A complete copy gets its name, wherever that was interrupted.
func TestMboxPublish(t *testing.T) {
	for _, tt := range []struct {
		name  string
		force bool
		then  func(path, mbox string) error
	}{
		{"not named yet", false, func(string, string) error { return nil }},
		{"linked", false, func(path, mbox string) error { return os.Link(mbox, path) }},
		{"renamed", false, func(path, mbox string) error { return os.Rename(mbox, path) }},
		{"renamed over another", true, func(path, mbox string) error { return os.Rename(mbox, path) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench(t, three)
			c, _, err := b.open("x", tt.force)
			if err != nil {
				t.Fatal(err)
			}
			b.copy(c, 3)
			// A folder in its place stops Finish after everything is on disk.
			if err := os.MkdirAll(filepath.Join(b.path, "x"), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := c.Finish(tt.force); err == nil {
				t.Fatal("a folder was replaced")
			}
			c.Close()
			if err := os.RemoveAll(b.path); err != nil {
				t.Fatal(err)
			}
			if err := tt.then(b.path, filepath.Join(mailbox.Unfinished(b.path), "mbox")); err != nil {
				t.Fatal(err)
			}
			b.finish(tt.force)
			if len(b.made) != 3 {
				t.Errorf("made: %q, want each once", b.made)
			}
		})
	}
}

// A message that is passed on is unchanged and replaces what was written; its result
// is kept.
func TestMboxPassOn(t *testing.T) {
	b := newBench(t, three)
	c, _, err := b.open("x", false)
	if err != nil {
		t.Fatal(err)
	}
	for i, result := range []mailbox.Result{1, 65, 77} {
		m, err := c.Next()
		if err == nil {
			_, err = m.Write(bytes.Repeat([]byte("x"), 100<<10))
		}
		if err == nil {
			err = m.PassOn(result)
		}
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
		var before []mailbox.Result
		if c, before, err = b.open("x", false); err != nil {
			t.Fatal(err)
		}
		if len(before) != i+1 || before[i] != result {
			t.Errorf("after the message %d: results %v", i+1, before)
		}
		if last, err := c.Last(); err != nil || last != nil {
			t.Errorf("there is something left to do for a message that was passed on: %v, %v", last, err)
		}
	}
	defer c.Close()
	if err := c.Finish(false); err != nil {
		t.Fatal(err)
	}
	if got := b.read(b.path); got != three {
		t.Errorf("the copy is %q", got)
	}
}

// Last returns the message that was done last, without the quoting.
func TestMboxLast(t *testing.T) {
	b := newBench(t, three)
	c, _, err := b.open("x", false)
	if err != nil {
		t.Fatal(err)
	}
	b.copy(c, 2)
	c.Close()
	if c, _, err = b.open("x", false); err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	last, err := c.Last()
	if err != nil || last == nil {
		t.Fatalf("no last message: %v", err)
	}
	if text, err := io.ReadAll(last); err != nil || string(text) != "From b\n" {
		t.Errorf("the last message is %q, %v", text, err)
	}
}

// A message without a line end gets one, unless it is the last in the file.
func TestMboxLineEnd(t *testing.T) {
	for file, want := range map[string]string{
		first + "a\n\n" + second + "b\n": first + "x\n\n" + second + "x",
		first + "a\n" + second + "b":     first + "x\n" + second + "x",
		first + "a\n\n":                  first + "x\n\n",
	} {
		b := newBench(t, file)
		c, _, err := b.open("x", false)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		for {
			m, err := c.Next()
			if err == io.EOF {
				break
			}
			if err == nil {
				_, err = io.WriteString(m, "x")
			}
			if err == nil {
				err = m.Finish(true)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if err := c.Finish(false); err != nil {
			t.Fatal(err)
		}
		if got := b.read(b.path); got != want {
			t.Errorf("%q becomes %q, want %q", file, got, want)
		}
	}
}

// A copy of another file, or with other options, is not resumed.
func TestMboxRefused(t *testing.T) {
	b := newBench(t, three)
	c, _, err := b.open("x", false)
	if err != nil {
		t.Fatal(err)
	}
	b.copy(c, 1)
	if _, _, err := b.open("x", false); !errors.Is(err, mailbox.ErrBusy) {
		t.Errorf("opened twice: %v", err)
	}
	c.Close()
	if _, _, err := b.open("y", true); !errors.Is(err, mailbox.ErrOtherJob) {
		t.Errorf("other options: %v", err)
	}
	if err := os.Chtimes(b.in, time.Time{}, time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := b.open("x", true); !errors.Is(err, mailbox.ErrOtherJob) {
		t.Errorf("another original: %v", err)
	}

	b = newBench(t, three)
	b.write(b.path, "precious")
	if _, _, err := b.open("x", false); !errors.Is(err, fs.ErrExist) {
		t.Errorf("the output exists: %v", err)
	}
	b.finish(true)

	b = newBench(t, three)
	if c, _, err = b.open("x", false); err != nil {
		t.Fatal(err)
	}
	b.copy(c, 3)
	b.write(b.in, three+"\n\n"+first+"d\n")
	if err := c.Finish(false); !errors.Is(err, mailbox.ErrOtherJob) {
		t.Errorf("the original has grown meanwhile: %v", err)
	}
	c.Close()

	b = newBench(t, "x")
	if c, _, err = b.open("x", false); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Next(); !errors.Is(err, mailbox.ErrNotMbox) {
		t.Errorf("no mbox file: %v", err)
	}
	c.Close()
	if _, err := os.Stat(mailbox.Unfinished(b.path)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a copy without a message is left behind: %v", err)
	}
	if err := os.Mkdir(mailbox.Unfinished(b.path), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, _, err := b.open("x", false); err == nil {
		t.Error("a folder that others can look into was taken")
	}
}
