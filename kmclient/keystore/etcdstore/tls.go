package etcdstore

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"sync/atomic"

	"google.golang.org/grpc/credentials"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/textfile"
)

// tlsConfig returns how connections are secured, nil if they are not.
func (o *Options) tlsConfig() (*tls.Config, error) {
	switch {
	case o.TLS != nil && o.hasFiles():
		return nil, fmt.Errorf("%w: etcd: certificate files and a TLS configuration exclude each other", kmclient.ErrConfig)
	case !o.hasFiles():
		return o.TLS, nil
	case (o.CertFile == "") != (o.KeyFile == ""):
		return nil, fmt.Errorf("%w: etcd: a client certificate needs its private key, and the key its certificate", kmclient.ErrConfig)
	}
	return o.readFiles()
}

func (o *Options) hasFiles() bool { return o.CAFile != "" || o.CertFile != "" || o.KeyFile != "" }

// readFiles returns the configuration that the files make.
func (o *Options) readFiles() (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if o.CAFile != "" {
		var err error
		if config.RootCAs, err = textfile.CAs(o.CAFile); err != nil {
			return nil, fmt.Errorf("%w: etcd CA file: %w", kmclient.ErrConfig, err)
		}
	}
	if o.CertFile != "" {
		pair, err := textfile.KeyPair(o.CertFile, o.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("%w: etcd client certificate: %w", kmclient.ErrConfig, err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}

// fileCredentials read the files again for each connection.
type fileCredentials struct {
	credentials.TransportCredentials // of the configuration that was read first
	read                             func() (*tls.Config, error)
	last                             *atomic.Pointer[tls.Config]
	logger                           *slog.Logger
}

func newFileCredentials(first *tls.Config, o Options) credentials.TransportCredentials {
	c := fileCredentials{credentials.NewTLS(first), o.readFiles, &atomic.Pointer[tls.Config]{}, o.Logger}
	c.last.Store(first)
	return c
}

// ClientHandshake is called by gRPC for a new connection.
func (c fileCredentials) ClientHandshake(ctx context.Context, authority string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	if config, err := c.read(); err == nil {
		c.last.Store(config)
	} else {
		c.logger.Error("the certificate files for etcd can't be used; the old ones stay in use", "error", err)
	}
	return credentials.NewTLS(c.last.Load()).ClientHandshake(ctx, authority, conn)
}

// Clone returns a copy.
func (c fileCredentials) Clone() credentials.TransportCredentials {
	c.TransportCredentials = c.TransportCredentials.Clone()
	return c
}
