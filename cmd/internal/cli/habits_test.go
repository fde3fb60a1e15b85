package cli

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/qkdmail/qkdmail/cmd/internal/flags"
	"github.com/qkdmail/qkdmail/cmd/internal/kmsim"
	"github.com/qkdmail/qkdmail/cmd/internal/kmtest"
	"github.com/qkdmail/qkdmail/cmd/internal/terminal"
)

// An ending is how "encrypt" ends: its exit code, and words on standard error.
type ending struct {
	code  int
	words string
}

// verdicts are the endings of "encrypt" with each suite, first for a message of 464
// bytes and then for one of 1,000.
type verdicts struct{ otp, aes, auto [2]ending }

func twice(e ending) [2]ending { return [2]ending{e, e} }

// anySuite is for habits with which the suite makes no difference.
func anySuite(e ending) verdicts { return verdicts{twice(e), twice(e), twice(e)} }

// pads is for habits that rule out a pad when auto would use nothing else.
func pads(e ending) verdicts { return verdicts{otp: twice(e), auto: twice(e)} }

func wanted() map[string]verdicts {
	var (
		empty  = ending{terminal.ExitTempFail, "key manager has no key left"}
		worded = ending{terminal.ExitTempFail, `says "The requested key amount exceeds the generated key count. Try again later.": try again when the link has made new keys`}
		down   = ending{terminal.ExitUnavailable, "check that the key manager runs"}
		bad    = ending{terminal.ExitUnavailable, "the key manager does not work as it should: do not use its keys"}
		html   = ending{terminal.ExitNoPerm, "an HTML page instead of JSON (HTTP 401): the key manager must allow this SAE"}
		noPad  = ending{terminal.ExitConfig, "it gives keys of at most 128 bits, and a pad takes keys of 256 bits or more; use AES-256-GCM: use --suite aes-256-gcm"}
		short  = ending{terminal.ExitUnavailable, `says "size shall be 64 to 128 bits": the key manager can't meet this: see qkdmail status`}
	)
	return map[string]verdicts{
		"sizes rounded up to 264": anySuite(bad),
		"size ignored":            anySuite(bad),

		"a stock of two":                       pads(empty),
		"a stock of two, worded so":            pads(worded),
		"the same with 503":                    pads(worded),
		"a code instead of words":              pads(ending{terminal.ExitTempFail, `says "INSUFFICIENT_KEYS": try again`}),
		"a stock of two, key by key":           pads(empty),
		"a stock of two, 0 in the status":      pads(empty),
		"a stock of 15":                        pads(worded),
		"a stock of 15, as it is":              pads(empty),
		"a stock of 15, as it is, of 256 bits": pads(empty),
		"a stock of 20":                        {otp: [2]ending{1: empty}, auto: [2]ending{1: empty}},

		"an empty stock":               anySuite(empty),
		"out of order, with 503":       anySuite(ending{terminal.ExitUnavailable, `says "database connection pool exhausted": check that the key manager runs`}),
		"an empty stock, said in HTML": anySuite(down),
		"401 in HTML":                  anySuite(html),

		"keys too short":            {otp: twice(noPad), aes: twice(short), auto: twice(short)},
		"keys said to be too short": {otp: twice(noPad), auto: twice(ending{terminal.ExitOK, "it is encrypted with AES-256-GCM: no one-time pad"})},
		"a status that fails":       pads(down),
		"a status that is refused":  pads(ending{terminal.ExitNoPerm, `(HTTP 403): key manager says "the status is not available"`}),
	}
}

// With every habit of a key manager, an encrypted message is restored byte for byte;
// one that can't be encrypted gives the right exit code and words, and leaves no
// file.
func TestHabits(t *testing.T) {
	kmtest.Each(t, wanted(), func(h kmtest.Habit, api string, w verdicts) {
		for suite, end := range map[string][2]ending{"otp": w.otp, "aes-256-gcm": w.aes, "auto": w.auto} {
			t.Run(api+"/"+h.Name+"/"+suite, func(t *testing.T) {
				t.Parallel()
				s := &shell{t: t, dir: t.TempDir(), link: h.Start(t, api)}
				inside := map[string]string{"otp": "OTP", "aes-256-gcm": "AES-256-GCM", "auto": "OTP"}[suite]
				if h.Name == "keys said to be too short" {
					inside = "AES-256-GCM"
				}
				s.tryHabit(464, suite, inside, end[0])
				s.tryHabit(1000, suite, inside, end[1])
			})
		}
	})
}

