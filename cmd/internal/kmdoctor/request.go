package kmdoctor

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/etsi014"
)

const (
	maxAnswer = 1 << 20  // bytes of a body
	maxHeader = 64 << 10 // bytes of an answer's header
)

// A site is a KME and a client there.
type site struct {
	base    string
	host    string // HOST:PORT
	config  *tls.Config
	client  *http.Client
	timeout time.Duration // of one request
}

func newSite(o etsi014.Options) (*site, error) {
	base, config, err := o.Endpoint()
	if err != nil {
		return nil, err
	}
	u, err := url.Parse(base)
	if err != nil {
		return nil, fmt.Errorf("%w: the KME's URL can't be parsed", kmclient.ErrConfig)
	}
	host := u.Host
	if u.Port() == "" {
		host = net.JoinHostPort(u.Hostname(), "443")
	}
	return &site{base: base, host: host, config: config, client: newClient(config), timeout: o.Timeout}, nil
}

// newClient returns a client that makes a new connection for each request. On a
// reused connection, net/http may repeat a request that has used up keys, and prints
// what a KME sends unasked. The client uses no proxy and follows no redirect.
func newClient(config *tls.Config) *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			TLSClientConfig: config, DisableKeepAlives: true, DisableCompression: true, MaxResponseHeaderBytes: maxHeader,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// A request is what is sent to a KME.
type request struct {
	method string
	sae    string // of the other side
	what   string // status, enc_keys or dec_keys
	query  string
	body   string // JSON
	keys   int    // in a good answer from enc_keys
	bits   int    // of each of them; 0: the default
}

// An answer is the outcome of a request.
type answer struct {
	err    error // why there is no whole answer
	broken bool  // because the connection was closed
	sent   bool  // the KME may have got the request
	status int
	kind   string        // content type
	took   time.Duration // without connecting
	body   []byte        // may hold keys
}

func (a answer) good() bool { return a.err == nil && a.status/100 == 2 }

// wipe clears the body.
func (a answer) wipe() { clear(a.body) }

// String returns one phrase about the answer.
func (a answer) String() string {
	switch {
	case a.err != nil && a.status != 0:
		return fmt.Sprintf("HTTP %d, but no whole answer: %v", a.status, a.err)
	case a.err != nil:
		return "no answer: " + a.err.Error()
	case a.good():
		return fmt.Sprintf("HTTP %d", a.status)
	case isHTML(a.body):
		return fmt.Sprintf("HTTP %d with an HTML page", a.status)
	}
	if words := etsi014.Refusal("", a.status, a.body).Message; words != "" {
		return fmt.Sprintf("HTTP %d %s", a.status, quote(words))
	}
	return fmt.Sprintf("HTTP %d", a.status)
}

// isHTML reports whether a body is HTML (or XML): no JSON begins with "<".
func isHTML(body []byte) bool { return bytes.HasPrefix(bytes.TrimSpace(body), []byte("<")) }

// ask sends a request, and notes whether the answer keeps the rules that apply to
// all answers.
func (d *doctor) ask(ctx context.Context, at *site, q request) answer {
	a := at.ask(ctx, at.client, q)
	d.log.LogAttrs(ctx, slog.LevelDebug, "asked the KME", slog.String("kme", at.host), slog.String("method", q.method),
		slog.String("what", q.what), slog.Int("status", a.status), slog.Any("error", a.err))
	switch {
	case a.err != nil:
		if refused := a.status != 0 && a.status/100 != 2; a.sent && !refused && q.keys > 0 {
			d.report.KeysLost += q.keys
			d.spent += d.cost(q)
			d.lost = append(d.lost, d.current)
		}
	case a.good():
		d.times.note(q, a.took)
		d.contentTypes.note(contentTypeFault(a.kind))
	default:
		d.errorBodies.note(errorBodyFault(a))
	}
	return a
}

// ask sends a request. Its timeout includes connecting.
func (s *site) ask(ctx context.Context, client *http.Client, q request) (a answer) {
	path, err := etsi014.Path(q.sae, q.what)
	if err != nil {
		return answer{err: err}
	}
	var sent atomic.Bool
	var connected atomic.Int64 // in nanoseconds since begun
	begun := time.Now()
	limited, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	traced := httptrace.WithClientTrace(limited, &httptrace.ClientTrace{
		GotConn:      func(httptrace.GotConnInfo) { connected.Store(int64(time.Since(begun))) },
		WroteHeaders: func() { sent.Store(true) },
	})
	defer func() {
		a.sent, a.took = sent.Load(), time.Since(begun)-time.Duration(connected.Load())
		if a.err != nil {
			a.broken = isClosed(a.err)
			a.err = cause(a.err, s.timeout)
		}
	}()
	if q.query != "" {
		path += "?" + q.query
	}
	r, err := http.NewRequestWithContext(traced, q.method, s.base+path, strings.NewReader(q.body))
	if err != nil {
		return answer{err: err}
	}
	r.Header.Set("Accept", "application/json")
	if q.body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	got, err := client.Do(r)
	if err != nil {
		return answer{err: err}
	}
	defer func() { _ = got.Body.Close() }()
	body, err := readBody(got.Body)
	return answer{err: err, status: got.StatusCode, kind: got.Header.Get("Content-Type"), body: body}
}

// errTooLarge means that the body of an answer is larger than any should be.
var errTooLarge = fmt.Errorf("an answer of over %d bytes", maxAnswer)

// readBody reads a body to its end, without a copy elsewhere in memory.
func readBody(r io.Reader) ([]byte, error) {
	buf := make([]byte, maxAnswer+1)
	n := 0
	for n < len(buf) {
		m, err := r.Read(buf[n:])
		n += m
		if err == io.EOF {
			return buf[:n], nil
		}
		if err != nil {
			clear(buf)
			return nil, err
		}
	}
	clear(buf)
	return nil, errTooLarge
}

// isClosed reports whether the other side has closed the connection.
func isClosed(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	return errors.Is(err, io.EOF) || ok && (op.Op == "read" || op.Op == "write") && !op.Timeout()
}

// cause returns the network or TLS error in err. Any other error may come from
// net/http, which quotes what it can't parse as HTTP, and that may be a key.
func cause(err error, timeout time.Duration) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("nothing within %v", timeout)
	}
	if cert, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return cert
	}
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return op
	}
	for _, known := range []error{errTooLarge, context.Canceled, io.ErrUnexpectedEOF, io.EOF, http.ErrSchemeMismatch} {
		if errors.Is(err, known) {
			return known
		}
	}
	if n, ok := errors.AsType[net.Error](err); ok && n.Timeout() {
		return fmt.Errorf("nothing within %v", timeout)
	}
	return errors.New("the connection broke or the answer is not HTTP")
}
