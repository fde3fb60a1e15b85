package sim

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/qkdmail/qkdmail/cipher"
)

// A pki has the certificates of SAEs and KMEs, and the X-Wing keys of sites. They are in
// files, for relays to read.
type pki struct {
	dir   string
	roots *x509.CertPool
	certs map[string]*x509.Certificate // by the names of their files
}

// newPKI makes certificates for these SAEs, and one for all KMEs.
func newPKI(t testing.TB, saes ...string) *pki {
	t.Helper()
	p := &pki{dir: t.TempDir(), roots: x509.NewCertPool(), certs: map[string]*x509.Certificate{}}
	ca, caKey := p.make(t, "ca", nil, nil)
	p.roots.AddCert(ca)
	for _, name := range append(saes, "kme") {
		p.make(t, name, ca, caKey)
	}
	for _, name := range saes {
		p.makeAs(t, name+renewed, name, ca, caKey)
	}
	for _, name := range siteNames {
		p.makeHybrid(t, name)
	}
	return p
}

// makeHybrid makes the X-Wing key of a site.
func (p *pki) makeHybrid(t testing.TB, site string) {
	key, err := cipher.GenerateHybridKey()
	if err != nil {
		t.Fatal(err)
	}
	private, err := key.RevealPEM()
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string][]byte{".private": private, ".public": key.Public().PEM()} {
		if err := os.WriteFile(p.file(site+name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func (p *pki) file(name string) string { return filepath.Join(p.dir, name) }

// renewed is the suffix of the names of files with an SAE's next certificate.
const renewed = "-renewed"

// copyCert puts a certificate and its key where a relay keeps its own: one file after the
// other, as an operator does. The files get the simulated time: in real time two changes
// may be too close to be told apart.
func (p *pki) copyCert(name, to string) error {
	for _, suffix := range []string{".crt", ".key"} {
		text, err := os.ReadFile(p.file(name + suffix))
		if err == nil {
			err = os.WriteFile(to+suffix, text, 0o600)
		}
		if err == nil {
			err = os.Chtimes(to+suffix, time.Time{}, time.Now())
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (p *pki) make(t testing.TB, name string, parent *x509.Certificate, parentKey ed25519.PrivateKey) (*x509.Certificate, ed25519.PrivateKey) {
	t.Helper()
	return p.makeAs(t, name, name, parent, parentKey)
}

// makeAs makes a certificate of a subject, valid whatever the simulated time is, and its
// files.
func (p *pki) makeAs(t testing.TB, name, subject string, parent *x509.Certificate, parentKey ed25519.PrivateKey) (*x509.Certificate, ed25519.PrivateKey) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(int64(len(name)) + 1), Subject: pkix.Name{CommonName: subject},
		NotBefore: time.Date(1990, 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(2150, 1, 1, 0, 0, 0, 0, time.UTC),
		IsCA: parent == nil, BasicConstraintsValid: true,
	}
	for i := range siteNames {
		c.IPAddresses = append(c.IPAddresses, net.ParseIP(kmeIP(i)))
	}
	if parent == nil {
		parent, parentKey = c, private
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, public, parentKey)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	for suffix, b := range map[string]*pem.Block{".crt": {Type: "CERTIFICATE", Bytes: der}, ".key": {Type: "PRIVATE KEY", Bytes: pkcs8}} {
		if err := os.WriteFile(p.file(name+suffix), pem.EncodeToMemory(b), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	p.certs[name] = cert
	return cert, private
}

// server returns the TLS configuration of a KME, which knows its callers by their
// certificates.
func (p *pki) server() (*tls.Config, error) {
	pair, err := tls.LoadX509KeyPair(p.file("kme.crt"), p.file("kme.key"))
	return &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: p.roots}, err
}