// A shell runs command lines in a folder, on both sides of a link.
type shell struct {
	t    *testing.T
	dir  string
	link *kmtest.Link
}

// run runs a command line in this process. It returns the exit code and what was
// printed to standard error.
func (s *shell) run(at kmtest.Side, args ...string) (code int, said string) {
	var stderr bytes.Buffer
	root := NewRoot()
	root.SetErr(&stderr)
	root.SetArgs(append(args, "--km", at.KM, "--sae", at.SAE, "--peer", at.Peer, "--km-ca", at.CA, "--km-cert", at.Cert, "--km-key", at.Key))
	err := root.ExecuteContext(s.t.Context())
	if err == nil {
		return terminal.ExitOK, stderr.String()
	}
	code, hint := terminal.Explain(err)
	return code, stderr.String() + terminal.OneLine(err, hint)
}

func (s *shell) path(name string) string { return filepath.Join(s.dir, name) }

// encrypt encrypts a message of size bytes, and also returns it.
func (s *shell) encrypt(size int, suite, out string) (message []byte, code int, said string) {
	s.t.Helper()
	const head = "From: Alice <alice@a.example>\r\n\r\n"
	message = []byte(head + strings.Repeat("x", size-len(head)))
	if err := os.WriteFile(s.path("message"), message, 0o600); err != nil {
		s.t.Fatal(err)
	}
	code, said = s.run(s.link.A, "encrypt", "--suite", suite, "-o", s.path(out), s.path("message"))
	return message, code, said
}

// decrypt decrypts a file, without a key store.
func (s *shell) decrypt(in, out string) (code int, said string) {
	return s.run(s.link.B, "decrypt", "--store", flags.NoStore, "-o", s.path(out), s.path(in))
}

func (s *shell) tryHabit(size int, suite, inside string, want ending) {
	s.t.Helper()
	sealed, back := fmt.Sprint(size, ".sealed"), fmt.Sprint(size, ".back")
	message, code, said := s.encrypt(size, suite, sealed)
	if code != want.code || !strings.Contains(said, want.words) {
		s.t.Errorf("%d bytes: exit code %d, %q; want %d, %q", size, code, said, want.code, want.words)
	}
	out, err := os.ReadFile(s.path(sealed))
	if code != terminal.ExitOK {
		if err == nil {
			s.t.Errorf("%d bytes: exit code %d, but %q is written", size, code, out)
		}
		return
	}
	if err != nil || !bytes.Contains(out, []byte("Suite: "+inside+"\r\n")) {
		s.t.Errorf("%d bytes: not encrypted with %s, %v: %q", size, inside, err, out)
	}
	if code, said = s.decrypt(sealed, back); code != terminal.ExitOK {
		s.t.Errorf("%d bytes: decrypt ends with %d, %q", size, code, said)
		return
	}
	if got, err := os.ReadFile(s.path(back)); err != nil || !bytes.Equal(got, message) {
		s.t.Errorf("%d bytes: restored as %d bytes, %v", size, len(got), err)
	}
}

// Key managers have different ways of saying that they do not have a key.
func TestHabitUnknownKey(t *testing.T) {
	const missing, refuses = "key not found", "a key that is unknown"
	for status, words := range map[int]string{0: missing, 401: refuses, 404: missing, 500: missing} {
		for _, api := range []string{kmtest.ETSI, kmtest.QMail} {
			for _, suite := range []string{"otp", "aes-256-gcm"} {
				t.Run(fmt.Sprintf("%s/%d/%s", api, status, suite), func(t *testing.T) {
					t.Parallel()
					s := &shell{t: t, dir: t.TempDir(), link: kmtest.Named("none").Start(t, api)}
					if _, code, said := s.encrypt(464, suite, "sealed"); code != terminal.ExitOK {
						t.Fatalf("exit code %d, %q", code, said)
					}
					s.link.Become(kmtest.Habit{Options: kmsim.Options{Quirks: kmsim.Quirks{UnknownKeyStatus: status}}})
					if code, said := s.decrypt("sealed", "back"); code != terminal.ExitNoPerm || !strings.Contains(said, words) {
						t.Errorf("exit code %d, %q; want %d, %q", code, said, terminal.ExitNoPerm, words)
					}
					if _, err := os.Stat(s.path("back")); err == nil {
						t.Error("a file is written")
					}
				})
			}
		}
	}
}
