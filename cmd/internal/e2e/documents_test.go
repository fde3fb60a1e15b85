package e2e

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/qkdmail/qkdmail/cmd/internal/relaytest"
	"github.com/qkdmail/qkdmail/mailer/relay/config"
)

// document returns a page of docs.
func document(t *testing.T, page string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "..", "docs", page))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestDocument checks that the documents contain the files that the tests use, and
// that the relay accepts relay.toml unchanged.
func TestDocument(t *testing.T) {
	for page, files := range map[string][]string{
		"postfix.md":   {"relay.toml", "main.cf", "master.cf", "master-after-queue.cf"},
		"exim.md":      {"exim/main", "exim/acl", "exim/routers", "exim/transports"},
		"opensmtpd.md": {"opensmtpd/smtpd.conf"},
		"dovecot.md":   {"dovecot/lmtp.conf", "dovecot/postfix.cf", "dovecot/exim", "dovecot/smtpd.conf", "dovecot/relay.toml"},
		"provider.md":  {"provider/relay.toml", "provider/fetchmailrc"},
	} {
		doc := document(t, page)
		for _, file := range files {
			if !strings.Contains(doc, "\n"+testdata(t, file)+"```\n") {
				t.Errorf("docs/%s does not contain testdata/%s unchanged", page, file)
			}
		}
	}
	for _, file := range []string{"relay.toml", "provider/relay.toml"} {
		if _, err := config.Load(filepath.Join("testdata", file)); err != nil {
			t.Error(err)
		}
	}
}

// TestSwaks runs the document's command, and "relay --check" on its
// configuration.
func TestSwaks(t *testing.T) {
	relaytest.Needs(t, "swaks")
	w := newWorld(t, options{})
	commands := 0
	for line := range strings.Lines(document(t, "postfix.md")) {
		if !strings.HasPrefix(line, "swaks ") {
			continue
		}
		commands++
		command := strings.ReplaceAll(line, portOwn, fmt.Sprint(w.a.ports[portOwn]))
		run(t, nil, "sh", "-c", command)
	}
	if commands != 1 {
		t.Fatalf("%d swaks commands in the document, want 1", commands)
	}
	if m := w.b.sink.one(t, "bob@b.example"); !bytes.Contains(m.data, []byte("decrypt=pass;")) ||
		!bytes.Contains(m.data, []byte("\r\nSubject: a test\r\n")) {
		t.Errorf("arrived:\n%s", m.data)
	}
	said := run(t, nil, qkdmail(t), "relay", "--config", w.a.config, "--check", "bob@b.example", "carol@sub.b.example", "dave@d.example")
	for _, part := range []string{"configuration: good", "key manager for peer site-b: answers", "otp for messages", "suite     aes-256-gcm", "not encrypted"} {
		if !strings.Contains(strings.ToLower(said), part) {
			t.Errorf("--check does not report %q:\n%s", part, said)
		}
	}
}
