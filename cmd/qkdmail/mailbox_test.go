package main

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/qkdmail/qkdmail/cipher"
	"github.com/qkdmail/qkdmail/cmd/internal/kmsim"
	"github.com/qkdmail/qkdmail/cmd/internal/mailbox"
)

// corpus is a folder with many kinds of messages, which is not part of the repository.
const corpus = "../../../shared/corpus"

// TestMailboxesKilled encrypts and decrypts an mbox file and a Maildir folder of the
// whole corpus, and kills qkdmail ten times each way. The result is the same, byte for
// byte; only messages under way at a kill have taken two keys; and all keys of the
// restored messages are closed, once each.
func TestMailboxesKilled(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: takes long, and this is -short")
	}
	files, err := filepath.Glob(filepath.Join(corpus, "*.eml"))
	if err != nil || len(files) == 0 {
		t.Skipf("SKIPPED: no messages in %s", corpus)
	}
	dir := t.TempDir()
	n := len(files)
	makeMailboxes(t, dir, files)

	km := newKillingKM(t)
	km.survive(t, n, "encrypt", "--mbox", "-o", filepath.Join(dir, "secret.mbox"), filepath.Join(dir, "all.mbox"))
	km.check(t, n, mboxMessages(t, filepath.Join(dir, "secret.mbox")))
	km.survive(t, 2*n, "decrypt", "--close", "--mbox", "-o", filepath.Join(dir, "back.mbox"), filepath.Join(dir, "secret.mbox"))
	km.checkClosed(t)
	if !bytes.Equal(read(t, filepath.Join(dir, "all.mbox")), read(t, filepath.Join(dir, "back.mbox"))) {
		t.Error("the restored mbox file differs")
	}

	km = newKillingKM(t)
	km.survive(t, n, "encrypt", "--out-dir", filepath.Join(dir, "secret"), filepath.Join(dir, "all"))
	km.check(t, n, maildirMessages(t, filepath.Join(dir, "secret")))
	km.survive(t, 2*n, "decrypt", "--close", "--out-dir", filepath.Join(dir, "back"), filepath.Join(dir, "secret"))
	km.checkClosed(t)
	want, got := maildirMessages(t, filepath.Join(dir, "all")), maildirMessages(t, filepath.Join(dir, "back"))
	for name, text := range want {
		if !bytes.Equal(got[name], text) {
			t.Errorf("the restored message %s differs", name)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d messages come back, want %d", len(got), len(want))
	}
	for _, pattern := range []string{"*.unfinished", "*/tmp/*", "*/tmp/.*"} {
		if left, err := filepath.Glob(filepath.Join(dir, pattern)); err != nil || len(left) > 0 {
			t.Errorf("left behind: %q, %v", left, err)
		}
	}
}

