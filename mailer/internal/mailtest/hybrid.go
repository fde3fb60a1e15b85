package mailtest

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/qkdmail/qkdmail/cipher"
	"github.com/qkdmail/qkdmail/mailer/relay/config"
)

// A HybridKey is an X-Wing key, and the files of its two halves.
type HybridKey struct {
	*cipher.HybridPrivateKey
	private, public string
}

// NewHybridKey makes a key.
func NewHybridKey(t testing.TB) *HybridKey {
	t.Helper()
	key, err := cipher.GenerateHybridKey()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	k := &HybridKey{key, filepath.Join(dir, "site.key"), filepath.Join(dir, "site.key.pub")}
	text, err := key.RevealPEM()
	if err == nil {
		err = os.WriteFile(k.private, text, 0o600)
	}
	if err == nil {
		err = os.WriteFile(k.public, key.Public().PEM(), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// AsOurs gives the key to the site, in addition to those it has.
func (k *HybridKey) AsOurs(c *config.Config) {
	c.Site.HybridKeys = append(c.Site.HybridKeys, k.private)
}

// AsPeers makes the key that of the first peer, the other site.
func (k *HybridKey) AsPeers(c *config.Config) { c.Peers[0].HybridKey = k.public }

// ForKey makes [Seal] encrypt for the key.
func (k *HybridKey) ForKey(o *cipher.EncryptOptions) { o.Hybrid = k.Public() }
