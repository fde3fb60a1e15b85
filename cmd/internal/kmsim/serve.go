package kmsim

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/textfile"
)

// How long a server waits for what, and how large the header of a request may
// be, in octets.
const (
	headerTimeout   = 10 * time.Second
	readTimeout     = 30 * time.Second
	writeTimeout    = 5 * time.Minute // includes Latency and Slow
	idleTimeout     = 2 * time.Minute
	shutdownTimeout = 10 * time.Second
	maxHeader       = 16 << 10
)

// ServeOptions say how a handler is served.
type ServeOptions struct {
	TLS    *tls.Config  // nil: plain HTTP, for the QMail REST API only
	Logger *slog.Logger // for what goes wrong below HTTP, as TLS handshakes; may be nil
}

// Serve serves handler on l until ctx ends; then it gives requests that have
// begun ten seconds, and returns nil if they came to their end. It closes l.
func Serve(ctx context.Context, l net.Listener, handler http.Handler, o ServeOptions) error {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	server := &http.Server{
		Handler: handler, TLSConfig: o.TLS, MaxHeaderBytes: maxHeader,
		ReadHeaderTimeout: headerTimeout, ReadTimeout: readTimeout,
		WriteTimeout: writeTimeout, IdleTimeout: idleTimeout,
		ErrorLog: slog.NewLogLogger(o.Logger.Handler(), slog.LevelWarn),
	}
	stopped := make(chan error, 1)
	served := make(chan struct{})
	go func() {
		select {
		case <-ctx.Done():
		case <-served:
		}
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
		defer cancel()
		err := server.Shutdown(grace)
		if err != nil {
			err = errors.Join(err, server.Close())
		}
		stopped <- err
	}()
	var err error
	if o.TLS != nil {
		err = server.ServeTLS(l, "", "")
	} else {
		err = server.Serve(l)
	}
	close(served)
	if errors.Is(err, http.ErrServerClosed) {
		err = nil
	}
	return errors.Join(err, <-stopped)
}

// TLSFiles are the PEM files of a KME.
type TLSFiles struct {
	Cert, Key string // of the KME
	CA        string // of its clients
	// OptionalClientCert lets clients without a certificate connect; they get
	// a 401, as HTTP has it, instead of a failed handshake.
	OptionalClientCert bool
}

// ServerTLS returns the configuration for mutual TLS, 1.2 or later.
func ServerTLS(f TLSFiles) (*tls.Config, error) {
	pair, err := textfile.KeyPair(f.Cert, f.Key)
	if err != nil {
		return nil, fmt.Errorf("%w: certificate of the KME: %w", kmclient.ErrConfig, err)
	}
	pool, err := textfile.CAs(f.CA)
	if err != nil {
		return nil, fmt.Errorf("%w: CA of the clients: %w", kmclient.ErrConfig, err)
	}
	c := &tls.Config{
		MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair},
		ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert,
	}
	if f.OptionalClientCert {
		c.ClientAuth = tls.VerifyClientCertIfGiven
	}
	return c, nil
}

// requestAttrs is a line of the access log. It leaves out the query, and
// shortens what a caller chose.
func requestAttrs(r *http.Request, info *call, status int, took time.Duration) []slog.Attr {
	const most = 300
	path := r.URL.EscapedPath()
	if len(path) > most {
		path = path[:most] + "…"
	}
	attrs := []slog.Attr{
		slog.String("method", r.Method), slog.String("path", path), slog.String("sae", info.sae),
		slog.Int("status", status), slog.Int("keys", info.keys), slog.Duration("took", took),
	}
	if status == 0 {
		attrs = append(attrs, slog.Bool("cut", true))
	}
	return attrs
}

func levelOf(status int) slog.Level {
	if status == 0 || status >= 500 {
		return slog.LevelWarn
	}
	return slog.LevelInfo
}
