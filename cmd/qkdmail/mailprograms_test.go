package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/qkdmail/qkdmail/cmd/internal/relaytest"
)

// A home is a user's home folder, in which programs run.
type home struct {
	*testing.T
	dir string
}

func newHome(t *testing.T) home {
	t.Helper()
	return home{t, t.TempDir()}
}

// write writes a file in the folder.
func (h home) write(name, text string) {
	h.Helper()
	path := filepath.Join(h.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		h.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o700); err != nil {
		h.Fatal(err)
	}
}

// maildir makes a Maildir folder in the folder.
func (h home) maildir(name string) {
	h.Helper()
	for _, sub := range []string{"new", "cur", "tmp"} {
		if err := os.MkdirAll(filepath.Join(h.dir, name, sub), 0o700); err != nil {
			h.Fatal(err)
		}
	}
}

// run runs a program in the folder.
func (h home) run(args ...string) (output string) {
	h.Helper()
	ctx, cancel := context.WithTimeout(h.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Dir, cmd.WaitDelay = h.dir, time.Second
	cmd.Env = []string{"HOME=" + h.dir, "PATH=" + filepath.Join(h.dir, "bin") + ":" + os.Getenv("PATH"),
		"QKD_KM=mock:" + filepath.Join(h.dir, "keys.json"), "EMAIL=alice@a.example", "TERM=vt100"}
	out, err := cmd.CombinedOutput()
	if err != nil {
		h.Fatalf("%q: %v\n%s", args, err, out)
	}
	return string(out)
}

// only returns the text of the only file whose name matches pattern.
func (h home) only(pattern string) string {
	h.Helper()
	names, err := filepath.Glob(filepath.Join(h.dir, pattern))
	if err != nil || len(names) != 1 {
		h.Fatalf("%s: %d files, %v, want one", pattern, len(names), err)
	}
	return string(read(h.T, names[0]))
}

// recipe returns the block in docs/mailboxes.md that has a line with this text.
func recipe(t *testing.T, with string) string {
	t.Helper()
	blocks := strings.Split(string(read(t, "../../docs/mailboxes.md")), "\n\n    ")
	i := slices.IndexFunc(blocks, func(b string) bool { return strings.Contains(b, with) })
	if i < 0 {
		t.Fatalf("docs/mailboxes.md has no block with %q", with)
	}
	block, _, _ := strings.Cut(blocks[i], "\n\n")
	return strings.ReplaceAll(block, "\n    ", "\n") + "\n"
}

// TestMutt: mutt sends an encrypted message and reads one, as docs/mailboxes.md
// says.
func TestMutt(t *testing.T) {
	relaytest.Needs(t, "mutt", "script")
	h := newHome(t)
	h.write("bin/qkdmail-sendmail", recipe(t, "# ~/bin/qkdmail-sendmail"))
	h.write("bin/sendmail", "#!/bin/sh\necho \"$@\" >~/arguments\nexec cat >~/sent.eml\n")
	h.write(".muttrc", recipe(t, "# ~/.muttrc"))
	h.maildir("Mail/plain")
	h.write("body", "the merger is on\n")
	h.run("sh", "-c", "mutt -n -F ~/.muttrc -s merger -- bob@b.example <body")
	if got := h.only("arguments"); !strings.Contains(got, "bob@b.example") {
		t.Errorf("sendmail is called with %q", got)
	}
	sent := h.only("sent.eml")
	if !strings.Contains(sent, "Suite: AES-256-GCM") || strings.Contains(sent, "merger") {
		t.Errorf("sent is\n%s", sent)
	}
	h.write("secret.mbox", "From x@a.example Sat Nov 28 07:00:00 2026\n"+sent+"\n")
	h.run("script", "-qec", `mutt -n -F ~/.muttrc -R -f secret.mbox -e 'unset wait_key' -e 'push ,d<exit>'`, "/dev/null")
	if got := h.only("Mail/plain/new/*"); !strings.Contains(got, "Subject: merger\n") || !strings.HasSuffix(got, "\nthe merger is on\n") {
		t.Errorf("mutt decrypted this:\n%s", got)
	}
}

// TestNotmuch: notmuch finds words in messages that arrived encrypted, as
// docs/mailboxes.md says.
func TestNotmuch(t *testing.T) {
	relaytest.Needs(t, "notmuch")
	h := newHome(t)
	h.write(".notmuch-config", "[database]\npath="+h.dir+"/mail\n[user]\nprimary_email=bob@b.example\n")
	h.write("mail/.notmuch/hooks/pre-new", recipe(t, "hooks/pre-new"))
	h.run("sh", "-c", strings.TrimSpace(recipe(t, "notmuch config set")))
	h.maildir("mail/inbox")
	found := func(word string) int {
		h.Helper()
		h.run("notmuch", "new")
		return strings.Count(h.run("notmuch", "search", "--output=files", word), "\n")
	}
	message := func(id, text string) string {
		return "From: a@a.example\nTo: bob@b.example\nSubject: s\nDate: Sat, 28 Nov 2026 07:00:00 +0000\nMessage-ID: <" + id + "@a.example>\n\n" + text + "\n"
	}
	h.write("1.eml", message("1", "merger"))
	h.run("qkdmail", "encrypt", "-o", "mail/inbox/new/1.M1.host", "1.eml")
	h.write("mail/inbox/cur/2.M1.host:2,S", message("2", "lunch"))
	if n, m := found("merger"), found("lunch"); n != 1 || m != 1 {
		t.Errorf("found %d encrypted messages and %d others, want one each", n, m)
	}
	h.write("3.eml", message("3", "merger"))
	h.run("qkdmail", "encrypt", "-o", "mail/inbox/new/3.M1.host", "3.eml")
	if n := found("merger"); n != 2 {
		t.Errorf("after the second message, found %d", n)
	}
	if got := h.run("sh", "-c", "notmuch show --format=raw id:3@a.example"); !strings.HasSuffix(got, "\nmerger\n") {
		t.Errorf("the message is\n%s", got)
	}
}
