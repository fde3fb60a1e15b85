package kmsim

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/qkdmail/qkdmail/kmclient"
)

func parseCert(t *testing.T, path string) *x509.Certificate {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestMakeCerts(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "certs")
	names, err := Certs(dir).Make(CertOptions{Hosts: []string{"kme.example", "192.0.2.1"}})
	want := []string{"ca.crt", "ca.key", "kme_a.crt", "kme_a.key", "kme_b.crt", "kme_b.key", "sae_a.crt", "sae_a.key", "sae_b.crt", "sae_b.key"}
	if err != nil || !slices.Equal(names, want) {
		t.Fatalf("%q, %v\nwant %q", names, err, want)
	}
	for _, name := range names {
		info, err := os.Stat(filepath.Join(dir, name))
		if strings.HasSuffix(name, ".key") && (err != nil || info.Mode() != 0o600) {
			t.Errorf("%s has mode %v (%v), want 0600", name, info.Mode(), err)
		}
	}
	ca := parseCert(t, filepath.Join(dir, "ca.crt"))
	roots := x509.NewCertPool()
	roots.AddCert(ca)
	for base, id := range map[string]string{"kme_a": "KME_A", "kme_b": "KME_B", "sae_a": "SAE_A", "sae_b": "SAE_B"} {
		c := parseCert(t, filepath.Join(dir, base+".crt"))
		server := strings.HasPrefix(base, "kme")
		usage := x509.ExtKeyUsageClientAuth
		if server {
			usage = x509.ExtKeyUsageServerAuth
			for _, host := range []string{"localhost", "127.0.0.1", "::1", "kme.example", "192.0.2.1"} {
				if err := c.VerifyHostname(host); err != nil {
					t.Errorf("%s: %v", base, err)
				}
			}
		}
		if _, err := c.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{usage}}); err != nil {
			t.Errorf("%s: %v", base, err)
		}
		wrong := x509.ExtKeyUsageClientAuth + x509.ExtKeyUsageServerAuth - usage
		if _, err := c.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{wrong}}); err == nil {
			t.Errorf("%s may be used on both sides", base)
		}
		if c.Subject.CommonName != id || c.IsCA || c.PublicKey.(*ecdsa.PublicKey).Curve != elliptic.P256() {
			t.Errorf("%s: common name %q, CA %v", base, c.Subject.CommonName, c.IsCA)
		}
		if left := time.Until(c.NotAfter); left < 364*day || left > 365*day {
			t.Errorf("%s is valid for %v", base, left)
		}
		if _, err := tls.LoadX509KeyPair(filepath.Join(dir, base+".crt"), filepath.Join(dir, base+".key")); err != nil {
			t.Errorf("%s: %v", base, err)
		}
	}
	if left := time.Until(ca.NotAfter); !ca.IsCA || left < 3649*day {
		t.Errorf("CA %v, valid for %v", ca.IsCA, left)
	}
}

func TestMakeCertsOpenSSL(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("no openssl command: its view of the certificates is not tested")
	}
	dir := t.TempDir()
	if _, err := Certs(dir).Make(CertOptions{}); err != nil {
		t.Fatal(err)
	}
	for base, purpose := range map[string]string{"kme_a": "sslserver", "sae_b": "sslclient"} {
		out, err := exec.Command(openssl, "verify", "-x509_strict", "-purpose", purpose, "-CAfile", filepath.Join(dir, "ca.crt"), filepath.Join(dir, base+".crt")).CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v\n%s", base, err, out)
		}
		if out, err := exec.Command(openssl, "pkey", "-noout", "-check", "-in", filepath.Join(dir, base+".key")).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", base, err, out)
		}
	}
}

// If one file exists, nothing is written.
func TestMakeCertsKeeps(t *testing.T) {
	for _, there := range []string{"ca.key", "sae_b.crt"} {
		dir := t.TempDir()
		path := filepath.Join(dir, there)
		if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Certs(dir).Make(CertOptions{}); !errors.Is(err, fs.ErrExist) || !strings.Contains(err.Error(), there) {
			t.Errorf("%v, want ErrExist for %s", err, there)
		}
		entries, _ := os.ReadDir(dir)
		if text, _ := os.ReadFile(path); len(entries) != 1 || string(text) != "mine" {
			t.Errorf("%d files, %s has %q", len(entries), there, text)
		}
	}
}

func TestMakeCertsNames(t *testing.T) {
	dir := t.TempDir()
	names, err := Certs(dir).Make(CertOptions{KMEs: []string{"../KME A", ".hidden"}, SAEs: []string{"urn:sae/é", "-x"}})
	want := []string{"ca.crt", "ca.key", "_._kme_a.crt", "_._kme_a.key", "_hidden.crt", "_hidden.key",
		"urn_sae__.crt", "urn_sae__.key", "_x.crt", "_x.key"}
	if err != nil || !slices.Equal(names, want) {
		t.Errorf("%q, %v\nwant %q", names, err, want)
	}
	for name, o := range map[string]CertOptions{
		"case":      {KMEs: []string{"A"}, SAEs: []string{"a"}},
		"escaped":   {KMEs: []string{"a b"}, SAEs: []string{"a_b"}},
		"the CA":    {KMEs: []string{"CA"}},
		"twice":     {KMEs: []string{"A"}, SAEs: []string{"A"}},
		"empty":     {KMEs: []string{""}},
		"too long":  {KMEs: []string{strings.Repeat("x", 65)}},
		"time back": {Valid: -1},
	} {
		empty := t.TempDir()
		if _, err := Certs(empty).Make(o); !errors.Is(err, kmclient.ErrConfig) {
			t.Errorf("%s: %v, want ErrConfig", name, err)
		}
		if entries, _ := os.ReadDir(empty); len(entries) != 0 {
			t.Errorf("%s: %d files written", name, len(entries))
		}
	}
}

func TestServerTLSRefuses(t *testing.T) {
	for name, spoil := range map[string]func(Certs) error{
		"no certificate": func(c Certs) error { cert, _ := c.Of("KME_A"); return os.Remove(cert) },
		"another's key": func(c Certs) error {
			_, key := c.Of("KME_A")
			_, other := c.Of("KME_B")
			return os.Rename(other, key)
		},
		"no CA":     func(c Certs) error { return os.Remove(c.CA()) },
		"CA no PEM": func(c Certs) error { _, key := c.Of("CA"); return os.Rename(key, c.CA()) },
	} {
		certs := Certs(t.TempDir())
		if _, err := certs.Make(CertOptions{}); err != nil {
			t.Fatal(err)
		}
		if _, err := certs.ServerTLS("KME_A"); err != nil {
			t.Fatalf("before %s: %v", name, err)
		}
		if err := spoil(certs); err != nil {
			t.Fatal(err)
		}
		if _, err := certs.ServerTLS("KME_A"); !errors.Is(err, kmclient.ErrConfig) {
			t.Errorf("%s: %v, want ErrConfig", name, err)
		}
	}
}
