package mailbox_test

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/qkdmail/qkdmail/cmd/internal/mailbox"
)

// tree makes files in a folder, and the folders around them. A name that ends with a
// slash is a folder.
func tree(t *testing.T, names ...string) string {
	t.Helper()
	root := t.TempDir()
	for _, name := range names {
		path := filepath.Join(root, name)
		err := os.MkdirAll(filepath.Dir(path), 0o700)
		if strings.HasSuffix(name, "/") {
			err = os.MkdirAll(path, 0o700)
		} else if err == nil {
			err = os.WriteFile(path, []byte("text of "+filepath.Base(name)), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// files returns the files in a folder and below.
func files(t *testing.T, root string) (names []string) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			names = append(names, strings.TrimPrefix(path, root+"/"))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func TestMaildirs(t *testing.T) {
	root := tree(t, "cur/a", "new/", "tmp/x.eml", ".Sent/cur/", ".Sent/new/b.eml", "work/old/cur/", "work/old/new/", "half/cur/", "cur/deep/cur/", "cur/deep/new/", "skip/cur/", "skip/new/")
	skip := func(dir string) bool { return filepath.Base(dir) == "skip" }
	names, others, err := mailbox.Maildirs(root, skip)
	if want := []string{".", ".Sent", "work/old"}; err != nil || !slices.Equal(names, want) || others != 0 {
		t.Errorf("%q and %d others, %v, want %q", names, others, err, want)
	}
	names, others, err = mailbox.Maildirs(tree(t, "a.eml", "b/c.EML", "d.txt"), skip)
	if err != nil || len(names) != 0 || others != 2 {
		t.Errorf("%q and %d others, %v, want none and 2", names, others, err)
	}
}

// copyMaildir copies at most n messages of the folder in. Each message grows by four
// bytes. It returns the skipped files.
func copyMaildir(t *testing.T, in, out, job string, n int, sync bool) (made int, skipped []string, err error) {
	t.Helper()
	c, err := mailbox.OpenMaildirs(out, job, []string{"."})
	if err != nil {
		return 0, nil, err
	}
	defer c.Close()
	f, err := c.Folder(in, ".", func(path, _ string) { skipped = append(skipped, filepath.Base(path)) })
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range f.Missing[:min(n, len(f.Missing))] {
		m, err := f.Open(e)
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		if !m.Ready {
			if _, err = io.Copy(struct{ io.Writer }{m}, m.In); err == nil {
				_, err = io.WriteString(m, "\n\r\n\n")
			}
			if err == nil {
				err = m.Finish(sync)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
		if !sync || m.Ready {
			made++
			if err := m.Deliver(); err != nil {
				t.Fatal(err)
			}
		}
	}
	return made, skipped, f.Sync()
}

// A copy has the names, flags and times of the original; sizes in names are the copy's.
// A message that is already there is not copied again, whatever flags it has by now.
func TestMaildirCopy(t *testing.T) {
	in := tree(t, "maildirfolder", "new/1.M1P1.host,S=99,W=99", "cur/2.M1P1.host,S=5:2,FS", "cur/3.M1,U=5:2,", "cur/4:2,a,S=1", "tmp/5", "new/.hidden")
	when := time.Date(2001, 2, 3, 4, 5, 6, 0, time.UTC)
	if err := os.Chtimes(filepath.Join(in, "cur/2.M1P1.host,S=5:2,FS"), when, when); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "out")
	if made, _, err := copyMaildir(t, in, out, "x", 2, false); err != nil || made != 2 {
		t.Fatalf("%d messages, %v, want 2", made, err)
	}
	info, err := os.Stat(filepath.Join(out, "cur/2.M1P1.host,S=32:2,FS"))
	if err != nil || !info.ModTime().Equal(when) {
		t.Errorf("the time of a message: %v, %v", info, err)
	}
	if err := os.Rename(filepath.Join(in, "new/1.M1P1.host,S=99,W=99"), filepath.Join(in, "cur/1.M1P1.host,S=99,W=99:2,S")); err != nil {
		t.Fatal(err)
	}
	if made, _, err := copyMaildir(t, in, out, "x", 99, false); err != nil || made != 2 {
		t.Errorf("the second run makes %d messages, %v, want 2", made, err)
	}
	want := []string{".qkdmail-copy", "cur/2.M1P1.host,S=32:2,FS", "cur/3.M1,U=5:2,", "cur/4:2,a,S=1", "maildirfolder", "new/1.M1P1.host,S=33,W=35"}
	if got := files(t, out); !slices.Equal(got, want) {
		t.Errorf("the copy is\n%q, want\n%q", got, want)
	}
}

// With sync a message is complete in tmp before it is delivered, and a later run
// recognises it.
func TestMaildirReady(t *testing.T) {
	in, out := tree(t, "new/1.M1,S=1", "cur/"), filepath.Join(t.TempDir(), "out")
	for _, want := range []string{"tmp/1.M1,S=20", "new/1.M1,S=20"} {
		if _, _, err := copyMaildir(t, in, out, "x", 1, true); err != nil {
			t.Fatal(err)
		}
		if got := files(t, out); !slices.Equal(got[1:], []string{want}) {
			t.Errorf("the copy is %q, want %q", got, want)
		}
	}
}

// A message that was being written when the process was killed is written again.
func TestMaildirKilled(t *testing.T) {
	in, out := tree(t, "new/1", "cur/"), tree(t, "tmp/.unfinished")
	if _, _, err := copyMaildir(t, in, out, "x", 1, false); err != nil {
		t.Fatal(err)
	}
	if got := files(t, out); !slices.Equal(got[1:], []string{"new/1"}) {
		t.Errorf("the copy is %q", got)
	}
}

func TestMaildirRefused(t *testing.T) {
	in := tree(t, "new/1", "cur/1:2,S", "cur/2/")
	if err := os.Symlink("nowhere", filepath.Join(in, "cur/3")); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "out")
	_, skipped, err := copyMaildir(t, in, out, "x", 9, false)
	if want := []string{"1:2,S", "2", "3"}; err != nil || !slices.Equal(skipped, want) {
		t.Errorf("skipped: %q, %v, want %q", skipped, err, want)
	}
	if _, _, err := copyMaildir(t, in, out, "y", 9, false); !errors.Is(err, mailbox.ErrOtherJob) {
		t.Errorf("other options: %v", err)
	}
	c, err := mailbox.OpenMaildirs(out, "x", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, _, err := copyMaildir(t, in, out, "x", 9, false); !errors.Is(err, mailbox.ErrBusy) {
		t.Errorf("opened twice: %v", err)
	}
	out = tree(t, "cur/mine", "new/")
	for range 2 { // the first attempt must not make the folder ours
		if _, _, err := copyMaildir(t, in, out, "x", 9, false); !errors.Is(err, fs.ErrExist) {
			t.Errorf("a folder with other messages: %v", err)
		}
	}
}

// A message that is passed on is unchanged and replaces what was written.
func TestMaildirPassOn(t *testing.T) {
	in, out := tree(t, "new/1,S=5", "cur/"), filepath.Join(t.TempDir(), "out")
	c, err := mailbox.OpenMaildirs(out, "x", []string{"."})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	f, err := c.Folder(in, ".", nil)
	if err != nil {
		t.Fatal(err)
	}
	m, err := f.Open(f.Missing[0])
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if _, err := io.WriteString(m, strings.Repeat("x\n", 100<<10)); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(m.PassOn(65), m.Deliver()); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(out, "new/1,S=13"))
	if err != nil || string(text) != "text of 1,S=5" {
		t.Errorf("%q, %v", text, err)
	}
}
