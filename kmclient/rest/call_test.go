package rest

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/internal/fakekm"
	"github.com/qkdmail/qkdmail/kmclient/internal/kmhttp"
)

func TestRepeats(t *testing.T) {
	var requests atomic.Int32
	drop := func(w http.ResponseWriter, _ *http.Request) { // cuts the connection
		requests.Add(1)
		conn, _, err := w.(http.Hijacker).Hijack()
		if err == nil {
			_ = conn.Close()
		}
	}
	r := restServer(t, drop)
	calls := map[string]struct {
		call func() error
		want int
	}{
		"status":     {func() error { _, err := r.Status(t.Context(), ""); return err }, 2},
		"keys by ID": {func() error { _, err := r.KeysByID(t.Context(), "", "a"); return err }, 2},
		"get keys":   {func() error { _, err := r.GetKeys(t.Context(), "", 256, 1); return err }, 1},
		"close key":  {func() error { return r.CloseKey(t.Context(), "a") }, 1},
	}
	for name, test := range calls {
		requests.Store(0)
		if err := test.call(); !errors.Is(err, kmclient.ErrUnavailable) {
			t.Errorf("%s on a cut connection: %v, want ErrUnavailable", name, err)
		}
		if n := int(requests.Load()); n != test.want {
			t.Errorf("%s on a cut connection: sent %d times, want %d", name, n, test.want)
		}
	}
}

func TestSecondTryHelps(t *testing.T) {
	var requests atomic.Int32
	r := restServer(t, func(w http.ResponseWriter, req *http.Request) {
		if requests.Add(1) == 1 {
			fakekm.Answer(503, "")(w, req)
			return
		}
		fakekm.Answer(200, `{"stored_key_count":1}`)(w, req)
	})
	r.caller.Pause = kmhttp.ShortPause
	if s, err := r.Status(t.Context(), ""); err != nil || fakekm.Count(s.StoredKeys) != 1 {
		t.Errorf("Status = %+v, %v: the second answer was good", s, err)
	}
}

func TestTimeAndCancel(t *testing.T) {
	release := make(chan struct{})
	var requests atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		requests.Add(1)
		_, _ = io.WriteString(w, `{"keys":[`)
		w.(http.Flusher).Flush() // the answer begins but never ends
		<-release
	}))
	defer server.Close()
	defer close(release)

	canceled, cancel := context.WithCancel(t.Context())
	time.AfterFunc(30*time.Millisecond, cancel)
	short, cancelShort := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancelShort()
	for name, test := range map[string]struct {
		ctx     context.Context
		timeout time.Duration
		want    error // besides ErrUnavailable
		not     error
	}{
		"the caller cancels":        {canceled, 0, context.Canceled, context.DeadlineExceeded},
		"the caller's deadline":     {short, 0, context.DeadlineExceeded, context.Canceled},
		"the client's own time-out": {t.Context(), 30 * time.Millisecond, kmclient.ErrUnavailable, context.DeadlineExceeded},
	} {
		r := restClient(t, Options{URL: server.URL, Timeout: test.timeout})
		requests.Store(0)
		_, err := r.Status(test.ctx, "")
		if !errors.Is(err, kmclient.ErrUnavailable) || !errors.Is(err, test.want) || errors.Is(err, test.not) {
			t.Errorf("%s: got %v", name, err)
		}
		if n := requests.Load(); n > 1 {
			t.Errorf("%s: asked %d times, although the first wait took all the time", name, n)
		}
		if e, ok := errors.AsType[*kmclient.Error](err); !ok || !e.Retry {
			t.Errorf("%s: got %#v, want Retry", name, e)
		}
	}
}

