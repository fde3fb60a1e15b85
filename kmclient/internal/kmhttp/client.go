// Package kmhttp makes requests to key managers over HTTP, with limits of time and
// size, and decodes their answers: keys, a status, or a refusal in words.
package kmhttp

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/internal/keyjson"
	"github.com/qkdmail/qkdmail/kmclient/textfile"
)

// An IdentityError reports that a server is not the KME it should be.
type IdentityError struct{ Want, Has string }

func (e *IdentityError) Error() string {
	return fmt.Sprintf("the server is not the KME %q: its certificate is for %s", e.Want, e.Has)
}

const (
	defaultTimeout = 30 * time.Second
	idleTimeout    = time.Minute // many key managers close a connection earlier
	headerLimit    = 64 << 10    // bytes of an answer's header

	idleConnections = 32 // kept open to one key manager
)

// ErrorLimit is the size limit, in bytes, of a refusal, and of the answer to CloseKey.
const ErrorLimit = 64 << 10

// A Client sends requests to one key manager.
type Client struct {
	base      string // URL, percent-encoded, without a slash at the end
	HTTP      *http.Client
	Transport *http.Transport                 // of HTTP
	Timeout   time.Duration                   // of one request
	Pause     func(ctx context.Context) error // before a request is repeated
	reached   atomic.Pointer[kmclient.Connection]
}

// A Call is one request.
type Call struct {
	Op     string // as in kmclient.Error
	Method string
	Path   string   // after the base, percent-encoded
	Body   []byte   // JSON
	Limit  int64    // bytes of a good answer
	Again  bool     // the request may be repeated
	Once   bool     // a GET that must not be repeated, not even by net/http
	IDs    []string // of the keys that it asks for by ID
}

// New returns a client of the key manager at base. It uses no HTTP proxy and
// follows no redirect, so that keys pass between this host and its key manager
// only. It speaks HTTP/1.1, which is enough for a few connections.
func New(base string, tlsConfig *tls.Config, timeout time.Duration) *Client {
	if timeout <= 0 {
		timeout = defaultTimeout
	}
	connect := 2 * timeout // a connection may outlive the request it was made for
	transport := &http.Transport{
		TLSClientConfig:        tlsConfig,
		DialContext:            (&net.Dialer{Timeout: connect}).DialContext,
		TLSHandshakeTimeout:    connect,
		DisableCompression:     true,
		MaxIdleConnsPerHost:    idleConnections,
		IdleConnTimeout:        idleTimeout,
		MaxResponseHeaderBytes: headerLimit,
	}
	return &Client{
		base: base,
		HTTP: &http.Client{
			Transport:     transport,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		Transport: transport,
		Timeout:   timeout,
		Pause:     ShortPause,
	}
}

// TLS returns a configuration of TLS 1.2 or later that trusts the CAs of a PEM file,
// or those of the system if caFile is empty.
func TLS(caFile string) (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if caFile == "" {
		return config, nil
	}
	var err error
	if config.RootCAs, err = textfile.CAs(caFile); err != nil {
		return nil, fmt.Errorf("%w: CA file: %w", kmclient.ErrConfig, err)
	}
	return config, nil
}

// Do makes a call, and returns the HTTP status and the body of a good (2xx) answer. The
// body may hold keys, so the caller clears it. If the call may be repeated, it is made
// a second time after an error that may pass.
func (c *Client) Do(ctx context.Context, q Call) (status int, body []byte, err *kmclient.Error) {
	status, body, err = c.once(ctx, q)
	if err == nil || !q.Again || !passes(ctx, err) || c.Pause(ctx) != nil {
		return status, body, err
	}
	return c.once(ctx, q)
}

// passes reports whether the same request may soon succeed. A request that used all its
// time is not repeated, since the second wait would be as long.
func passes(ctx context.Context, err *kmclient.Error) bool {
	switch err.Status {
	case 0:
		return ctx.Err() == nil && !errors.Is(err, os.ErrDeadlineExceeded)
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// ShortPause waits for 100 to 300 ms, so that not all clients of a key manager that
// restarts come back at the same moment.
func ShortPause(ctx context.Context) error {
	var b [2]byte
	_, _ = rand.Read(b[:]) // never fails; a test can make it repeatable
	t := time.NewTimer(100*time.Millisecond + 200*time.Millisecond*time.Duration(binary.BigEndian.Uint16(b[:]))/(1<<16))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// once makes one request.
func (c *Client) once(ctx context.Context, q Call) (int, []byte, *kmclient.Error) {
	limited, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	traced, sent := traceSent(limited)
	resp, err := c.send(traced, q)
	if err != nil {
		return 0, nil, c.noAnswer(ctx, limited, q.Op, sent.Load(), err)
	}
	defer func() { _ = resp.Body.Close() }()
	c.reached.Store(connection(resp))

	good := resp.StatusCode/100 == 2
	limit := q.Limit
	if !good {
		limit = ErrorLimit
	}
	// A connection can be reused once the body is read to its end.
	body, err := keyjson.Read(resp.Body, resp.ContentLength, limit)
	switch {
	case good && err == nil:
		return resp.StatusCode, body, nil
	case good && errors.Is(err, kmclient.ErrBadAnswer):
		return 0, nil, &kmclient.Error{Op: q.Op, Status: resp.StatusCode, Err: err}
	case good:
		return 0, nil, c.noAnswer(ctx, limited, q.Op, true, err)
	}
	return 0, nil, Refusal(q, resp.StatusCode, resp.Header, body)
}

// connection tells how an answer came.
func connection(resp *http.Response) *kmclient.Connection {
	c := &kmclient.Connection{KME: resp.Request.URL.Host}
	if resp.TLS != nil {
		c.TLS, c.Group = tls.VersionName(resp.TLS.Version), resp.TLS.CurveID.String()
	}
	return c
}

// Reached tells how the last answer came; nil if there was none yet.
func (c *Client) Reached() *kmclient.Connection { return c.reached.Load() }

// traceSent returns a context for a request, and whether it may have reached the
// server: no server acts on it before its whole header is written.
func traceSent(ctx context.Context) (context.Context, *atomic.Bool) {
	var sent atomic.Bool
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GetConn:      func(string) { sent.Store(false) }, // net/http starts over only if nothing was written, unless it may repeat the request
		WroteHeaders: func() { sent.Store(true) },
	}), &sent
}

func (c *Client) send(ctx context.Context, q Call) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, q.Method, c.base+q.Path, bytes.NewReader(q.Body))
	if err != nil {
		return nil, err
	}
	if q.Once {
		// net/http repeats a GET after a kept connection ends without an answer, unless
		// there is a body that it can't read again. An empty body is not sent.
		req.Body, req.GetBody = io.NopCloser(bytes.NewReader(nil)), nil
	}
	req.Header.Set("Accept", "application/json")
	if q.Body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	return c.HTTP.Do(req)
}

