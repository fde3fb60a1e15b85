package mailer

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/qkdmail/qkdmail/kmclient/kmserver"
	"golang.org/x/crypto/bcrypt"
)

func writeFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func hashOf(t *testing.T, password string) string {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	return string(hash)
}

func TestUsers(t *testing.T) {
	htpasswd := strings.Replace(hashOf(t, "other"), "$2a$", "$2y$", 1)
	u, err := LoadUsers(writeFile(t, "# users\n\nalice:"+hashOf(t, "secret")+"\r\nbob@a.example:"+htpasswd))
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		user, password string
		ok             bool
	}{
		{"alice", "secret", true}, {"bob@a.example", "other", true},
		{"alice", "other", false}, {"alice", "", false}, {"Alice", "secret", false}, {"", "", false},
		{"carol", "secret", false}, {"carol", "other", false}, {"# users", "", false},
		{"alice", strings.Repeat("secret", 100), false},
	} {
		if u.Check(test.user, test.password) != test.ok {
			t.Errorf("%q with %.20q: not %v", test.user, test.password, test.ok)
		}
	}
}

// No line of the file is told: it may hold what is nobody's business.
func TestUsersErrors(t *testing.T) {
	hash := hashOf(t, "secret")
	for text, want := range map[string]string{
		"":                                  "no user in it",
		"# nobody\n":                        "no user in it",
		"alice":                             ":1: must be",
		"\nalice:secret":                    ":2: must be",
		":" + hash:                          ":1: must be",
		"alice:$2a$04$xxx":                  ":1: must be",
		"alice:$1$xxx$yyyy":                 ":1: must be",
		"alice:" + hash + "\nalice:" + hash: ":2: this user",
		"alice:" + strings.Replace(hash, "$04$", "$31$", 1): "a bcrypt cost of 31",
		strings.Repeat("#", maxConfigSize+1):                "longer than 1 MiB",
	} {
		_, err := LoadUsers(writeFile(t, text))
		if !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: got %v, want %q", text, err, want)
		} else if strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), hash) {
			t.Errorf("%v tells what is in the file", err)
		}
	}
	if _, err := LoadUsers("testdata/none"); !errors.Is(err, ErrConfig) {
		t.Error(err)
	}
}

func TestPassword(t *testing.T) {
	if p, err := LoadPassword(writeFile(t, " secret \r\n")); p != " secret " || err != nil {
		t.Errorf("got %q, %v", p, err)
	}
	for _, text := range []string{"", "\n", "a\nsecret\n", "a\x00"} {
		if _, err := LoadPassword(writeFile(t, text)); !errors.Is(err, ErrConfig) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestCheckFiles(t *testing.T) {
	folder := t.TempDir()
	if _, err := kmserver.WriteCerts(folder, kmserver.CertOptions{KMEs: []string{"KME"}, SAEs: []string{"SAE"}}); err != nil {
		t.Fatal(err)
	}
	cert, key, ca := filepath.Join(folder, "sae.crt"), filepath.Join(folder, "sae.key"), filepath.Join(folder, "ca.crt")
	c := &Config{
		Listeners: []ListenerConfig{{}, {TLSCert: cert, TLSKey: key, AuthFile: writeFile(t, "alice:"+hashOf(t, "secret"))}},
		NextHops:  []NextHopConfig{{TLSCA: ca, AuthPasswordFile: writeFile(t, "secret")}},
		KM:        KMConfig{CA: ca, Cert: cert, Key: key},
	}
	if err := c.CheckFiles(); err != nil {
		t.Fatal(err)
	}
	c = &Config{
		Listeners: []ListenerConfig{{TLSCert: cert, TLSKey: cert, AuthFile: "none"}},
		NextHops:  []NextHopConfig{{TLSCA: key, AuthPasswordFile: folder}},
		KM:        KMConfig{CA: "none", Cert: filepath.Join(folder, "kme.crt"), Key: key},
	}
	found := map[string]bool{}
	for _, e := range configErrors(t, c.CheckFiles()) {
		found[e.Key] = true
	}
	for _, key := range []string{"listener[0].tls_cert", "listener[0].auth_file", "next_hop[0].tls_ca",
		"next_hop[0].auth_password_file", "km.ca", "km.cert"} {
		if !found[key] {
			t.Errorf("%s is not told in %v", key, found)
		}
	}
}
