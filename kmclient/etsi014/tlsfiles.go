package etsi014

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/internal/kmhttp"
	"github.com/qkdmail/qkdmail/kmclient/textfile"
)

// tlsFiles are the PEM files of mutual TLS. They are read again when they have
// changed; if the new ones can't be used, the old ones stay in use.
type tlsFiles struct {
	cert, key, ca string // ca may be empty
	logger        *slog.Logger

	mu         sync.Mutex
	seen       [3]os.FileInfo // when they were last read
	pair       tls.Certificate
	roots      *x509.CertPool // nil: the system's
	generation int64          // how many times they have been read
	logged     string         // the last error, which is logged once
}

func openTLSFiles(cert, key, ca string, logger *slog.Logger) (*tlsFiles, error) {
	if cert == "" || key == "" {
		return nil, fmt.Errorf("%w: ETSI 014 needs a client certificate and its private key", kmclient.ErrConfig)
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
			return seen, fmt.Errorf("%w: certificate files: %w", kmclient.ErrConfig, err)
		}
	}
	return seen, nil
}

// load reads the files. seen is their state before that.
func (f *tlsFiles) load(seen [3]os.FileInfo) error {
	pair, err := textfile.KeyPair(f.cert, f.key)
	if err != nil {
		return fmt.Errorf("%w: client certificate: %w", kmclient.ErrConfig, err)
	}
	config, err := kmhttp.TLS(f.ca)
	if err != nil {
		return err
	}
	f.pair, f.roots, f.seen, f.logged = pair, config.RootCAs, seen, ""
	f.generation++
	return nil
}

// refresh reads the files again if they have changed, and returns their generation.
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
	case err.Error() != f.logged:
		f.logged = err.Error()
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

// A dialFunc connects, as a net.Dialer does.
type dialFunc func(ctx context.Context, network, address string) (net.Conn, error)

// dialer returns a function that connects to the KME with this ID, over a connection of
// dial's, within a time limit.
func (f *tlsFiles) dialer(dial dialFunc, id kmeID, limit time.Duration) dialFunc {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		limited, cancel := context.WithTimeout(ctx, limit)
		defer cancel()
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			return nil, err
		}
		conn, err := f.connect(limited, dial, f.config(host, id), network, address)
		if err != nil && limited.Err() != nil && ctx.Err() == nil {
			err = fmt.Errorf("no connection within %v: %w", limit, os.ErrDeadlineExceeded)
		}
		return conn, err
	}
}

// connect makes a connection, and starts TLS on it.
func (f *tlsFiles) connect(ctx context.Context, dial dialFunc, config *tls.Config, network, address string) (net.Conn, error) {
	raw, err := dial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	conn := tls.Client(raw, config)
	if err := conn.HandshakeContext(ctx); err != nil {
		_ = raw.Close()
		return nil, err
	}
	return conn, nil
}

// config returns the configuration of the next connection to host. It verifies the
// identity of the KME before any request is sent.
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
	// The certificate of a KME names the KME, but not always its host. If the
	// operator's own CA issued it, it is verified here, without the host name.
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

// verifyChain verifies certificates as crypto/tls does, but without the host name.
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
