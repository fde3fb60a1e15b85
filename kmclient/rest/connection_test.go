package rest

import (
	"crypto/tls"
	"encoding/pem"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/internal/fakekm"
)

// The client offers X25519MLKEM768, and Status says what was agreed.
func TestConnections(t *testing.T) {
	for name, test := range map[string]struct {
		server *tls.Config // nil: plain HTTP
		want   kmclient.Connection
	}{
		"a usual server":         {&tls.Config{}, kmclient.Connection{TLS: "TLS 1.3", Group: "X25519MLKEM768"}},
		"post-quantum only":      {&tls.Config{CurvePreferences: []tls.CurveID{tls.X25519MLKEM768}}, kmclient.Connection{TLS: "TLS 1.3", Group: "X25519MLKEM768"}},
		"a server without it":    {&tls.Config{CurvePreferences: []tls.CurveID{tls.X25519, tls.CurveP256}}, kmclient.Connection{TLS: "TLS 1.3", Group: "X25519"}},
		"TLS 1.2, which has not": {&tls.Config{MaxVersion: tls.VersionTLS12}, kmclient.Connection{TLS: "TLS 1.2", Group: "X25519"}},
		"plain HTTP":             {nil, kmclient.Connection{}},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewUnstartedServer(fakekm.Answer(200, `{"status":"ok"}`))
			defer server.Close()
			o := Options{}
			if server.TLS = test.server; test.server == nil {
				server.Start()
			} else {
				server.StartTLS()
				o.CAFile = filepath.Join(t.TempDir(), "ca.crt")
				text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
				if err := os.WriteFile(o.CAFile, text, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			o.URL = server.URL
			_, test.want.KME, _ = strings.Cut(server.URL, "//")
			s, err := restClient(t, o).Status(t.Context(), "")
			if want := []kmclient.Connection{test.want}; err != nil || !slices.Equal(s.Connections, want) {
				t.Errorf("connections %+v, %v, want %+v", s.Connections, err, want)
			}
		})
	}
}
