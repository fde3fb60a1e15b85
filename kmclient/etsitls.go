package kmclient

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/qkdmail/qkdmail/kmclient/textfile"
)

// tlsFiles are the PEM files of mutual TLS. They are read again when they have
// changed; what can't be used then leaves the old ones in use.
type tlsFiles struct {
	cert, key, ca string // ca may be empty
	logger        *slog.Logger

	mu         sync.Mutex
	seen       [3]os.FileInfo // as of the last good reading
	pair       tls.Certificate
	roots      *x509.CertPool // nil: the system's
	generation int64
	complaint  string // the last one, not to be repeated
}

func openTLSFiles(cert, key, ca string, logger *slog.Logger) (*tlsFiles, error) {
	if cert == "" || key == "" {
		return nil, fmt.Errorf("%w: ETSI 014 needs a client certificate and its private key", ErrConfig)
	}
	f := &tlsFiles{cert: cert, key: key, ca: ca, logger: logger}
	seen, err := f.stat()
	if err == nil {
		err = f.load(seen)
	}
	return f, err
}

func (f *tlsFiles) stat() (seen [3]os.FileInfo, err error) {
	for i, name := range []string{f.cert, f.key, f.ca} {
		if name == "" {
			continue
		}
		if seen[i], err = os.Stat(name); err != nil {
			return seen, fmt.Errorf("%w: certificate files: %w", ErrConfig, err)
		}
	}
	return seen, nil
}

// load reads the files, which are as seen or newer.
func (f *tlsFiles) load(seen [3]os.FileInfo) error {
	pair, err := textfile.KeyPair(f.cert, f.key)
	if err != nil {
		return fmt.Errorf("%w: client certificate: %w", ErrConfig, err)
	}
	config, err := loadTLS(f.ca)
	if err != nil {
		return err
	}
	f.pair, f.roots, f.seen, f.complaint = pair, config.RootCAs, seen, ""
	f.generation++
	return nil
}

// refresh reads the files again if they have changed, and returns a number
// that is another one then.
func (f *tlsFiles) refresh() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	seen, err := f.stat()
	if err == nil && sameFiles(seen, f.seen) {
		return f.generation
	}
	if err == nil {
		err = f.load(seen)
	}
	switch {
	case err == nil:
		f.logger.Info("the certificate files have changed; new connections use them", "certificate", f.cert)
	case err.Error() != f.complaint:
		f.complaint = err.Error()
		f.logger.Error("the certificate files have changed and can't be used; the old ones stay in use", "error", err)
	}
	return f.generation
}

func sameFiles(a, b [3]os.FileInfo) bool {
	for i := range a {
		if a[i] == nil && b[i] == nil {
			continue
		}
		if a[i].Size() != b[i].Size() || !a[i].ModTime().Equal(b[i].ModTime()) || !os.SameFile(a[i], b[i]) {
			return false
		}
	}
	return true
}

// dialer returns what connects to the KME with this ID, within a time.
func (f *tlsFiles) dialer(id kmeID, limit time.Duration) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		limited, cancel := context.WithTimeout(ctx, limit)
		defer cancel()
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			return nil, err
		}
		conn, err := (&tls.Dialer{Config: f.config(host, id)}).DialContext(limited, network, address)
		if err != nil && limited.Err() != nil && ctx.Err() == nil {
			err = fmt.Errorf("no connection within %v: %w", limit, os.ErrDeadlineExceeded)
		}
		return conn, err
	}
}

// config returns what the next connection to host uses. It has verified the
// KME's identity before any request is sent.
func (f *tlsFiles) config(host string, id kmeID) *tls.Config {
	f.mu.Lock()
	defer f.mu.Unlock()
	config := &tls.Config{
		MinVersion:   tls.VersionTLS12,
		Certificates: []tls.Certificate{f.pair},
		RootCAs:      f.roots,
		ServerName:   host,
	}
	if id.value == "" {
		return config
	}
	roots := f.roots
	// A KME's certificate names the KME, not always its host. One that a CA of
	// the operator's own has issued is verified here, but for the host name.
	config.InsecureSkipVerify = roots != nil
	config.VerifyConnection = func(s tls.ConnectionState) error {
		if roots != nil {
			if err := verifyChain(s.PeerCertificates, roots); err != nil {
				return err
			}
		}
		return id.check(s.PeerCertificates[0])
	}
	return config
}

// verifyChain does what crypto/tls does but for the host name.
func verifyChain(certs []*x509.Certificate, roots *x509.CertPool) error {
	between := x509.NewCertPool()
	for _, c := range certs[1:] {
		between.AddCert(c)
	}
	if _, err := certs[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: between}); err != nil {
		return &tls.CertificateVerificationError{UnverifiedCertificates: certs, Err: err}
	}
	return nil
}

// A kmeID is the ID of a KME, and where in its certificate it must be: "cn",
// "uri", "dns", "serial" or, if empty, any but the certificate's own serial
// number, which may be as short as the ID of another KME.
type kmeID struct{ field, value string }

// identityError says that a server is not the KME that it should be.
type identityError struct{ want, has string }

func (e *identityError) Error() string {
	return fmt.Sprintf("the server is not the KME %q: its certificate is for %s", e.want, e.has)
}

// parseKMEIDs reads one ID for n KMEs, or n IDs between commas, or none.
func parseKMEIDs(text string, n int) ([]kmeID, error) {
	ids := make([]kmeID, n)
	if text == "" {
		return ids, nil
	}
	parts := strings.Split(text, ",")
	if len(parts) != 1 && len(parts) != n {
		return nil, fmt.Errorf("%w: %s: %d KME IDs for %d KMEs", ErrConfig, printable(text), len(parts), n)
	}
	for i := range ids {
		id := kmeID{value: strings.TrimSpace(parts[i%len(parts)])}
		if field, value, ok := strings.Cut(id.value, ":"); ok {
			switch field = strings.ToLower(field); field {
			case "cn", "uri", "dns", "serial":
				id = kmeID{field, value}
			}
		}
		if id.value == "" {
			return nil, fmt.Errorf("%w: %s: an empty KME ID", ErrConfig, printable(text))
		}
		ids[i] = id
	}
	return ids, nil
}

// check returns an error unless cert is that of the KME.
func (id kmeID) check(cert *x509.Certificate) error {
	in := func(field string) bool { return id.field == "" || id.field == field }
	switch {
	case in("cn") && cert.Subject.CommonName == id.value,
		in("serial") && cert.Subject.SerialNumber == id.value,
		id.field == "serial" && sameSerial(cert.SerialNumber, id.value):
		return nil
	}
	for _, u := range cert.URIs {
		if in("uri") && u.String() == id.value {
			return nil
		}
	}
	for _, name := range cert.DNSNames {
		if in("dns") && strings.EqualFold(name, id.value) {
			return nil
		}
	}
	has := []string{"CN " + cert.Subject.CommonName, "serial " + cert.SerialNumber.Text(16)}
	for _, u := range cert.URIs {
		has = append(has, u.String())
	}
	return &identityError{id.value, printable(strings.Join(append(has, cert.DNSNames...), ", "))}
}

// sameSerial reports whether text is the number n, in decimal or hexadecimal,
// where colons may separate the octets.
func sameSerial(n *big.Int, text string) bool {
	if n == nil {
		return false
	}
	decimal, ok := new(big.Int).SetString(text, 10)
	if ok && decimal.Cmp(n) == 0 {
		return true
	}
	hex, ok := new(big.Int).SetString(strings.ReplaceAll(text, ":", ""), 16)
	return ok && hex.Cmp(n) == 0
}
