package cipher_test

import (
	"bytes"
	"fmt"
	"io"
	"mime"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/emersion/go-message"
	"github.com/qkdmail/qkdmail/cipher"
)

// corpora returns the messages of two folders by name: the project's own, and mail
// from the test suites of other programs, which is not part of the project.
// QKDMAIL_CORPUS names another folder for the second.
func corpora(t *testing.T) map[string][]string {
	t.Helper()
	external := os.Getenv("QKDMAIL_CORPUS")
	if external == "" {
		external = filepath.Join("..", "..", "shared", "corpus")
	}
	found := map[string][]string{}
	for name, dir := range map[string]string{"own": filepath.Join("..", "testdata", "mail"), "external": external} {
		files, err := filepath.Glob(filepath.Join(dir, "*.eml"))
		if err != nil {
			t.Fatal(err)
		}
		if len(files) > 0 {
			found[name] = files
		} else if name == "own" {
			t.Fatalf("no messages in %s", dir)
		}
	}
	return found
}

// variants returns a message as it is, and with the line ends of SMTP.
func variants(plain []byte) map[string][]byte {
	crlf := regexp.MustCompile(`\r\n|\r|\n`).ReplaceAll(plain, []byte("\r\n"))
	return map[string][]byte{"as it is": plain, "CRLF": crlf}
}

// TestCorpus encrypts and restores every message of the corpora with every suite,
// and checks the outer message.
func TestCorpus(t *testing.T) {
	found := corpora(t)
	if found["external"] == nil {
		t.Run("external", func(t *testing.T) { t.Skip("no external corpus: only the project's own messages are tested") })
	}
	forPython := t.TempDir()
	for name, files := range found {
		t.Run(name, func(t *testing.T) {
			if name == "external" && testing.Short() {
				t.Skip("SKIPPED: takes long, and this is -short")
			}
			for _, file := range files {
				plain, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				for variant, plain := range variants(plain) {
					for _, suite := range suites {
						if suite.Hybrid() && variant == "CRLF" {
							continue // X-Wing is slow, and the lines are the plain suite's
						}
						label := fmt.Sprintf("%s, %s, %s", filepath.Base(file), variant, suite)
						outer := checkMessage(t, label, plain, suite)
						if suite.Hybrid() || (suite == cipher.SuiteOTP) != (variant == "CRLF") {
							continue // Python is slow, and its email package knows no suites
						}
						out := fmt.Sprintf("%s-%s-%s-%s", name, suite, variant, filepath.Base(file))
						if err := os.WriteFile(filepath.Join(forPython, out), outer, 0o600); err != nil {
							t.Fatal(err)
						}
					}
				}
			}
			t.Logf("%d messages restored with every suite, as they are and, without X-Wing, with CRLF", len(files))
		})
	}
	t.Run("python", func(t *testing.T) { checkWithPython(t, forPython) })
}

func checkMessage(t *testing.T, label string, plain []byte, suite cipher.Suite) (outer []byte) {
	t.Helper()
	km := newTestKM()
	outer = encrypt(t, km, plain, &cipher.EncryptOptions{Suite: suite})
	got, err := decrypt(t, km, outer, nil)
	if err != nil {
		t.Errorf("%s: decrypt: %v", label, err)
	} else if !bytes.Equal(got, plain) {
		t.Errorf("%s: %d bytes came back as %d different ones", label, len(plain), len(got))
	}
	checkOuter(t, label, outer, bytes.Contains(firstLine(plain), []byte("\r\n")))
	checkLeaks(t, label, plain, outer)
	return outer
}

func firstLine(b []byte) []byte {
	if i := bytes.IndexByte(b, '\n'); i >= 0 {
		return b[:i+1]
	}
	return b
}

// checkOuter checks that no mail system has anything to mend in a message.
func checkOuter(t *testing.T, label string, outer []byte, crlf bool) {
	t.Helper()
	for line := range bytes.Lines(outer) {
		text := bytes.TrimSuffix(line, []byte("\n"))
		if bytes.HasSuffix(text, []byte("\r")) != crlf {
			t.Errorf("%s: line %q of the outer message, want CRLF: %v", label, line, crlf)
			return
		}
		text = bytes.TrimSuffix(text, []byte("\r"))
		if len(text) > 998 || bytes.ContainsFunc(text, func(r rune) bool { return r < ' ' && r != '\t' || r > 0x7E }) {
			t.Errorf("%s: line %q of the outer message: too long or not printable US-ASCII", label, line)
			return
		}
	}
	e, err := message.Read(bytes.NewReader(outer))
	if err != nil {
		t.Errorf("%s: go-message can't read the outer message: %v", label, err)
		return
	}
	for _, name := range []string{"Qkdmail-Key-ID", "From", "Date", "Message-Id", "Subject", "Mime-Version"} {
		if n := len(e.Header.Values(name)); n != 1 {
			t.Errorf("%s: %d fields %s in the outer message, want 1", label, n, name)
		}
	}
	if e.Header.Has("Bcc") || e.Header.Has("Resent-Bcc") {
		t.Errorf("%s: Bcc in the outer message", label)
	}
	err = e.Walk(func(_ []int, e *message.Entity, err error) error {
		if err == nil && e.MultipartReader() == nil {
			_, err = io.Copy(io.Discard, e.Body)
		}
		return err
	})
	if err != nil {
		t.Errorf("%s: go-message can't read the parts: %v", label, err)
	}
}

var (
	subjectField = regexp.MustCompile(`(?im)^subject:[ \t]*(.*(?:\r?\n[ \t].*)*)`)
	fileName     = regexp.MustCompile(`(?i)name="?([^"\r\n;]+)`)
	bodyWords    = regexp.MustCompile(`[^\s]{12,}`)
)

// checkLeaks looks for the subject, attachment names and words of the body in the outer
// message. Words that an address field also has may be there.
func checkLeaks(t *testing.T, label string, plain, outer []byte) {
	t.Helper()
	head, body, _ := bytes.Cut(bytes.ReplaceAll(plain, []byte("\r\n"), []byte("\n")), []byte("\n\n"))
	var secrets []string
	for _, m := range subjectField.FindAllSubmatch(head, -1) {
		subject := string(m[1])
		secrets = append(secrets, subject)
		if decoded, err := new(mime.WordDecoder).DecodeHeader(subject); err == nil {
			secrets = append(secrets, decoded)
		}
	}
	for _, m := range fileName.FindAllSubmatch(body, -1) {
		secrets = append(secrets, string(m[1]))
	}
	for _, w := range bodyWords.FindAll(body[:min(len(body), 20_000)], -1) {
		secrets = append(secrets, string(w))
	}
	text := string(outer)
	always := string(encrypt(t, newTestKM(), nil, nil)) // in every outer message
	visible := subjectField.ReplaceAllString(string(head), "")
	for _, s := range secrets {
		s = strings.TrimSpace(s)
		if len(s) >= 8 && strings.Contains(text, s) && !strings.Contains(visible, s) && !strings.Contains(always, s) {
			t.Errorf("%s: the outer message shows %q from the message", label, s)
		}
	}
}

// checkWithPython reads the outer messages with Python's email package, which
// reports every defect.
func checkWithPython(t *testing.T, dir string) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("no python3: the outer messages are not checked with Python's email package")
	}
	out, err := exec.CommandContext(t.Context(), python, filepath.Join("testdata", "defects.py"), dir).CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	t.Logf("%s", out)
}
