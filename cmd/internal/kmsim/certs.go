package kmsim

import (
	"cmp"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/textfile"
)

// Certs is a folder with the certificates of KMEs and SAEs and their private
// keys. They are for development: whoever has the CA's key can pose as any SAE.
type Certs string

// CertOptions are the choices of [Certs.Make].
type CertOptions struct {
	KMEs    []string      // IDs; KME_A and KME_B if nil
	SAEs    []string      // IDs; SAE_A and SAE_B if nil
	Hosts   []string      // names and IP addresses of the KMEs besides localhost, 127.0.0.1 and ::1
	Valid   time.Duration // of the KMEs' and SAEs' certificates; 365 days if zero
	CAValid time.Duration // of the CA's; 3,650 days if zero
}

const (
	day       = 24 * time.Hour
	maxCN     = 64 // bytes of a common name (RFC 5280, ub-common-name)
	backdated = 5 * time.Minute
)

// CA returns the path of the CA's certificate.
func (c Certs) CA() string { return filepath.Join(string(c), "ca.crt") }

// Of returns the paths of the certificate and private key of a KME or SAE.
func (c Certs) Of(id string) (cert, key string) {
	base := filepath.Join(string(c), fileName(id))
	return base + ".crt", base + ".key"
}

// ServerTLS returns the configuration of a KME for mutual TLS, 1.2 or later.
func (c Certs) ServerTLS(kme string) (*tls.Config, error) {
	pair, err := textfile.KeyPair(c.Of(kme))
	if err != nil {
		return nil, fmt.Errorf("%w: certificate of the KME: %w", kmclient.ErrConfig, err)
	}
	pool, err := textfile.CAs(c.CA())
	if err != nil {
		return nil, fmt.Errorf("%w: CA of the clients: %w", kmclient.ErrConfig, err)
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair},
		ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert,
	}, nil
}

// Make makes a CA and, signed by it, a certificate for each KME and SAE, with
// ECDSA keys on P-256 and the ID as common name. It returns the names of the
// files it has written to the folder (made with mode 0700 if it does not
// exist): ca.crt and ca.key, and for SAE_A sae_a.crt and sae_a.key, that is,
// the ID in lower case with "_" for characters that are unsafe in a file name.
// Keys have mode 0600. If two IDs have the same file name, or a file exists,
// Make returns an error and writes nothing.
func (c Certs) Make(o CertOptions) ([]string, error) {
	if o.KMEs == nil {
		o.KMEs = []string{"KME_A", "KME_B"}
	}
	if o.SAEs == nil {
		o.SAEs = []string{"SAE_A", "SAE_B"}
	}
	o.Valid, o.CAValid = cmp.Or(o.Valid, 365*day), cmp.Or(o.CAValid, 3650*day)
	if o.Valid < 0 || o.CAValid < 0 {
		return nil, fmt.Errorf("%w: a negative validity", kmclient.ErrConfig)
	}
	ca, err := newCA(o.CAValid)
	if err != nil {
		return nil, err
	}
	files, owners := ca.files("ca"), map[string]string{"ca": "of the CA"}
	add := func(id string, t *x509.Certificate) error {
		name, err := newFileName(id, owners)
		if err != nil {
			return err
		}
		leaf, err := ca.issue(t)
		if err != nil {
			return err
		}
		files = append(files, leaf.files(name)...)
		return nil
	}
	for _, id := range o.KMEs {
		if err := add(id, kmeTemplate(id, o)); err != nil {
			return nil, err
		}
	}
	for _, id := range o.SAEs {
		if err := add(id, template(id, o.Valid, x509.ExtKeyUsageClientAuth)); err != nil {
			return nil, err
		}
	}
	return writeFiles(string(c), files)
}

// newFileName returns the file name for an ID, without its extension, and
// records its owner.
func newFileName(id string, owners map[string]string) (string, error) {
	if err := checkEntityID(id); err != nil {
		return "", err
	}
	if len(id) > maxCN {
		return "", fmt.Errorf("%w: ID %q: a certificate's common name has at most %d bytes", kmclient.ErrConfig, id, maxCN)
	}
	name := fileName(id)
	if other, taken := owners[name]; taken {
		return "", fmt.Errorf("%w: the file of %q would be %s.crt, which is that %s", kmclient.ErrConfig, id, name, other)
	}
	owners[name] = fmt.Sprintf("of %q", id)
	return name, nil
}

// fileName turns an ID into a file name that is safe everywhere.
func fileName(id string) string {
	name := strings.Map(func(r rune) rune {
		switch {
		case r >= 'A' && r <= 'Z':
			return r + 'a' - 'A'
		case r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '_' || r == '-' || r == '.':
			return r
		}
		return '_'
	}, id)
	if strings.HasPrefix(name, ".") || strings.HasPrefix(name, "-") { // hidden, or an option of a command
		name = "_" + name[1:]
	}
	return name
}

// A holder has a certificate and its key.
type holder struct {
	cert            *x509.Certificate
	key             *ecdsa.PrivateKey
	certPEM, keyPEM []byte
}

func template(id string, valid time.Duration, usage x509.ExtKeyUsage) *x509.Certificate {
	now := time.Now()
	return &x509.Certificate{
		Subject:   pkix.Name{CommonName: id},
		NotBefore: now.Add(-backdated), NotAfter: now.Add(valid),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{usage},
		BasicConstraintsValid: true,
	}
}

func kmeTemplate(id string, o CertOptions) *x509.Certificate {
	t := template(id, o.Valid, x509.ExtKeyUsageServerAuth)
	for _, host := range append([]string{"localhost", "127.0.0.1", "::1"}, o.Hosts...) {
		if ip := net.ParseIP(host); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
		} else {
			t.DNSNames = append(t.DNSNames, host)
		}
	}
	return t
}

func newCA(valid time.Duration) (*holder, error) {
	t := template("qkdmail development CA", valid, 0)
	t.IsCA, t.MaxPathLenZero, t.ExtKeyUsage = true, true, nil
	t.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	return (&holder{}).issue(t)
}

// issue makes a key and signs a certificate for it. The zero holder makes a
// self-signed one.
func (h *holder) issue(t *x509.Certificate) (*holder, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	parent, signer := h.cert, h.key
	if signer == nil {
		parent, signer = t, key
	}
	der, err := x509.CreateCertificate(rand.Reader, t, parent, &key.PublicKey, signer)
	if err != nil {
		return nil, fmt.Errorf("certificate of %q: %w", t.Subject.CommonName, err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return &holder{
		cert: cert, key: key,
		certPEM: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		keyPEM:  pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}),
	}, nil
}

// A certFile is a file to be written.
type certFile struct {
	name string
	mode fs.FileMode
	text []byte
}

func (h *holder) files(base string) []certFile {
	return []certFile{{base + ".crt", 0o644, h.certPEM}, {base + ".key", 0o600, h.keyPEM}}
}

// writeFiles writes new files, either all or none.
func writeFiles(dir string, files []certFile) (names []string, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			for _, name := range names {
				_ = os.Remove(filepath.Join(dir, name))
			}
			names = nil
		}
	}()
	for _, f := range files {
		file, err := os.OpenFile(filepath.Join(dir, f.name), os.O_CREATE|os.O_EXCL|os.O_WRONLY, f.mode)
		if err != nil {
			return names, err
		}
		names = append(names, f.name)
		_, err = file.Write(f.text)
		if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
			return names, err
		}
	}
	return names, nil
}
