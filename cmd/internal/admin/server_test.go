package admin

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestServer(t *testing.T) {
	r := newRig(t)
	r.check(t.Context())
	url := serve(t, r.Handler(), ServeOptions{})
	for _, tt := range []struct {
		method, path, host string
		code               int
	}{
		{"GET", "/", "", 200}, {"HEAD", "/", "", 200}, {"GET", "/page.css", "", 200}, {"GET", "/page.js", "", 200}, {"GET", "/icon.svg", "", 200},
		{"GET", "/healthz", "", 200}, {"GET", "/metrics", "", 200},
		{"GET", "/nothing", "", 404}, {"GET", "/assets/page.html", "", 404}, {"GET", "/page.html", "", 404}, {"GET", "/debug/pprof/", "", 404},
		{"POST", "/", "", 405}, {"DELETE", "/metrics", "", 405}, {"OPTIONS", "/", "", 405},
		{"GET", "/", "localhost:1", 200}, {"GET", "/", "[::1]:1", 200}, {"GET", "/", "[::1]", 200}, {"GET", "/", "127.0.0.9", 200},
		{"GET", "/", "relay.example", 421}, {"GET", "/metrics", "localhost.example:80", 421}, {"GET", "/readyz", "192.0.2.1", 421},
	} {
		q, err := http.NewRequestWithContext(t.Context(), tt.method, url+tt.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		q.Host = tt.host
		a, err := http.DefaultClient.Do(q)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, a.Body)
		_ = a.Body.Close()
		if a.StatusCode != tt.code {
			t.Errorf("%s %s at %q: %d, want %d", tt.method, tt.path, tt.host, a.StatusCode, tt.code)
		}
		for name, want := range map[string]string{
			"Content-Security-Policy": "default-src 'none'; ", "X-Content-Type-Options": "nosniff", "Cache-Control": "no-store",
			"Referrer-Policy": "no-referrer", "Cross-Origin-Resource-Policy": "same-origin",
		} {
			if got := a.Header.Get(name); !strings.HasPrefix(got, want) {
				t.Errorf("%s %s: %s is %q", tt.method, tt.path, name, got)
			}
		}
		if strings.Contains(a.Header.Get("Content-Security-Policy"), "unsafe") {
			t.Error("the policy lets unsafe things through")
		}
	}
}

// If others may connect, they do so by names that are not known here.
func TestHostsWhereOthersConnect(t *testing.T) {
	l, err := net.Listen("tcp", "0.0.0.0:0")
	if err != nil {
		t.Skip("no other address than loopback:", err)
	}
	defer l.Close()
	h := guard(l.Addr(), http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }))
	w := &statusWriter{header: http.Header{}}
	h.ServeHTTP(w, &http.Request{Method: "GET", Host: "relay.example:9464"})
	if w.code != http.StatusNoContent {
		t.Errorf("%d, want 204", w.code)
	}
}

type statusWriter struct {
	header http.Header
	code   int
}

func (w *statusWriter) Header() http.Header         { return w.header }
func (w *statusWriter) Write(p []byte) (int, error) { return len(p), nil }
func (w *statusWriter) WriteHeader(code int)        { w.code = code }

func TestProfiles(t *testing.T) {
	url := serve(t, newRig(t).Handler(), ServeOptions{PProf: true})
	for _, path := range []string{"/debug/pprof/", "/debug/pprof/heap", "/debug/pprof/cmdline", "/healthz"} {
		if a, _ := get(t, url+path); a.StatusCode != 200 {
			t.Errorf("%s: %d", path, a.StatusCode)
		}
	}
}

// A health check with HTTP/1.0 names no host.
func TestHealthWithoutHost(t *testing.T) {
	conn, err := net.Dial("tcp", strings.TrimPrefix(serve(t, newRig(t).Handler(), ServeOptions{}), "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "GET /healthz HTTP/1.0\r\n\r\n")
	a, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	if a.StatusCode != http.StatusOK {
		t.Errorf("%d, want 200", a.StatusCode)
	}
}

// A request that is too large does no harm.
func TestServerLimits(t *testing.T) {
	url := serve(t, newRig(t).Handler(), ServeOptions{})
	conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: localhost\r\nX: %s\r\n\r\n", strings.Repeat("x", 3*maxHeader))
	a, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	if a.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("a header of %d bytes: %d", 3*maxHeader, a.StatusCode)
	}
}

// Idle connections do not keep others away, and neither do those whose requests
// never end.
func TestIdleConnectionsMakeRoom(t *testing.T) {
	for name, begin := range map[string]string{
		"kept alive": "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", "half": "GET /healthz HTTP/1.1\r\nHost:", "nothing": "",
	} {
		url := serve(t, newRig(t).Handler(), ServeOptions{})
		for range 2 * maxConns {
			conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			fmt.Fprint(conn, begin)
			if !strings.HasSuffix(begin, "\r\n\r\n") {
				continue
			}
			// It fails here if idle connections do not make room.
			_ = conn.SetReadDeadline(time.Now().Add(30 * time.Second))
			if _, err := http.ReadResponse(bufio.NewReader(conn), nil); err != nil {
				t.Fatalf("%s: a new connection is not answered: %v", name, err)
			}
		}
		client := http.Client{Timeout: 3 * time.Second} // less than any limit of the server's
		a, err := client.Get(url + "/readyz")
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		_ = a.Body.Close()
		client.CloseIdleConnections()
	}
}

// If all connections are busy, none of them is given up for another.
func TestConnectionsAtWorkStay(t *testing.T) {
	c := newConns(2)
	var all [4]net.Conn
	closed := func(i int) bool {
		_ = all[i].SetDeadline(time.Now())
		_, err := all[i].Read(make([]byte, 1))
		return errors.Is(err, io.ErrClosedPipe)
	}
	for i := range all {
		var other net.Conn
		all[i], other = net.Pipe()
		defer other.Close()
	}
	c.note(all[0], http.StateNew)
	c.note(all[0], http.StateActive)
	c.note(all[1], http.StateNew)
	c.note(all[1], http.StateActive)
	c.note(all[2], http.StateNew)
	if closed(0) || closed(1) || !closed(2) {
		t.Error("the third connection has not been closed, or a busy one was")
	}
	c.note(all[2], http.StateClosed)
	c.note(all[0], http.StateIdle)
	c.note(all[3], http.StateNew)
	if !closed(0) || closed(1) || closed(3) {
		t.Error("the idle connection has not made room")
	}
	c.note(all[0], http.StateClosed)
	if len(c.since) != 2 {
		t.Errorf("%d connections are known, want 2", len(c.since))
	}
}

// Stopping does not wait for idle clients.
func TestServerStops(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: takes long, and this is -short")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	began := make(chan struct{})
	slow := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { close(began); <-r.Context().Done() })
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, l, slow, ServeOptions{}) }()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
	<-began
	stop()
	select {
	case err := <-done:
		if err != nil {
			t.Errorf("ended with %v", err)
		}
	case <-time.After(6 * shutdownTimeout):
		t.Fatal("does not stop")
	}
}
