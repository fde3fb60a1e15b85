package pgtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// TLS makes the server offer TLS, with a certificate for 127.0.0.1 and localhost that
// is its own CA, and returns the file of that CA and that of another one.
func (s *Server) TLS() (ca, foreign string) {
	s.t.Helper()
	cert, key := filepath.Join(s.dir, "db.crt"), filepath.Join(s.dir, "db.key")
	ca, foreign = filepath.Join(s.t.TempDir(), "ca.crt"), filepath.Join(s.t.TempDir(), "ca.crt")
	certPEM, keyPEM := s.selfSigned()
	otherPEM, _ := s.selfSigned()
	for path, text := range map[string][]byte{cert: certPEM, key: keyPEM, ca: certPEM, foreign: otherPEM} {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			s.t.Fatal(err)
		}
	}
	if owner, _ := serverAccount(); owner != nil {
		for _, path := range []string{cert, key} { // the server refuses a key of another user
			if err := os.Chown(path, owner.uid, owner.gid); err != nil {
				s.t.Fatal(err)
			}
		}
	}
	s.Restart("ssl=on", "ssl_cert_file="+cert, "ssl_key_file="+key)
	return ca, foreign
}

// selfSigned returns a certificate and its private key in PEM.
func (s *Server) selfSigned() (cert, private []byte) {
	s.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		s.t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		s.t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "db"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost"},
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		s.t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}
