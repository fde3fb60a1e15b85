package kmcmd

import (
	"strings"
	"testing"

	"github.com/qkdmail/qkdmail/cmd/internal/relaytest"
)

func TestServeAdmin(t *testing.T) {
	url, _ := relaytest.Admin(t, newServe(), "--api", "qmail", "--listen", "127.0.0.1:0", "--capacity", "7", "--admin", ":0")
	if !strings.HasPrefix(url, "http://127.0.0.1:") {
		t.Errorf("an address without a host is %s, want loopback", url)
	}
	for path, want := range map[string]string{
		"healthz": "ok", "readyz": "ready", "metrics": "qkdmail_simulator_key_stock{saes=\"(none)\"} 7",
	} {
		if code, text := relaytest.Get(t, url+path); code != 200 || !strings.Contains(text, want) {
			t.Errorf("/%s: %d, without %q", path, code, want)
		}
	}
}
