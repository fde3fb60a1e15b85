package kmclient

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
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/qkdmail/qkdmail/kmclient/textfile"
)

const (
	defaultTimeout = 30 * time.Second
	idleTimeout    = time.Minute // a key manager's own limit is often shorter; then it closes first
	errorLimit     = 64 << 10    // octets of an answer that says what went wrong
	headerLimit    = 64 << 10    // octets of an answer's header

	idleConnections = 32 // kept open to one key manager
)

// A caller sends requests to one key manager and reads its answers, within
// bounds.
type caller struct {
	base      string // URL, percent-encoded, without a slash at the end
	http      *http.Client
	transport *http.Transport                 // of http
	timeout   time.Duration                   // of one request
	pause     func(ctx context.Context) error // between a request and its repetition
}

// A call is one request, and what may be done with its answer.
type call struct {
	op     string // as in Error.Op
	method string
	path   string   // percent-encoded, beneath the base
	body   []byte   // JSON
	limit  int64    // octets of a good answer
	again  bool     // asking twice does no harm
	ids    []string // that it names: 404 speaks of these keys
}

// newCaller returns a caller for the key manager at base. It goes there
// directly, past any HTTP proxy, and follows no redirect: keys pass between
// this host and its key manager only. HTTP/1.1 is all that one key manager
// with a handful of connections needs.
func newCaller(base string, tlsConfig *tls.Config, timeout time.Duration) *caller {
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
	return &caller{
		base: base,
		http: &http.Client{
			Transport:     transport,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		transport: transport,
		timeout:   timeout,
		pause:     shortPause,
	}
}

// checkBase returns the base of a key manager's URL, without a slash at its
// end. Its errors never quote the URL, which may hold a password.
func checkBase(raw string) (base string, secure bool, err error) {
	u, err := url.Parse(raw)
	if err != nil {
		return "", false, fmt.Errorf("%w: the key manager's URL can't be parsed", ErrConfig)
	}
	port, portErr := strconv.ParseUint(u.Port(), 10, 16)
	switch {
	case u.Scheme != "http" && u.Scheme != "https", u.Hostname() == "":
		err = fmt.Errorf("%w: the key manager's URL must be http://HOST:PORT or https://HOST:PORT", ErrConfig)
	case u.User != nil:
		err = fmt.Errorf("%w: the key manager's URL must hold no user or password", ErrConfig)
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || strings.HasSuffix(raw, "#"):
		err = fmt.Errorf("%w: the key manager's URL must end with its path, without ? and #", ErrConfig)
	case climbs(u.Path):
		err = fmt.Errorf("%w: the path of the key manager's URL must have no . or .. in it", ErrConfig)
	case strings.HasSuffix(u.Host, ":") || u.Port() != "" && (portErr != nil || port == 0):
		err = fmt.Errorf("%w: the port of the key manager's URL must be 1 to 65535", ErrConfig)
	}
	return strings.TrimRight(u.String(), "/"), u.Scheme == "https", err
}

// checkKMEBase is checkBase for a KME, which speaks TLS only.
func checkKMEBase(raw string) (base string, err error) {
	base, secure, err := checkBase(raw)
	if !secure {
		return "", fmt.Errorf("%w: the URL of a KME must be https://HOST:PORT, since ETSI GS QKD 014 is over mutual TLS", ErrConfig)
	}
	return base, err
}

// climbs reports whether a path has a segment that RFC 3986 §5.2.4 would
// remove, together with the one before.
func climbs(path string) bool {
	for s := range strings.FieldsFuncSeq(path, func(r rune) bool { return r == '/' || r == '\\' }) {
		if s == "." || s == ".." {
			return true
		}
	}
	return false
}

// loadTLS returns TLS 1.2 or later that trusts the CAs of a PEM file, or the
// system's where caFile is empty.
func loadTLS(caFile string) (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if caFile == "" {
		return config, nil
	}
	var err error
	if config.RootCAs, err = textfile.CAs(caFile); err != nil {
		return nil, fmt.Errorf("%w: CA file: %w", ErrConfig, err)
	}
	return config, nil
}

// do returns the HTTP status and the body of a good (2xx) answer, which may
// hold keys and is the caller's to clear. A call that may be made again is
// tried a second time after what may have been a hiccup.
func (c *caller) do(ctx context.Context, q call) (status int, body []byte, err *Error) {
	status, body, err = c.once(ctx, q)
	if err == nil || !q.again || !hiccup(ctx, err) || c.pause(ctx) != nil {
		return status, body, err
	}
	return c.once(ctx, q)
}

// hiccup reports whether the same request may well succeed in a moment. It is
// not worth a second wait where the first was as long as it may be.
func hiccup(ctx context.Context, err *Error) bool {
	switch err.Status {
	case 0:
		return ctx.Err() == nil && !errors.Is(err, os.ErrDeadlineExceeded)
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// shortPause waits 100 to 300 ms, so that the processes that a key manager's
// restart has cut off don't all come back at the same moment.
func shortPause(ctx context.Context) error {
	t := time.NewTimer(100*time.Millisecond + rand.N(200*time.Millisecond))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c *caller) once(ctx context.Context, q call) (int, []byte, *Error) {
	limited, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	traced, sent := traceSent(limited)
	resp, err := c.send(traced, q)
	if err != nil {
		return 0, nil, c.noAnswer(ctx, limited, q.op, sent.Load(), err)
	}
	defer func() { _ = resp.Body.Close() }()

	good := resp.StatusCode/100 == 2
	limit := q.limit
	if !good {
		limit = errorLimit
	}
	// A body read to its end is what lets the connection serve again.
	body, err := readBounded(resp.Body, resp.ContentLength, limit)
	switch {
	case good && err == nil:
		return resp.StatusCode, body, nil
	case good && errors.Is(err, ErrBadAnswer):
		return 0, nil, &Error{Op: q.op, Status: resp.StatusCode, Err: err}
	case good:
		return 0, nil, c.noAnswer(ctx, limited, q.op, true, err)
	}
	return 0, nil, refusal(q, resp.StatusCode, resp.Header, body)
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

func (c *caller) send(ctx context.Context, q call) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, q.method, c.base+q.path, bytes.NewReader(q.body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json")
	if q.body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	return c.http.Do(req)
}

// noAnswer is the error for a request without a whole answer. The end of the
// caller's own context stays visible to errors.Is; that of the time for one
// request is a time-out like those of the network. sent says that the key
// manager may have had the request.
func (c *caller) noAnswer(ctx, limited context.Context, op string, sent bool, err error) *Error {
	if alert := certificateAlert(err); alert != nil {
		return &Error{Op: op, Err: fmt.Errorf("%w: it does not take the client certificate: %w", ErrRefused, alert)}
	}
	switch {
	case ctx.Err() != nil:
		err = ctx.Err()
	case limited.Err() != nil:
		err = fmt.Errorf("no whole answer within %v: %w", c.timeout, os.ErrDeadlineExceeded)
	default:
		err = networkCause(err)
	}
	return &Error{Op: op, Retry: true, Err: fmt.Errorf("%w: %w", ErrUnavailable, err), lost: sent}
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
	if id, ok := errors.AsType[*identityError](err); ok {
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

// readBounded reads r to its end. announced is its length, where known. It
// leaves no copy behind as it grows: what it reads may be keys.
func readBounded(r io.Reader, announced, limit int64) ([]byte, error) {
	tooLarge := fmt.Errorf("%w: over %d octets", ErrBadAnswer, limit)
	if announced > limit {
		return nil, tooLarge
	}
	buf := make([]byte, 0, max(announced, 511)+1) // room for the read that meets the end
	for {
		n, err := r.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		switch {
		case int64(len(buf)) > limit:
			clear(buf)
			return nil, tooLarge
		case err == io.EOF:
			return buf, nil
		case err != nil:
			clear(buf)
			return nil, err
		case len(buf) == cap(buf):
			grown := make([]byte, len(buf), 2*cap(buf))
			copy(grown, buf)
			clear(buf)
			buf = grown
		}
	}
}
