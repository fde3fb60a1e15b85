package kmsim

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// A request under way is answered before Serve returns.
func TestServeShutdown(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	begun := make(chan struct{})
	handler := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(begun)
		<-ctx.Done()
		_, _ = io.WriteString(w, "answer")
	})
	var running sync.WaitGroup
	base := serve(t, ctx, &running, handler, ServeOptions{})
	answer := make(chan message, 1)
	go func() {
		m, err := send(&http.Client{Transport: &http.Transport{}}, base, "GET", "", "")
		if err != nil {
			t.Errorf("GET: %v", err)
		}
		answer <- m
	}()
	<-begun
	cancel()
	if m := <-answer; string(m.body) != "answer" {
		t.Errorf("%+v", m)
	}
	running.Wait()
	if _, err := net.DialTimeout("tcp", strings.TrimPrefix(base, "http://"), time.Second); err == nil {
		t.Error("the port is still open")
	}
}

func TestServeError(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	if err := Serve(t.Context(), l, http.NotFoundHandler(), ServeOptions{}); !errors.Is(err, net.ErrClosed) {
		t.Errorf("%v, want ErrClosed", err)
	}
}

func TestServeBoundsHeader(t *testing.T) {
	base := qmail(t, Options{})
	r, _ := http.NewRequest("GET", base+"/api/v1/status", nil)
	r.Header.Set("X", strings.Repeat("x", 64<<10))
	a, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = a.Body.Close() }()
	if a.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("HTTP %d, want 431", a.StatusCode)
	}
}

func TestTLSVersion(t *testing.T) {
	s := start(t, Options{})
	config := s.client(a).Transport.(*http.Transport).TLSClientConfig.Clone()
	for version, want := range map[uint16]bool{tls.VersionTLS11: false, tls.VersionTLS12: true, tls.VersionTLS13: true} {
		config.MinVersion, config.MaxVersion = version, version
		c, err := tls.Dial("tcp", strings.TrimPrefix(s.url[atA], "https://"), config)
		if err == nil {
			_ = c.Close()
		}
		if (err == nil) != want {
			t.Errorf("%s: %v", tls.VersionName(version), err)
		}
	}
}
