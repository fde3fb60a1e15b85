// Package kmhttp makes requests to a key manager over HTTP, within bounds, and
// reads its answers: keys, a status, or a refusal in words.
package kmhttp

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
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

// An IdentityError says that a server is not the KME that it should be.
type IdentityError struct{ Want, Has string }

func (e *IdentityError) Error() string {
	return fmt.Sprintf("the server is not the KME %q: its certificate is for %s", e.Want, e.Has)
}

const (
	defaultTimeout = 30 * time.Second
	idleTimeout    = time.Minute // a key manager's own limit is often shorter; then it closes first
	ErrorLimit     = 64 << 10    // bytes of an answer that says what went wrong
	headerLimit    = 64 << 10    // bytes of an answer's header

	idleConnections = 32 // kept open to one key manager
)

// a Client sends requests to one key manager and reads its answers, within
// bounds.
type Client struct {
	base      string // URL, percent-encoded, without a slash at the end
	HTTP      *http.Client
	Transport *http.Transport                 // of http
	Timeout   time.Duration                   // of one request
	Pause     func(ctx context.Context) error // between a request and its repetition
}

// A Call is one request, and what may be done with its answer.
type Call struct {
	Op     string // as in Error.Op
	Method string
	Path   string   // percent-encoded, beneath the base
	Body   []byte   // JSON
	Limit  int64    // bytes of a good answer
	Again  bool     // asking twice does no harm
	IDs    []string // that it names: 404 speaks of these keys
}

// New returns a caller for the key manager at base. It goes there
// directly, past any HTTP proxy, and follows no redirect: keys pass between
// this host and its key manager only. HTTP/1.1 is all that one key manager
// with a handful of connections needs.
func New(base string, tlsConfig *tls.Config, timeout time.Duration) *Client {
	if timeout <= 0 {
		timeout = defaultTimeout
	}
	connect := 2 * timeout // may go on after its request, whose own limit comes first
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

// TLS returns TLS 1.2 or later that trusts the CAs of a PEM file, or the
// system's where caFile is empty.
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

// Do returns the HTTP status and the body of a good (2xx) answer, which may
// hold keys and is the caller's to clear. A call that may be made again is
// tried a second time after what may have been a hiccup.
func (c *Client) Do(ctx context.Context, q Call) (status int, body []byte, err *kmclient.Error) {
	status, body, err = c.once(ctx, q)
	if err == nil || !q.Again || !hiccup(ctx, err) || c.Pause(ctx) != nil {
		return status, body, err
	}
	return c.once(ctx, q)
}

// hiccup reports whether the same request may well succeed in a moment. It is
// not worth a second wait where the first was as long as it may be.
func hiccup(ctx context.Context, err *kmclient.Error) bool {
	switch err.Status {
	case 0:
		return ctx.Err() == nil && !errors.Is(err, os.ErrDeadlineExceeded)
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// ShortPause waits 100 to 300 ms, so that the processes that a key manager's
// restart has cut off don't all come back at the same moment.
func ShortPause(ctx context.Context) error {
	t := time.NewTimer(100*time.Millisecond + rand.N(200*time.Millisecond))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c *Client) once(ctx context.Context, q Call) (int, []byte, *kmclient.Error) {
	limited, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	traced, sent := traceSent(limited)
	resp, err := c.send(traced, q)
	if err != nil {
		return 0, nil, c.noAnswer(ctx, limited, q.Op, sent.Load(), err)
	}
	defer func() { _ = resp.Body.Close() }()

	good := resp.StatusCode/100 == 2
	limit := q.Limit
	if !good {
		limit = ErrorLimit
	}
	// A body read to its end is what lets the connection serve again.
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

// traceSent tells whether a request may have reached its server. Until its
// header has been written whole, no server can have acted on it.
func traceSent(ctx context.Context) (context.Context, *atomic.Bool) {
	var sent atomic.Bool
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GetConn:      func(string) { sent.Store(false) }, // net/http starts over only where nothing was written
		WroteHeaders: func() { sent.Store(true) },
	}), &sent
}

func (c *Client) send(ctx context.Context, q Call) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, q.Method, c.base+q.Path, bytes.NewReader(q.Body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json")
	if q.Body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	return c.HTTP.Do(req)
}

// noAnswer is the error for a request without a whole answer. The end of the
// caller's own context stays visible to errors.Is; that of the time for one
// request is a time-out like those of the network. sent says that the key
// manager may have had the request.
func (c *Client) noAnswer(ctx, limited context.Context, op string, sent bool, err error) *kmclient.Error {
	if alert := certificateAlert(err); alert != nil {
		return &kmclient.Error{Op: op, Err: fmt.Errorf("%w: it does not take the client certificate: %w", kmclient.ErrRefused, alert)}
	}
	switch {
	case ctx.Err() != nil:
		err = ctx.Err()
	case limited.Err() != nil:
		err = fmt.Errorf("no whole answer within %v: %w", c.Timeout, os.ErrDeadlineExceeded)
	default:
		err = networkCause(err)
	}
	return &kmclient.Error{Op: op, Retry: true, Err: fmt.Errorf("%w: %w", kmclient.ErrUnavailable, err), Lost: sent}
}

// certificateAlert returns the TLS alert with which a server turned down the
// client's certificate, if err is one. With TLS 1.3 it arrives after the
// request has been sent, which the server has then not read.
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

// networkCause returns what the network, TLS or the operating system said.
// Anything else comes from net/http, which quotes what it could not parse as
// HTTP: that may be a key.
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

// The operations, as Error.Op names them.
const (
	OpStatus   = "status"
	OpGetKeys  = "get keys"
	OpKeysByID = "keys by ID"
	OpCloseKey = "close key"
	OpListKeys = "list keys"
)
