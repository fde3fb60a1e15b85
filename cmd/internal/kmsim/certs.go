package kmsim

import (
	"cmp"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
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
)

// CertOptions say whose certificates [WriteCerts] makes.
type CertOptions struct {
	KMEs    []string      // IDs; KME_A and KME_B if nil
	SAEs    []string      // IDs; SAE_A and SAE_B if nil
	Hosts   []string      // names and IP addresses of the KMEs beside localhost, 127.0.0.1 and ::1
	Valid   time.Duration // of the KMEs' and SAEs' certificates; 365 days if zero
	CAValid time.Duration // of the CA's; 3,650 days if zero
}

const (
	day       = 24 * time.Hour
	maxCN     = 64 // octets, of a common name (RFC 5280, ub-common-name)
	backdated = 5 * time.Minute
)

// pemFile is a file that is to be written.
type pemFile struct {
	name string
	mode fs.FileMode
	text []byte
}

// WriteCerts makes a CA and, signed by it, a certificate for every KME and
// SAE, with ECDSA keys on P-256 and the ID as common name. It returns the
// names of the files that it has written to dir (made with mode 0700 if it is
// not there): ca.crt and ca.key, and for SAE_A sae_a.crt and sae_a.key; that
// is, the ID in lower case with "_" for what is unsafe in a file name. Two IDs
// with the same file name are an error, and so is a file that is there
// already: then nothing is written. Keys have mode 0600.
//
// The certificates are for development: whoever has ca.key can be any SAE.
func WriteCerts(dir string, o CertOptions) ([]string, error) {
	if o.KMEs == nil {
		o.KMEs = []string{"KME_A", "KME_B"}
	}
	if o.SAEs == nil {
		o.SAEs = []string{"SAE_A", "SAE_B"}
	}
	o.Valid, o.CAValid = cmp.Or(o.Valid, 365*day), cmp.Or(o.CAValid, 3650*day)
	if o.Valid < 0 || o.CAValid < 0 {
		return nil, fmt.Errorf("%w: certificates of negative validity", kmclient.ErrConfig)
	}
	bases, err := certNames(append(o.KMEs[:len(o.KMEs):len(o.KMEs)], o.SAEs...))
	if err != nil {
		return nil, err
	}
	if err := checkAbsent(dir, append([]string{"ca"}, bases...)); err != nil {
		return nil, err
	}
	ca, err := newCA(o.CAValid)
	if err != nil {
		return nil, err
	}
	files := ca.files("ca")
	for i, id := range o.KMEs {
		leaf, err := ca.issue(kmeTemplate(id, o))
		if err != nil {
			return nil, err
		}
		files = append(files, leaf.files(bases[i])...)
	}
	for i, id := range o.SAEs {
		leaf, err := ca.issue(template(id, o.Valid, x509.ExtKeyUsageClientAuth))
		if err != nil {
			return nil, err
		}
		files = append(files, leaf.files(bases[len(o.KMEs)+i])...)
	}
	return writeFiles(dir, files)
}

// certNames returns the file name of each ID, without its end.
func certNames(ids []string) ([]string, error) {
	owner := map[string]string{"ca": "of the CA"}
	names := make([]string, len(ids))
	for i, id := range ids {
		if err := checkEntityID(id); err != nil {
			return nil, err
		}
		if len(id) > maxCN {
			return nil, fmt.Errorf("%w: ID %q: a certificate's common name has at most %d octets", kmclient.ErrConfig, id, maxCN)
		}
		name := fileName(id)
		if other, taken := owner[name]; taken {
			return nil, fmt.Errorf("%w: the file of %q would be %s.crt, which is that %s", kmclient.ErrConfig, id, name, other)
		}
		owner[name] = fmt.Sprintf("of %q", id)
		names[i] = name
	}
	return names, nil
}

// CertFiles returns the names of the files that WriteCerts makes for an ID. For
// "CA" they are those of the CA.
func CertFiles(id string) (cert, key string) {
	return fileName(id) + ".crt", fileName(id) + ".key"
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
	if strings.ContainsAny(name[:1], ".-") { // hidden, or an option of a command
		name = "_" + name[1:]
	}
	return name
}

// checkAbsent reports the files that are there already.
func checkAbsent(dir string, bases []string) error {
	var there []error
	for _, base := range bases {
		for _, end := range []string{".crt", ".key"} {
			path := filepath.Join(dir, base+end)
			if _, err := os.Lstat(path); err == nil {
				there = append(there, fmt.Errorf("%w: %s", fs.ErrExist, path))
			} else if !errors.Is(err, fs.ErrNotExist) {
				there = append(there, err)
			}
		}
	}
	return errors.Join(there...)
}

// A holder has a certificate and its key.
type holder struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  [2][]byte // certificate, key
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

// issue makes a key and signs a certificate for it; the zero holder lets it
// sign itself.
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
	return &holder{cert: cert, key: key, pem: [2][]byte{
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}),
	}}, nil
}

func (h *holder) files(base string) []pemFile {
	return []pemFile{{base + ".crt", 0o644, h.pem[0]}, {base + ".key", 0o600, h.pem[1]}}
}

// writeFiles writes all files, or none if one fails.
func writeFiles(dir string, files []pemFile) (names []string, err error) {
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
