package e2e

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/qkdmail/qkdmail/cmd/internal/relaytest"
)

// A dovecot is a Dovecot with the mailboxes of all users, who all have the
// password "secret".
type dovecot struct {
	dir, lmtp, imaps, certs string
}

func newDovecot(t *testing.T) *dovecot {
	t.Helper()
	relaytest.Needs(t, "dovecot", "doveadm", "/usr/lib/dovecot/lmtp", "/usr/lib/dovecot/imap")
	d := &dovecot{dir: folder(t), lmtp: fmt.Sprint(relaytest.FreePort(t)), imaps: fmt.Sprint(relaytest.FreePort(t))}
	d.certs = filepath.Join(d.dir, "certs")
	run(t, nil, qkdmail(t), "km", "certs", d.certs)
	if err := os.Mkdir(filepath.Join(d.dir, "mail"), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(d.dir, "mail"), 0o777); err != nil {
		t.Fatal(err)
	}
	text := strings.NewReplacer("@DIR@", d.dir, "@IMAPS@", d.imaps, "10029", d.lmtp).Replace(
		testdata(t, "dovecot/base.conf") + testdata(t, "dovecot/lmtp.conf"))
	conf := filepath.Join(d.dir, "dovecot.conf")
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	// Its processes end with the first one, which ends with the test, whatever
	// happens.
	relaytest.AtEnd(t, "doveadm -c "+conf+" stop")
	server := exec.Command("dovecot", "-F", "-c", conf)
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = server.Process.Signal(syscall.SIGTERM)
		_ = server.Wait()
	})
	relaytest.AwaitListening(t, "Dovecot", "127.0.0.1:"+d.lmtp)
	t.Cleanup(func() {
		if t.Failed() {
			log, _ := os.ReadFile(filepath.Join(d.dir, "dovecot.log"))
			t.Logf("Dovecot's log:\n%s", log)
		}
	})
	return d
}

// inbox waits for n messages in a user's mailbox and returns them.
func (d *dovecot) inbox(t *testing.T, user string, n int) [][]byte {
	t.Helper()
	// In new, or in cur once somebody has looked.
	pattern := filepath.Join(d.dir, "mail", user, "[nc][eu][wr]", "*")
	relaytest.Await(t, 30*time.Second, fmt.Sprintf("%d messages for %s", n, user), func() bool {
		files, _ := filepath.Glob(pattern)
		return len(files) >= n
	})
	files, _ := filepath.Glob(pattern)
	var messages [][]byte
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		messages = append(messages, data)
	}
	return messages
}

// TestDovecot has each mail system of site B, and the relay itself, deliver to
// Dovecot as in docs/dovecot.md. The mailboxes have what was sent.
func TestDovecot(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		with func(*testing.T) options
		edit func(d *dovecot, file, text string) string // at site B
		line int
	}{
		"Postfix": {
			with: func(*testing.T) options { return options{} },
			edit: func(d *dovecot, file, text string) string {
				before, _, _ := strings.Cut(text, "\nqkd-deliver unix")
				if file == "master.cf" {
					return before + "\n" + testdata(t, "dovecot/postfix.cf")
				}
				return text + "\nrelay_transport = qkd-deliver:inet:127.0.0.1:" + d.lmtp + "\n"
			},
			line: 500_000,
		},
		"the relay": {
			with: func(*testing.T) options { return setups()["after queue"] },
			edit: func(d *dovecot, _, text string) string {
				before, after, _ := strings.Cut(text, "name = \"postfix-in\"\n")
				_, after, _ = strings.Cut(after, "tls = \"off\"\n")
				return before + strings.ReplaceAll(testdata(t, "dovecot/relay.toml"), "10029", d.lmtp) + after
			},
			line: 500_000,
		},
		"Exim": {
			with: withExim,
			edit: func(d *dovecot, _, text string) string {
				before, after, _ := strings.Cut(text, "qkd_deliver:\n")
				_, after, _ = strings.Cut(after, "\n\n")
				transport := strings.ReplaceAll(testdata(t, "dovecot/exim"), "10029", d.lmtp)
				text = before + transport + "\n" + after
				// Its router says where mail goes, as everywhere in these tests.
				before, after, _ = strings.Cut(text, "qkd_deliver\n  route_list = * 127.0.0.1::")
				_, after, _ = strings.Cut(after, "\n")
				return before + "qkd_deliver\n  route_list = * 127.0.0.1\n" + after
			},
			line: 500_000,
		},
		"OpenSMTPD": {
			with: withOpenSMTPD,
			edit: func(d *dovecot, _, text string) string {
				before, after, _ := strings.Cut(text, `action "mailboxes"`)
				_, after, _ = strings.Cut(after, "\n")
				return before + strings.ReplaceAll(testdata(t, "dovecot/smtpd.conf"), "10029", d.lmtp) + after
			},
			line: 65_000,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDovecot(t)
			o := c.with(t)
			original := o.edit
			o.edit = func(site, file, text string) string {
				if original != nil {
					text = original(site, file, text)
				}
				if site != "b" || (file == "relay.toml") != (name == "the relay") {
					return text
				}
				return c.edit(d, file, text)
			}
			w := newWorld(t, o)
			text := "Date: Mon, 01 Jun 2026 10:00:00 +0000\r\nMessage-ID: <1@a.example>\r\nFrom: alice@a.example\r\n\r\n" +
				strings.Repeat("é", c.line/2) + "\r\n.\r\n..\r\n \r\n"
			send(t, w.a.ports[portOwn], "alice@a.example", []string{"bob@b.example", "carol@b.example"}, []byte(text))
			for _, user := range []string{"bob", "carol"} {
				messages := d.inbox(t, user, 1)
				if !bytes.HasSuffix(messages[0], []byte(text)) || !bytes.Contains(messages[0], []byte("decrypt=pass;")) || len(messages) != 1 {
					t.Errorf("for %s, %d messages:\n%.2000q", user, len(messages), messages[0])
				}
			}
		})
	}
}