func TestStopsReading(t *testing.T) {
	var sent atomic.Int64
	r := restServer(t, func(w http.ResponseWriter, req *http.Request) {
		chunk := bytes.Repeat([]byte(" "), 32<<10)
		for req.Context().Err() == nil { // endless
			n, err := w.Write(chunk)
			sent.Add(int64(n))
			if err != nil {
				return
			}
		}
	})
	_, err := r.GetKeys(t.Context(), "", 256, 1)
	if !errors.Is(err, kmclient.ErrBadAnswer) {
		t.Errorf("an endless answer: got %v, want ErrBadAnswer", err)
	}
	if _, err := r.Status(t.Context(), ""); !errors.Is(err, kmclient.ErrBadAnswer) {
		t.Errorf("an endless status: got %v, want ErrBadAnswer", err)
	}
	if n := sent.Load(); n > 32<<20 { // the rest is in the system's buffers
		t.Errorf("the client let the server send %d bytes", n)
	}
}

func TestTruncatedBody(t *testing.T) {
	secret := fakekm.RandomBytes(32)
	var requests atomic.Int32
	r := restServer(t, func(w http.ResponseWriter, _ *http.Request) {
		requests.Add(1)
		w.Header().Set("Content-Length", "200")
		_, _ = io.WriteString(w, `{"keys":[`+fakekm.KeyJSON("a", secret))
	})
	_, err := r.GetKeys(t.Context(), "", 256, 1)
	if !errors.Is(err, kmclient.ErrUnavailable) || requests.Load() != 1 {
		t.Errorf("an answer cut short: got %v after %d requests, want ErrUnavailable after 1", err, requests.Load())
	}
}

func TestNotHTTP(t *testing.T) {
	secret := fakekm.RandomBytes(32)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Read(make([]byte, 4096))
			_, _ = io.WriteString(conn, fakekm.KeyJSON("a", secret)+"\r\n\r\n")
			_ = conn.Close()
		}
	}()
	r := restClient(t, Options{URL: "http://" + listener.Addr().String()})
	_, err = r.GetKeys(t.Context(), "", 256, 1)
	if !errors.Is(err, kmclient.ErrUnavailable) {
		t.Errorf("got %v, want ErrUnavailable", err)
	}
	if strings.Contains(err.Error(), base64.StdEncoding.EncodeToString(secret)[:8]) {
		t.Error("the error quotes what was not HTTP, but a key")
	}
}

func TestUnreachable(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	server.Close()
	r := restClient(t, Options{URL: server.URL})
	_, err := r.Status(t.Context(), "")
	if !errors.Is(err, kmclient.ErrUnavailable) || !strings.Contains(err.Error(), "refused") {
		t.Errorf("got %v, want ErrUnavailable that says why", err)
	}
}

func TestOverTLS(t *testing.T) {
	server := httptest.NewTLSServer(fakekm.Answer(200, `{"keys":[`+fakekm.KeyJSON("a", fakekm.RandomBytes(32))+`]}`))
	defer server.Close()
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // handshakes are meant to fail
	own := writeCert(t, server.Certificate().Raw)
	_, err := restClient(t, Options{URL: server.URL, CAFile: own}).GetKeys(t.Context(), "", 256, 1)
	if err != nil {
		t.Errorf("with the server's CA: %v", err)
	}
	for name, file := range map[string]string{"the system's CAs": "", "another CA": writeCert(t, otherCert(t))} {
		_, err := restClient(t, Options{URL: server.URL, CAFile: file}).GetKeys(t.Context(), "", 256, 1)
		if !errors.Is(err, kmclient.ErrUnavailable) || !strings.Contains(err.Error(), "certificate") {
			t.Errorf("with %s: got %v, want ErrUnavailable for the certificate", name, err)
		}
	}

	old := httptest.NewUnstartedServer(fakekm.Answer(200, `{}`))
	old.TLS = &tls.Config{MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10}
	old.Config.ErrorLog = log.New(io.Discard, "", 0)
	old.StartTLS()
	defer old.Close()
	r := restClient(t, Options{URL: old.URL, CAFile: writeCert(t, old.Certificate().Raw)})
	if _, err := r.Status(t.Context(), ""); !errors.Is(err, kmclient.ErrUnavailable) {
		t.Errorf("a server with only TLS 1.1: got %v, want ErrUnavailable", err)
	}
}

