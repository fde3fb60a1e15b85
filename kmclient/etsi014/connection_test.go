package etsi014

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/internal/fakekm"
)

// The client offers X25519MLKEM768 to each KME, and Status says what was agreed with
// those that have answered.
func TestConnections(t *testing.T) {
	ca := fakekm.NewCA(t)
	first := newFakeKMEWith(t, ca, fakekm.Loopback("KME_A"), tls.X25519MLKEM768) // no other group
	second := newFakeKMEWith(t, ca, fakekm.Loopback("KME_B"), tls.X25519, tls.CurveP256)
	e := etsiClient(t, Options{}, first, second)
	connection := func(km *fakeKME, group string) kmclient.Connection {
		return kmclient.Connection{KME: strings.TrimPrefix(km.URL, "https://"), TLS: "TLS 1.3", Group: group}
	}
	want := []kmclient.Connection{connection(first, "X25519MLKEM768")}
	s, err := e.Status(t.Context(), "SAE_B")
	if err != nil || !slices.Equal(s.Connections, want) {
		t.Errorf("before the second KME is asked: %+v, %v, want %+v", s.Connections, err, want)
	}
	first.setHook(func(_ string, _ int, w http.ResponseWriter, _ []byte) bool {
		fakekm.Answer(http.StatusServiceUnavailable, "")(w, nil)
		return true
	})
	want = append(want, connection(second, "X25519"))
	s, err = e.Status(t.Context(), "SAE_B")
	if err != nil || !slices.Equal(s.Connections, want) {
		t.Errorf("once the second has answered: %+v, %v, want %+v", s.Connections, err, want)
	}
}

// The same with OpenSSL at the other end, which has ML-KEM since 3.5.
func TestConnectionsOpenSSL(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("SKIPPED: no openssl command: the key agreement with it is not tested")
	}
	ca := fakekm.NewCA(t)
	dir := t.TempDir()
	folder := filepath.Join(dir, "api/v1/keys/SAE_B")
	if err := os.MkdirAll(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	answer := "HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n" + `{"key_size":256}`
	if err := os.WriteFile(filepath.Join(folder, "status"), []byte(answer), 0o600); err != nil {
		t.Fatal(err)
	}
	o := Options{CAFile: ca.File, SAE: "SAE_A"}
	o.CertFile, o.KeyFile = ca.Issue(t, "sae_a", &x509.Certificate{Subject: pkix.Name{CommonName: "SAE_A"}})
	cert, key := ca.Issue(t, "kme", fakekm.Loopback("KME_A"))
	for _, group := range []string{"X25519", "X25519MLKEM768"} {
		t.Run(group, func(t *testing.T) {
			list := exec.Command(openssl, "list", "-tls-groups", "-tls1_3")
			if groups, _ := list.Output(); group != "X25519" && !strings.Contains(string(groups), group) {
				t.Skip("SKIPPED: this openssl has no " + group)
			}
			server := exec.Command(openssl, "s_server", "-accept", "127.0.0.1:0", "-cert", cert, "-key", key,
				"-verifyCAfile", ca.File, "-Verify", "1", "-groups", group, "-HTTP")
			server.Dir = dir
			e, err := New(serveOpenSSL(t, server, o))
			if err != nil {
				t.Fatal(err)
			}
			defer e.CloseIdle()
			s, err := e.Status(t.Context(), "SAE_B")
			if err != nil || len(s.Connections) != 1 || s.Connections[0].TLS != "TLS 1.3" || s.Connections[0].Group != group {
				t.Errorf("connections %+v, %v, want TLS 1.3 with %s", s.Connections, err, group)
			}
		})
	}
}

// serveOpenSSL runs s_server until the test ends, and returns o with its address.
func serveOpenSSL(t *testing.T, server *exec.Cmd, o Options) Options {
	t.Helper()
	out, err := server.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = server.Process.Kill()
		_ = server.Wait()
	})
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if address, ok := strings.CutPrefix(lines.Text(), "ACCEPT "); ok {
			o.URLs = []string{fmt.Sprintf("https://%s", address)}
			return o
		}
	}
	t.Fatalf("openssl s_server does not start (%v)", lines.Err())
	return o
}
