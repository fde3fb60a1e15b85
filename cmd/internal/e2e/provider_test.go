package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/qkdmail/qkdmail/cmd/internal/relaytest"
)

// TestProvider has Bob's mailbox at a provider, and Bob's relay, fetchmail and
// Dovecot at home, as in docs/provider.md. The provider is a Postfix and a Dovecot
// with TLS and passwords.
func TestProvider(t *testing.T) {
	t.Parallel()
	needsPostfix(t)
	relaytest.Needs(t, "fetchmail")
	provider, home := newDovecot(t), newDovecot(t)
	var b *site
	w := newWorld(t, options{
		system: func(s *site) mailSystem {
			if s.name == "a" {
				return newPostfix(s)
			}
			b = s
			return &postfix{s, []string{portInternet, portOwn}}
		},
		edit: func(site, file, text string) string {
			if site == "b" {
				return atProvider(t, b, provider, home, file, text)
			}
			return text
		},
	})
	const body = "what-the-provider-must-not-see"
	text := []byte("From: alice@a.example\r\nTo: bob@b.example\r\nSubject: x\r\n\r\n" + body + "\r\n")
	send(t, w.a.ports[portOwn], "alice@a.example", []string{"bob@b.example"}, text)
	if m := provider.inbox(t, "bob", 1)[0]; bytes.Contains(m, []byte(body)) || !bytes.Contains(m, []byte("\nQkdmail-Key-ID: ")) {
		t.Errorf("at the provider:\n%s", m)
	}

	w.b.kill()
	if err := fetchmail(t, w.b, provider); err == nil {
		t.Error("fetchmail succeeds without a relay")
	}
	provider.inbox(t, "bob", 1)
	w.b.startRelay(t)
	if err := fetchmail(t, w.b, provider); err != nil {
		t.Error(err)
	}
	if m := home.inbox(t, "bob", 1)[0]; !bytes.HasSuffix(m, text) || !bytes.Contains(m, []byte("decrypt=pass;")) {
		t.Errorf("at home:\n%s", m)
	}

	answer := []byte("From: bob@b.example\r\nTo: alice@a.example\r\n\r\n" + body + "\r\n")
	send(t, w.b.ports[portEncrypt], "bob@b.example", []string{"alice@a.example"}, answer)
	if m := w.a.sink.one(t, "alice@a.example"); !bytes.HasSuffix(m.data, answer) || m.from != "bob@b.example" {
		t.Errorf("the answer, from %q:\n%s", m.from, m.data)
	}
	if w.ab.saw(body) || w.ba.saw(body) {
		t.Error("the body was seen on a wire")
	}
}

// atProvider returns a file of the provider, or of Bob's relay, in place of a file
// of a site that has both.
func atProvider(t *testing.T, s *site, provider, home *dovecot, file, text string) string {
	t.Helper()
	between := func(from, to string) string {
		_, after, _ := strings.Cut(text, from)
		part, _, _ := strings.Cut(after, to)
		return part
	}
	values := strings.NewReplacer("@LMTP@", provider.lmtp, "@CERTS@", provider.certs, "@AUTH@", filepath.Join(provider.dir, "auth"),
		"@WIRE@", between("default_filter_nexthop = [127.0.0.1]:", "\n"),
		"@MX@", fmt.Sprint(s.ports[portInternet]), "@SUBMISSION@", fmt.Sprint(s.ports[portOwn]))
	switch file {
	case "main.cf":
		before, _, _ := strings.Cut(text, "# All mail that leaves")
		return before + values.Replace(testdata(t, "provider/main.cf"))
	case "master.cf":
		before, _, _ := strings.Cut(text, "# From the Internet.")
		return before + values.Replace(testdata(t, "provider/master.cf"))
	}
	if err := os.WriteFile(s.path("password"), []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	before, after, _ := strings.Cut(testdata(t, "provider/relay.toml"), "[km]\n")
	_, after, _ = strings.Cut(after, "\n\n")
	return strings.NewReplacer("10025", fmt.Sprint(s.ports[portEncrypt]), "10026", fmt.Sprint(s.ports[portDecrypt]), "10029", home.lmtp,
		"smtp.provider.example:587", fmt.Sprint("127.0.0.1:", s.ports[portOwn]),
		"tls = \"required\"", fmt.Sprintf("tls = \"required\"\ntls_ca = %q", filepath.Join(provider.certs, "ca.crt"))).
		Replace(before) + "[km]\n" + between("[km]\n", "\n\n") + "\n\n" + after
}

// fetchmail fetches Bob's mail from the provider, once.
func fetchmail(t *testing.T, s *site, provider *dovecot) error {
	t.Helper()
	text := strings.NewReplacer("imap.provider.example", "localhost service "+provider.imaps+" ", "10026", fmt.Sprint(s.ports[portDecrypt]),
		`ssl`, fmt.Sprintf("ssl sslcertfile %q", filepath.Join(provider.certs, "ca.crt"))).Replace(testdata(t, "provider/fetchmailrc"))
	rc := s.path("fetchmailrc")
	if err := os.WriteFile(rc, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "fetchmail", "--fetchmailrc", rc, "--nodetach", "--nosyslog", "--idfile", s.path("ids"), "--pidfile", s.path("fetchmail.pid"))
	cmd.Env = append(os.Environ(), "HOME="+s.dir, "FETCHMAILHOME="+s.dir)
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("fetchmail: %w: %s", err, out)
	}
	return err
}
