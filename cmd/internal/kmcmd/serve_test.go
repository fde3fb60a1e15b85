package kmcmd

import (
	"crypto/tls"
	"net"
	"strings"
	"testing"

	"github.com/qkdmail/qkdmail/cmd/internal/kmsim"
)

// TestSimulatorWarns: a simulator that other machines can reach warns who can get
// its keys.
func TestSimulatorWarns(t *testing.T) {
	for _, tt := range []struct {
		ip   string
		tls  *tls.Config
		want string // "" for no warning
	}{
		{"127.0.0.1", nil, ""},
		{"127.1.2.3", nil, ""},
		{"::1", nil, ""},
		{"::1", &tls.Config{}, ""},
		{"0.0.0.0", nil, "warning: 0.0.0.0:8080 can be reached from other machines, and gives keys to anyone who connects"},
		{"::", nil, "gives keys to anyone who connects"},
		{"192.0.2.1", nil, "gives keys to anyone who connects"},
		{"192.0.2.1", &tls.Config{}, "gives keys to anyone with a certificate of its CA"},
	} {
		var out strings.Builder
		s := &simulator{name: "KME_A", opts: kmsim.ServeOptions{TLS: tt.tls}}
		s.announce(&out, &net.TCPAddr{IP: net.ParseIP(tt.ip), Port: 8080})
		if got := out.String(); strings.Contains(got, "warning") != (tt.want != "") || !strings.Contains(got, tt.want) {
			t.Errorf("%s, TLS %t:\n%swant %q", tt.ip, tt.tls != nil, got, tt.want)
		}
		if !strings.HasPrefix(out.String(), "simulated key manager KME_A at http") {
			t.Errorf("%s: the address is missing:\n%s", tt.ip, out.String())
		}
	}
}
