package cipher_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/mail"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/qkdmail/qkdmail/cipher"
)

// openMessage is scripts/open-message.py with a Python that can run it.
type openMessage struct{ python string }

func newOpenMessage(t *testing.T) openMessage {
	t.Helper()
	if testing.Short() {
		t.Skip("SKIPPED: starts Python for each vector, and this is -short")
	}
	for _, python := range []string{"python3", "/usr/bin/python3"} { // the second is Debian's
		check := exec.CommandContext(t.Context(), python, "-c", "import cryptography, sys; sys.exit(sys.version_info < (3, 11))")
		if check.Run() == nil {
			return openMessage{python}
		}
	}
	t.Skip("SKIPPED: no Python 3.11 with the package cryptography (Debian: python3-cryptography)")
	return openMessage{}
}

// ran is the outcome of a run of the script.
type ran struct {
	code      int
	sealedFor []string
	class     string // of the error
}

func (o openMessage) run(t *testing.T, stdout io.Writer, args ...string) (r ran) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), o.python, append([]string{filepath.Join("..", "scripts", "open-message.py")}, args...)...)
	var stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = stdout, &stderr
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatalf("open-message.py does not run: %v", err)
	}
	r.code = cmd.ProcessState.ExitCode()
	for line := range strings.Lines(stderr.String()) {
		name, isRecipient := strings.CutPrefix(line, "sealed for ")
		text, isError := strings.CutPrefix(line, "open-message.py: ")
		switch {
		case isRecipient:
			r.sealedFor = append(r.sealedFor, strings.TrimSuffix(name, "\n"))
		case isError && r.class == "":
			r.class, _, _ = strings.Cut(text, ": ")
		default:
			t.Fatalf("unexpected output on standard error:\n%s", stderr.String())
		}
	}
	return r
}

// check checks the class of the error, "" for none, and its exit code.
func (r ran) check(t *testing.T, classes ...string) {
	t.Helper()
	codes := map[string]int{"": 0, "usage": 64, "no-input": 66, "bad-key": 69, "no-output": 73, "io": 74, "no-key": 77, "key-file": 78}
	code, ok := codes[r.class]
	if !ok {
		code = 65
	}
	if !slices.Contains(classes, r.class) || r.code != code {
		t.Errorf("error %q with exit code %d, want one of %q; %q has %d", r.class, r.code, classes, r.class, code)
	}
}

// keyForms are the forms of a file of keys that writeKeys knows.
var keyForms = []string{"mock", "etsi014", "key get --json", "key get"}

// writeKeys writes a file of keys, and returns its name.
func writeKeys(t *testing.T, form string, keys map[string][]byte) string {
	t.Helper()
	table := "KEY ID  BITS  KEY\n"
	list := []map[string]any{}
	for id, key := range keys {
		table += fmt.Sprintf("%s  %d  %s\n", id, 8*len(key), base64.StdEncoding.EncodeToString(key))
		name := "key_id"
		if form == "etsi014" {
			name = "key_ID"
		}
		list = append(list, map[string]any{name: id, "key": key})
	}
	var content any
	switch form {
	case "mock":
		content = map[string]any{"keys": keys}
	case "etsi014":
		content = map[string]any{"keys": list}
	case "key get --json":
		content = list
	case "key get":
		return writeFile(t, table)
	}
	text, err := json.Marshal(content)
	if err != nil {
		t.Fatal(err)
	}
	return writeFile(t, string(text))
}

func writeFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestOpenMessage: a program written from format.md alone opens what can be opened, and
// refuses the rest with the right error.
func TestOpenMessage(t *testing.T) {
	o := newOpenMessage(t)
	files, err := filepath.Glob(filepath.Join(vectorDir, "*", "*.txt"))
	if err != nil || len(files) < 100 {
		t.Fatalf("%d vectors, %v; want at least 100", len(files), err)
	}
	hybrid := regexp.MustCompile(`(?m)^Suite: .*\+X-WING\r?$`)
	for i, file := range files {
		v := readVector(t, file)
		if hybrid.Match(v.message) {
			v.expect, v.released = []string{"suite"}, 0 // whatever else is wrong
		}
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			out := filepath.Join(dir, "out")
			r := o.run(t, nil, "--keys", writeKeys(t, keyForms[i%len(keyForms)], v.keys), "--sae", v.sae, "--peer", v.peer,
				"--recipients", "-o", out, writeFile(t, string(v.message)))
			message, err := os.ReadFile(out)
			if len(v.expect) == 0 {
				r.check(t, "")
				v.check(t, "open-message.py", opened{message, r.digests(t), v.asked, err})
				return
			}
			r.check(t, v.expect...)
			if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
				t.Errorf("%v is there, %v; want no output from a refused message", left, err)
			}
		})
	}
}

