package relay_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/qkdmail/qkdmail/cipher"
	"github.com/qkdmail/qkdmail/mailer"
	"github.com/qkdmail/qkdmail/mailer/internal/mailtest"
	"github.com/qkdmail/qkdmail/mailer/relay/config"
)

// A hybridKey is an X-Wing key in a file.
type hybridKey struct {
	*testing.T
	*cipher.HybridPrivateKey
	file string
}

// make puts a new private key into the file, or its public key.
func (k *hybridKey) make(public bool) {
	k.Helper()
	var err error
	if k.HybridPrivateKey, err = cipher.GenerateHybridKey(); err != nil {
		k.Fatal(err)
	}
	text, err := k.RevealPEM()
	if public {
		text = k.Public().PEM()
	}
	if err != nil {
		k.Fatal(err)
	}
	k.write(string(text))
}

func (k *hybridKey) write(text string) {
	k.Helper()
	if err := os.WriteFile(k.file, []byte(text), 0o600); err != nil {
		k.Fatal(err)
	}
}

// TestReloadHybridKeys: our keys are those in the files at the last reload, and a file
// that can't be used changes nothing.
func TestReloadHybridKeys(t *testing.T) {
	mailtest.NoLeaks(t)
	key := &hybridKey{T: t, file: filepath.Join(t.TempDir(), "site.key")}
	key.make(false)
	hop, r, before := mailtest.Start(t, mailer.DirectionDecrypt, func(c *config.Config) { c.Site.HybridKeys = []string{key.file} })
	sealed := func() string {
		return mailtest.Seal(t, r.KM, mailtest.Text, func(o *cipher.EncryptOptions) { o.Hybrid = key.Public() })
	}
	want := func(c *mailtest.Client, reply, message string) {
		t.Helper()
		c.Want(reply, c.Mail(message, "alice@a.example", "bob@b.example"))
	}
	old := sealed()
	want(before, "250", old)

	key.make(false)
	want(mailtest.Connect(t, r), "451", sealed())
	if err := r.Reload(r.Config); err != nil {
		t.Fatal(err)
	}
	after := mailtest.Connect(t, r)
	want(after, "250", sealed())
	want(after, "451", old)
	want(before, "250", old) // a session keeps its own

	key.write("-----BEGIN CERTIFICATE-----\n")
	if err := r.Reload(r.Config); !errors.Is(err, mailer.ErrConfig) || !strings.Contains(err.Error(), key.file) {
		t.Errorf("a file without a key: %v, want an ErrConfig that names it", err)
	}
	want(mailtest.Connect(t, r), "250", sealed())
	if n := len(hop.Got()); n != 4 {
		t.Errorf("%d messages were delivered, want 4", n)
	}
}

// TestReloadPeerKey: with a peer's key, mail is for that key, even after it changes; a
// file that can't be used changes nothing, and no mail leaves without a key.
func TestReloadPeerKey(t *testing.T) {
	mailtest.NoLeaks(t)
	key := &hybridKey{T: t, file: filepath.Join(t.TempDir(), "site-b.pub")}
	key.make(true)
	hop, r, c := mailtest.Start(t, mailer.DirectionEncrypt, func(c *config.Config) { c.Peers[0].HybridKey = key.file })
	first := key.HybridPrivateKey
	want := func(k *cipher.HybridPrivateKey) {
		t.Helper()
		c.Want("250", c.Attempt(mailtest.Text))
		opened, err := cipher.Decrypt(t.Context(), strings.NewReader(hop.One().Data), r.KM, &cipher.DecryptOptions{
			Binder: cipher.Unbound, Hybrid: []*cipher.HybridPrivateKey{k}, SAE: "SAE_B", Peers: []string{"SAE_A"},
		})
		if err != nil || opened.Info().Suite != cipher.SuiteAES256GCMXWing {
			t.Fatalf("the message is not for the peer's key: %v", err)
		}
		hop.Forget()
	}
	want(first)
	key.make(true)
	if err := r.Reload(r.Config); err != nil {
		t.Fatal(err)
	}
	want(first) // a session keeps its own
	c = mailtest.Connect(t, r)
	want(key.HybridPrivateKey)

	second := key.HybridPrivateKey
	for _, text := range []string{"", "no key"} {
		key.write(text)
		if err := r.Reload(r.Config); !errors.Is(err, mailer.ErrConfig) || !strings.Contains(err.Error(), key.file) {
			t.Errorf("a file with %q: %v, want an ErrConfig that names it", text, err)
		}
		c = mailtest.Connect(t, r)
		want(second)
	}
}
