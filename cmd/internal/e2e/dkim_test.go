package e2e

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/qkdmail/qkdmail/cmd/internal/relaytest"
)

// A dkim is three OpenDKIMs: two that sign, with the selectors "inner" and
// "outer", and one that verifies. There is no DNS: the keys are in a file.
type dkim struct {
	dir                  string
	inner, outer, verify int // ports of the milters
}

func newDKIM(t *testing.T) *dkim {
	t.Helper()
	relaytest.Needs(t, "opendkim")
	d := &dkim{dir: folder(t)}
	var public strings.Builder
	for _, selector := range []string{"inner", "outer"} {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			t.Fatal(err)
		}
		der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&public, "%s._domainkey.a.example v=DKIM1; k=rsa; p=%s\n", selector, base64.StdEncoding.EncodeToString(der))
		private := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})
		d.write(t, selector+".pem", string(private))
	}
	d.write(t, "keys", public.String())
	// The strictest canonicalisation: every byte counts.
	sign := "Mode s\nDomain a.example\nSelector %s\nKeyFile %s/%[1]s.pem\nCanonicalization simple/simple\nInternalHosts 127.0.0.1\n"
	d.inner = d.start(t, "inner", fmt.Sprintf(sign, "inner", d.dir))
	d.outer = d.start(t, "outer", fmt.Sprintf(sign, "outer", d.dir))
	d.verify = d.start(t, "verify", fmt.Sprintf("Mode v\nAuthservID mail.b.example\nTestPublicKeys %s/keys\n", d.dir))
	return d
}

func (d *dkim) write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(d.dir, file), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// start starts a milter and returns its port.
func (d *dkim) start(t *testing.T, name, config string) int {
	t.Helper()
	port := relaytest.FreePort(t)
	d.write(t, name+".conf", config+fmt.Sprintf("Socket inet:%d@127.0.0.1\nBackground no\nSyslog no\nRequireSafeKeys no\nAlwaysAddARHeader yes\n", port))
	cmd := exec.Command("opendkim", "-f", "-x", filepath.Join(d.dir, name+".conf"))
	cmd.Dir = d.dir
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	relaytest.EndWithTest(cmd)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("opendkim %s: %s", name, out.String())
		}
	})
	relaytest.AwaitListening(t, "opendkim "+name, relaytest.Loopback(port))
	return port
}

// TestDKIM has OpenDKIM sign at A, both before and after encryption, and verify
// at B after decryption.
func TestDKIM(t *testing.T) {
	needsPostfix(t)
	d := newDKIM(t)
	w := newWorld(t, options{edit: func(site, file, text string) string {
		if file != "master.cf" {
			return text
		}
		milter := func(port int) string { return fmt.Sprintf("smtpd_milters=inet:127.0.0.1:%d", port) }
		if site == "a" {
			text = strings.Replace(text, "-o syslog_name=postfix/qkd-own\n", "-o syslog_name=postfix/qkd-own\n    -o "+milter(d.inner)+"\n", 1)
			before, after, _ := strings.Cut(text, "postfix/qkd-out")
			return before + "postfix/qkd-out" + strings.Replace(after, "smtpd_milters=", milter(d.outer), 1)
		}
		before, after, _ := strings.Cut(text, "postfix/qkd-in")
		return before + "postfix/qkd-in" + strings.Replace(after, "smtpd_milters=", milter(d.verify), 1)
	}})
	results := func(m received) string {
		var all []string
		for line := range strings.Lines(string(m.data)) {
			if name, value, _ := strings.Cut(line, ":"); strings.EqualFold(name, "Authentication-Results") {
				all = append(all, strings.TrimSpace(value))
			} else if len(all) > 0 && strings.Contains(line, "dkim=") {
				all = append(all, strings.TrimSpace(line))
			}
		}
		return strings.Join(all, "\n")
	}
	verify := func(to string, message []byte) string {
		send(t, w.b.ports[portIn], "alice@a.example", []string{to}, message)
		return results(w.b.sink.one(t, to))
	}

	signed := 0
	for i, l := range corpus(t) {
		_, body, ok := bytes.Cut(l.text, []byte("\r\n\r\n"))
		if !ok || !strings.Contains(l.file, "testdata") {
			continue // our own are enough
		}
		// OpenDKIM signs for a.example only, and wants one From.
		text := append([]byte("From: Alice  <alice@a.example>\r\nTo: Bob <bob@b.example>\r\nSubject:   blanks \t count  \r\nDate: Mon, 20 Jul 2026 08:00:00 +0200\r\n\r\n"), body...)
		to := fmt.Sprintf("dkim%d@b.example", i)
		send(t, w.a.ports[portOwn], "alice@a.example", []string{to}, text)
		m := w.b.sink.one(t, to)
		if got := results(m); !strings.Contains(got, "dkim=pass") || !strings.Contains(got, "a.example") {
			t.Errorf("%s: %s\n%s", l.file, got, m.data)
		}
		if !bytes.Contains(m.data, []byte("s=inner")) || bytes.Contains(m.data, []byte("s=outer")) {
			t.Errorf("%s: without the inner signature, or with the outer one:\n%s", l.file, m.data)
		}
		signed++
		if signed > 1 {
			continue
		}
		// A change of one byte is noticed, so the test can fail.
		altered := bytes.Replace(m.data, []byte("blanks \t count"), []byte("blanks\t count"), 1)
		if got := verify("altered@b.example", altered); strings.Contains(got, "dkim=pass") || !strings.Contains(got, "dkim=fail") {
			t.Errorf("altered: %s", got)
		}
		// The encrypted message has its own signature.
		for _, outer := range w.ab.messages() {
			if got := verify("outer@b.example", outer); !strings.Contains(got, "dkim=pass") || !bytes.Contains(outer, []byte("s=outer")) {
				t.Errorf("outer message: %s\n%s", got, outer)
			}
		}
	}
	if signed < 3 {
		t.Fatalf("%d messages signed", signed)
	}
	t.Logf("%d messages signed by OpenDKIM at A (simple/simple) verify at B; an altered one does not; the encrypted message has its own signature, which verifies", signed)
}