func (r ran) digests(t *testing.T) (digests [][]byte) {
	t.Helper()
	if slices.Equal(r.sealedFor, []string{"anyone"}) {
		return nil
	}
	for _, name := range r.sealedFor {
		digest, err := hex.DecodeString(name)
		if err != nil {
			t.Fatal(err)
		}
		digests = append(digests, digest)
	}
	return digests
}

// TestOpenMessageTo: a message is refused if it is sealed for others, but not for
// another spelling of the right address.
func TestOpenMessageTo(t *testing.T) {
	o := newOpenMessage(t)
	addresses, err := os.ReadFile(filepath.Join(vectorDir, "addresses.txt"))
	if err != nil {
		t.Fatal(err)
	}
	for i, line := range strings.Split(string(addresses), "\n") {
		row := strings.Split(line, "\t")
		if len(row) != 3 || strings.ContainsFunc(line, func(r rune) bool { return r > '~' }) {
			continue // the script knows only US-ASCII addresses
		}
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			address := strings.TrimPrefix(row[1], `""`)
			if parsed, err := mail.ParseAddress(address); err == nil {
				address = parsed.Address // without quotes
			}
			keys, message := sealed(t, address)
			var out bytes.Buffer
			r := o.run(t, &out, "--keys", keys, "--recipients", "--to", row[0], message)
			r.check(t, "")
			if want := []string{row[2], row[0]}; !slices.Equal(r.sealedFor, want) || out.String() != "plain" {
				t.Errorf("sealed for %q, %q is printed; want %q and the message", r.sealedFor, out.String(), want)
			}
			out.Reset()
			o.run(t, &out, "--keys", keys, "--to", "mallory@b.example", message).check(t, "recipient")
			if out.Len() > 0 {
				t.Errorf("%d bytes are printed of a message that is for others", out.Len())
			}
		})
	}
}

// sealed returns a file of keys and one with a message for these recipients.
func sealed(t *testing.T, recipients ...string) (keys, message string) {
	t.Helper()
	km := newTestKM()
	outer := encrypt(t, km, []byte("plain"), &cipher.EncryptOptions{Suite: cipher.SuiteOTP, Recipients: recipients})
	return writeKeys(t, "mock", km.keys), writeFile(t, string(outer))
}

// TestOpenMessageErrors: errors not caused by the message.
func TestOpenMessageErrors(t *testing.T) {
	o := newOpenMessage(t)
	keys, message := sealed(t)
	missing := filepath.Join(t.TempDir(), "missing")
	for name, c := range map[string]struct {
		class string
		args  []string
	}{
		"none":              {"", []string{"--keys", keys, "--to", "bob@b.example", message}},
		"no message":        {"no-input", []string{"--keys", keys, missing}},
		"no file of keys":   {"no-input", []string{"--keys", missing, message}},
		"no --keys":         {"usage", []string{message}},
		"an unknown flag":   {"usage", []string{"--keys", keys, "--force", message}},
		"address in UTF-8":  {"usage", []string{"--keys", keys, "--to", "jörg@b.example", message}},
		"no folder":         {"no-output", []string{"--keys", keys, "-o", filepath.Join(missing, "out"), message}},
		"the file is there": {"no-output", []string{"--keys", keys, "-o", message, message}},
		"no keys":           {"key-file", []string{"--keys", message, message}},
		"keys not shown":    {"key-file", []string{"--keys", writeFile(t, "KEY ID  BITS\nA  256\n"), message}},
		"other keys":        {"no-key", []string{"--keys", writeFile(t, `{"key_id":"x","key":"MTIzNDU2Nzg="}`), message}},
		"one ID, two keys": {"bad-key", []string{"--keys", keys, "--keys", writeFile(t, `{"key_id":"x","key":"MTIzNDU2Nzg="}`),
			"--keys", writeFile(t, `{"keys":{"x":"MTIzNDU2Nzk="}}`), message}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			o.run(t, &out, c.args...).check(t, c.class)
			if want := c.class == ""; want != (out.Len() > 0) {
				t.Errorf("%d bytes are printed, want a message: %v", out.Len(), want)
			}
		})
	}
	t.Run("full", func(t *testing.T) {
		full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
		if err != nil {
			t.Skipf("SKIPPED: no /dev/full: %v", err)
		}
		defer full.Close()
		o.run(t, full, "--keys", keys, message).check(t, "io")
	})
}