// TestCAs: all CAs in a file are trusted, even after a byte order mark; if one is
// damaged, the file is refused and the error names the line.
func TestCAs(t *testing.T) {
	server := httptest.NewTLSServer(fakekm.Answer(200, `{"keys":[`+fakekm.KeyJSON("a", fakekm.RandomBytes(32))+`]}`))
	defer server.Close()
	read := func(file string) string {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	own, other := read(writeCert(t, server.Certificate().Raw)), read(writeCert(t, otherCert(t)))
	damaged := strings.Replace(other, "\n", "\nAAAA", 3)
	file := filepath.Join(t.TempDir(), "ca.pem")
	for _, tt := range []struct{ name, text, want string }{
		{"first of two", own + other, ""},
		{"first of two after a mark", "\uFEFF" + own + other, ""},
		{"the only one after a mark", "\uFEFF" + own, ""},
		{"after a damaged one", damaged + own, "ca.pem:1: "},
		{"before a damaged one", own + damaged, "ca.pem:"},
		{"UTF-16", "\xFF\xFE-\x00", "iconv"},
	} {
		if err := os.WriteFile(file, []byte(tt.text), 0o600); err != nil {
			t.Fatal(err)
		}
		r, err := New(Options{URL: server.URL, CAFile: file})
		if tt.want != "" {
			if !errors.Is(err, kmclient.ErrConfig) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%s: %v, want an ErrConfig with %q", tt.name, err, tt.want)
			}
			continue
		}
		if err == nil {
			_, err = r.GetKeys(t.Context(), "", 256, 1)
		}
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

// otherCert returns a certificate that signed nothing.
func otherCert(t *testing.T) []byte {
	t.Helper()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, private)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func writeCert(t *testing.T, der []byte) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "ca.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestNewConfig(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "empty.pem")
	if err := os.WriteFile(empty, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		o    Options
		good bool
	}{
		"http":              {Options{URL: "http://km:8080"}, true},
		"no port":           {Options{URL: "https://km.example"}, true},
		"path":              {Options{URL: "http://km:8080/a/b/"}, true},
		"IPv6":              {Options{URL: "http://[::1]:8080"}, true},
		"empty":             {Options{}, false},
		"no scheme":         {Options{URL: "km:8080"}, false},
		"other scheme":      {Options{URL: "ftp://km:8080"}, false},
		"no host":           {Options{URL: "http://:8080"}, false},
		"opaque":            {Options{URL: "http:km:8080"}, false},
		"user":              {Options{URL: "http://u:s3cret@km:8080"}, false},
		"bad user":          {Options{URL: "http://u:s3cret/x@km:8080"}, false},
		"query":             {Options{URL: "http://km:8080?x=s3cret"}, false},
		"empty query":       {Options{URL: "http://km:8080?"}, false},
		"fragment":          {Options{URL: "http://km:8080#x"}, false},
		"empty fragment":    {Options{URL: "http://km:8080#"}, false},
		"dots":              {Options{URL: "http://km:8080/../x"}, false},
		"port 0":            {Options{URL: "http://km:0"}, false},
		"port too high":     {Options{URL: "http://km:65536"}, false},
		"empty port":        {Options{URL: "http://km:"}, false},
		"CA with http":      {Options{URL: "http://km:8080", CAFile: empty}, false},
		"CA missing":        {Options{URL: "https://km:8080", CAFile: empty + "x"}, false},
		"CA without a cert": {Options{URL: "https://km:8080", CAFile: empty}, false},
		"extension no JSON": {Options{URL: "https://km:8080", ExtensionMandatory: []any{func() {}}}, false},
	} {
		_, err := New(test.o)
		if test.good && err != nil || !test.good && !errors.Is(err, kmclient.ErrConfig) {
			t.Errorf("%s: got %v, want good: %t", name, err, test.good)
		}
		if err != nil && strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: the error shows the password: %v", name, err)
		}
	}
}
