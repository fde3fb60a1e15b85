package relaycmd

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/qkdmail/qkdmail/mailer/relay/config"
)

// TestReady asks relays that are ready, not ready, and not running.
func TestReady(t *testing.T) {
	code := http.StatusOK
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if q.URL.Path != "/readyz" {
			t.Errorf("asked for %s", q.URL.Path)
		}
		w.WriteHeader(code)
		_, _ = io.WriteString(w, "no key manager\n")
	}))
	a := &config.Admin{Address: strings.TrimPrefix(server.URL, "http://")}
	if err := askReady(t.Context(), a); err != nil {
		t.Error(err)
	}
	code = http.StatusServiceUnavailable
	if err := askReady(t.Context(), a); err == nil || err.Error() != "the relay is not ready: no key manager" {
		t.Errorf("not ready: %v", err)
	}
	server.Close()
	if err := askReady(t.Context(), a); err == nil {
		t.Error("no relay, and no error")
	}
	if err := askReady(t.Context(), &config.Admin{}); err == nil {
		t.Error("no address, and no error")
	}
}
