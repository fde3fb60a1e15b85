package etcdstore

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"sync/atomic"

	"github.com/qkdmail/qkdmail/kmclient"
)

// tlsConfig returns how connections are secured, nil if they are not.
func (o *Options) tlsConfig() (*tls.Config, error) {
	files := o.CAFile != "" || o.CertFile != "" || o.KeyFile != ""
	switch {
	case o.TLS != nil && files:
		return nil, fmt.Errorf("%w: etcd: certificate files and a TLS configuration exclude each other", kmclient.ErrConfig)
	case !files:
		return o.TLS, nil
	case (o.CertFile == "") != (o.KeyFile == ""):
		return nil, fmt.Errorf("%w: etcd: a client certificate needs its private key, and the key its certificate", kmclient.ErrConfig)
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if o.CAFile != "" {
		pem, err := os.ReadFile(o.CAFile)
		if err != nil {
			return nil, fmt.Errorf("%w: etcd CA file: %w", kmclient.ErrConfig, err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%w: etcd CA file %s holds no certificate in PEM form", kmclient.ErrConfig, o.CAFile)
		}
	}
	if o.CertFile == "" {
		return config, nil
	}
	pair, err := tls.LoadX509KeyPair(o.CertFile, o.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("%w: etcd client certificate %s and key: %w", kmclient.ErrConfig, o.CertFile, err)
	}
	var last atomic.Pointer[tls.Certificate]
	last.Store(&pair)
	config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		pair, err := tls.LoadX509KeyPair(o.CertFile, o.KeyFile)
		if err != nil {
			o.Logger.Error("the certificate files for etcd can't be used; the old ones stay in use", "error", err)
			return last.Load(), nil
		}
		last.Store(&pair)
		return &pair, nil
	}
	return config, nil
}
