package relay_test

import (
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/qkdmail/qkdmail/cipher"
	"github.com/qkdmail/qkdmail/mailer"
	"github.com/qkdmail/qkdmail/mailer/internal/mailtest"
	"github.com/qkdmail/qkdmail/mailer/relay/config"
)

// TestSieveRecipe: the script in docs/triggers.md, run by Dovecot, files what has come
// encrypted from site A, and nothing that only claims so.
func TestSieveRecipe(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: -short runs no other program")
	}
	program, err := exec.LookPath("sieve-test")
	if err != nil {
		t.Skip("SKIPPED: sieve-test is not installed; scripts/install-test-tools installs it")
	}
	mailtest.NoLeaks(t)
	sieve := newSieve(t, program)
	hop, r, c := mailtest.Start(t, mailer.DirectionDecrypt, func(c *config.Config) {
		c.Peers[0].Name, c.Peers[1].Name = "site-a", "site-ab"
	})
	const claim = "Qkdmail-Result: relay.example;\r\n\tdecrypt=pass;\r\n\tsuite=OTP;\r\n\tpeer=site-a;\r\n\tkey-id=x\r\n"
	from := func(sae string) func(*cipher.EncryptOptions) { return func(o *cipher.EncryptOptions) { o.SAE = sae } }
	for _, tt := range []struct {
		name, message, from string
		filed               bool
	}{
		{"from site A", mailtest.Seal(t, r.KM, "From: a@a.example\r\n\r\n"), "a@a.example", true},
		{"from another site", mailtest.Seal(t, r.KM, "From: c@c.example\r\n\r\n", from("SAE_C")), "c@c.example", false},
		{"from another site, whose user claims to be at A", mailtest.Seal(t, r.KM, claim+"From: c@c.example\r\n\r\n", from("SAE_C")), "c@c.example", false},
		{"in clear", "From: x@x.example\r\n\r\n", "x@x.example", false},
		{"in clear, with a claim", claim + "From: x@x.example\r\n\r\n", "x@x.example", false},
	} {
		hop.Forget()
		c.Want("250", c.Mail(tt.message, tt.from, "b@b.example"))
		said := sieve(hop.One().Data)
		if filed := strings.Contains(said, "store message in folder: Encrypted from site A"); filed != tt.filed {
			t.Errorf("%s: filed is %v, want %v:\n%s", tt.name, filed, tt.filed, said)
		}
	}
}

// newSieve returns a function that says what Dovecot does with a message under the
// document's script.
func newSieve(t *testing.T, program string) func(message string) string {
	t.Helper()
	text, err := os.ReadFile("../../docs/triggers.md")
	if err != nil {
		t.Fatal(err)
	}
	_, script, _ := strings.Cut(string(text), "\n```sieve\n")
	script, _, closed := strings.Cut(script, "\n```\n")
	if !closed {
		t.Fatal("docs/triggers.md has no Sieve script")
	}
	user := cmp.Or(os.Getuid(), 65534)                // Dovecot does not deliver to root
	folder, err := os.MkdirTemp("", "qkdmail-sieve-") // the parents of t.TempDir are for us only
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	write := func(name, text string) string {
		path := filepath.Join(folder, name)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	if err := os.Chmod(folder, 0o777); err != nil {
		t.Fatal(err)
	}
	conf := write("dovecot.conf", fmt.Sprintf("mail_uid = %d\nmail_gid = %[1]d\nfirst_valid_uid = 1\nbase_dir = %s\nmail_home = %[2]s\nmail_location = maildir:%[2]s/mail\nssl = no\n", user, folder))
	path := write("recipe.sieve", script+"\n")
	return func(message string) string {
		out, err := exec.CommandContext(t.Context(), program, "-c", conf, path, write("message", message)).CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return string(out)
	}
}