// noAnswer returns the error for a request without a whole answer. If the caller's
// context has ended, it wraps the cause. If the time for one request has passed, it is
// a time-out, like those of the network. sent means that the key manager may have got
// the request.
func (c *Client) noAnswer(ctx, limited context.Context, op string, sent bool, err error) *kmclient.Error {
	if alert := certificateAlert(err); alert != nil {
		return &kmclient.Error{Op: op, Err: fmt.Errorf("%w: it does not accept the client certificate: %w", kmclient.ErrRefused, alert)}
	}
	switch {
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	case limited.Err() != nil:
		err = fmt.Errorf("no whole answer within %v: %w", c.Timeout, os.ErrDeadlineExceeded)
	default:
		err = networkCause(err)
	}
	return &kmclient.Error{Op: op, Retry: true, Err: fmt.Errorf("%w: %w", kmclient.ErrUnavailable, err), Lost: sent}
}

// certificateAlert returns err if it is a TLS alert that refuses the client's
// certificate. With TLS 1.3 it arrives after the request has been sent, but the
// server has not read the request.
func certificateAlert(err error) error {
	op, ok := errors.AsType[*net.OpError](err)
	if !ok || op.Op != "remote error" {
		return nil
	}
	for _, words := range []string{"certificate", "access denied", "unknown certificate authority"} {
		if strings.Contains(op.Err.Error(), words) {
			return op
		}
	}
	return nil
}

// networkCause returns the error of the network, TLS or the operating system in err.
// Any other error comes from net/http, which quotes what it can't parse as HTTP; that
// may be a key.
func networkCause(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err
	}
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return op
	}
	if cert, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return cert
	}
	if id, ok := errors.AsType[*IdentityError](err); ok {
		return id
	}
	if n, ok := errors.AsType[net.Error](err); ok {
		return n
	}
	for _, known := range []error{io.ErrUnexpectedEOF, io.EOF, http.ErrSchemeMismatch} {
		if errors.Is(err, known) {
			return known
		}
	}
	return errors.New("the connection broke or the answer is not HTTP")
}

// The operations, as in kmclient.Error.
const (
	OpStatus   = "status"
	OpGetKeys  = "get keys"
	OpKeysByID = "keys by ID"
	OpCloseKey = "close key"
)