// makeMailboxes makes an mbox file and a Maildir folder of messages.
func makeMailboxes(t *testing.T, dir string, files []string) {
	t.Helper()
	var all bytes.Buffer
	for _, sub := range []string{"new", "cur", "tmp"} {
		if err := os.MkdirAll(filepath.Join(dir, "all", sub), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	bareLF := regexp.MustCompile(`(^|[^\r])\n`)
	for i, file := range files {
		text := read(t, file)
		fmt.Fprintf(&all, "From sender@example.org Sat Nov 28 07:%02d:%02d 2026\n", i/60%60, i%60)
		w := mailbox.Rd.Quote(&all)
		if _, err := w.Write(text); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if !bytes.HasSuffix(text, []byte("\n")) && i < len(files)-1 {
			all.WriteByte('\n')
		}
		if i < len(files)-1 {
			all.WriteByte('\n')
		}
		withCRLF := len(bareLF.ReplaceAll(bytes.ReplaceAll(text, []byte("\n"), []byte("\n\x00")), []byte("$1\r\n"))) - bytes.Count(text, []byte("\n"))
		name := fmt.Sprintf("new/1700000000.M%dP1.host,S=%d,W=%d", i, len(text), withCRLF)
		if i%3 > 0 {
			name = fmt.Sprintf("cur/1700000000.M%dP1.host:2,%s", i, []string{"", "S", "FRS"}[i%3])
		}
		if err := os.WriteFile(filepath.Join(dir, "all", name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "all.mbox"), all.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, file string) []byte {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// mboxMessages returns the messages of an mbox file by their offsets.
func mboxMessages(t *testing.T, file string) map[string][]byte {
	t.Helper()
	messages := map[string][]byte{}
	text := read(t, file)
	s := mailbox.NewScanner(bytes.NewReader(text), 0, mailbox.Rd)
	for {
		m, err := s.Next()
		if err == io.EOF {
			return messages
		}
		if err != nil {
			t.Fatal(err)
		}
		messages[fmt.Sprint(m.Start)] = text[m.Body:m.End]
	}
}

// maildirMessages returns the messages of a Maildir folder by their names.
func maildirMessages(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	messages := map[string][]byte{}
	for _, sub := range []string{"new", "cur"} {
		files, err := filepath.Glob(filepath.Join(dir, sub, "*"))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			messages[sub+"/"+filepath.Base(file)] = read(t, file)
		}
	}
	return messages
}

// A killingKM is a key manager that kills its client, now and then.
type killingKM struct {
	url string
	km  http.Handler

	mu     sync.Mutex
	gave   int             // keys given out to encrypt with
	used   map[string]bool // key IDs in messages
	closed map[string]int  // key IDs, and how often they were closed
	kills  int
	in     int // requests until the client is killed
	client *os.Process
}

const killsEach = 10 // each way

func newKillingKM(t *testing.T) *killingKM {
	t.Helper()
	km, err := kmsim.NewQMail(kmsim.Options{})
	if err != nil {
		t.Fatal(err)
	}
	k := &killingKM{km: km, used: map[string]bool{}, closed: map[string]int{}}
	s := httptest.NewServer(k)
	t.Cleanup(s.Close)
	k.url = s.URL
	return k
}

func (k *killingKM) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	answer := httptest.NewRecorder()
	k.km.ServeHTTP(answer, r)
	k.mu.Lock()
	switch {
	case answer.Code != http.StatusOK:
	case r.Method == http.MethodDelete:
		k.closed[path.Base(r.URL.Path)]++
	case strings.Contains(answer.Body.String(), `"keys"`):
		k.gave++
	}
	if k.in--; k.in == 0 && k.client != nil {
		k.kills++
		client := k.client
		// During the request, or in the writing, syncing and renaming after it.
		time.AfterFunc(time.Duration(rand.IntN(4))*time.Millisecond, func() { _ = client.Kill() })
	}
	k.mu.Unlock()
	w.WriteHeader(answer.Code)
	_, _ = w.Write(answer.Body.Bytes()) // the client may be gone
}

// survive runs qkdmail until it has done its work, which takes this many requests, and
// kills it on the way.
func (k *killingKM) survive(t *testing.T, requests int, args ...string) {
	t.Helper()
	args = append([]string{args[0], "--km", k.url}, args[1:]...)
	for run := 0; ; run++ {
		cmd := exec.CommandContext(t.Context(), "qkdmail", args...)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		k.mu.Lock()
		k.in, k.client = -1, nil
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if run < killsEach {
			k.in, k.client = 1+rand.IntN(requests/(killsEach+1)), cmd.Process
		}
		k.mu.Unlock()
		err := cmd.Wait()
		if err == nil && run < killsEach {
			t.Fatalf("qkdmail %v was done after %d kills, want %d", args, run, killsEach)
		}
		if err == nil {
			lines := strings.Split(strings.TrimSpace(stderr.String()), "\n")
			t.Logf("%s: %s", args[0], lines[len(lines)-1])
			return
		}
		if run >= killsEach || cmd.ProcessState.ExitCode() != -1 {
			t.Fatalf("qkdmail %v, run %d: %v\n%s", args, run+1, err, stderr.String())
		}
	}
}

// check checks that each of n messages has its own key, and that no further keys were
// given out except to messages under way at a kill.
func (k *killingKM) check(t *testing.T, n int, messages map[string][]byte) {
	t.Helper()
	if len(messages) != n {
		t.Errorf("%d messages are encrypted, want %d", len(messages), n)
	}
	for name, text := range messages {
		info, err := cipher.Inspect(bytes.NewReader(text))
		if err != nil {
			t.Errorf("the message %s: %v", name, err)
			continue
		}
		if k.used[info.KeyID] {
			t.Errorf("the key %s has encrypted two messages", info.KeyID)
		}
		k.used[info.KeyID] = true
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.gave > n+k.kills {
		t.Errorf("%d messages have taken %d keys, with only %d kills", n, k.gave, k.kills)
	}
	t.Logf("%d messages, %d kills, %d keys", n, k.kills, k.gave)
}

// checkClosed checks that the keys of all messages were closed, and no others.
func (k *killingKM) checkClosed(t *testing.T) {
	t.Helper()
	k.mu.Lock()
	defer k.mu.Unlock()
	for id := range k.used {
		if k.closed[id] != 1 {
			t.Errorf("the key %s was closed %d times", id, k.closed[id])
		}
	}
	if len(k.closed) != len(k.used) {
		t.Errorf("%d keys were closed, want %d", len(k.closed), len(k.used))
	}
}
