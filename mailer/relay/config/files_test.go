package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/qkdmail/qkdmail/mailer"
	"github.com/qkdmail/qkdmail/mailer/internal/testcerts"
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

func password(path string) (string, error) { return (&NextHop{AuthPasswordFile: path}).Password() }

func loadCAs(path string) error {
	_, err := (&NextHop{TLSCA: path}).TLSConfig()
	return err
}

func TestUsers(t *testing.T) {
	htpasswd := strings.Replace(hashOf(t, "other"), "$2a$", "$2y$", 1)
	u, err := loadUsers(writeFile(t, "# users\n\nalice:"+hashOf(t, "secret")+"\r\nbob@a.example:"+htpasswd))
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

// No error quotes a line of the file, which may be secret.
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
		strings.Repeat("#", maxSize+1):                      "over 1048576 bytes",
	} {
		_, err := loadUsers(writeFile(t, text))
		if !errors.Is(err, mailer.ErrConfig) || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: got %v, want %q", text, err, want)
		} else if strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), hash) {
			t.Errorf("%v shows what is in the file", err)
		}
	}
	if _, err := loadUsers("testdata/none"); !errors.Is(err, mailer.ErrConfig) {
		t.Error(err)
	}
}

func TestPassword(t *testing.T) {
	if p, err := password(writeFile(t, " secret \r\n")); p != " secret " || err != nil {
		t.Errorf("got %q, %v", p, err)
	}
	for _, text := range []string{"", "\n", "a\nsecret\n", "a\x00"} {
		if _, err := password(writeFile(t, text)); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestCheckFiles(t *testing.T) {
	certs := testcerts.Make(t)
	cert, key, ca := certs.Cert, certs.Key, certs.CA
	c := &Config{
		Listeners: []Listener{{}, {TLSCert: cert, TLSKey: key, AuthFile: writeFile(t, "alice:"+hashOf(t, "secret"))}},
		NextHops:  []NextHop{{TLSCA: ca, AuthPasswordFile: writeFile(t, "secret")}},
		KM:        KM{CA: ca, Cert: cert, Key: key},
	}
	if err := c.CheckFiles(); err != nil {
		t.Fatal(err)
	}
	c = &Config{
		Listeners: []Listener{{TLSCert: cert, TLSKey: cert, AuthFile: "none"}},
		NextHops:  []NextHop{{TLSCA: key, AuthPasswordFile: t.TempDir()}},
		KM:        KM{CA: "none", Cert: certs.OtherCA, Key: key},
	}
	found := map[string]bool{}
	for _, e := range errorsOf(t, c.CheckFiles()) {
		found[e.Key] = true
	}
	for _, key := range []string{"listener[0].tls_cert", "listener[0].auth_file", "next_hop[0].tls_ca",
		"next_hop[0].auth_password_file", "km.ca", "km.cert"} {
		if !found[key] {
			t.Errorf("%s is not among %v", key, found)
		}
	}
}

// TestByteOrderMark: a mark at the start of a file is not part of its text, and a file in
// UTF-16 is refused with advice.
func TestByteOrderMark(t *testing.T) {
	utf16 := func(text string) string { return "\xFF\xFE" + strings.Join(strings.Split(text, ""), "\x00") + "\x00" }
	certs := testcerts.Make(t)
	text := func(path string) string {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	least, err := os.ReadFile("testdata/good-01-least.toml")
	if err != nil {
		t.Fatal(err)
	}
	users := "alice:" + hashOf(t, "secret")
	pair := func(cert, key string) error {
		return (&Config{Listeners: []Listener{{TLSCert: cert, TLSKey: key}}, KM: KM{Cert: cert, Key: key}}).CheckFiles()
	}
	for what, f := range map[string]struct {
		text string
		read func(path string) error
	}{
		"configuration": {string(least), func(path string) error { _, err := Load(path); return err }},
		"password":      {"secret", func(path string) error { _, err := password(path); return err }},
		"users":         {users, func(path string) error { _, err := loadUsers(path); return err }},
		"CAs":           {text(certs.CA), loadCAs},
		"certificate":   {text(certs.Cert), func(path string) error { return pair(path, certs.Key) }},
		"private key":   {text(certs.Key), func(path string) error { return pair(certs.Cert, path) }},
	} {
		for _, ok := range []string{f.text, "\uFEFF" + f.text} {
			if err := f.read(writeFile(t, ok)); err != nil {
				t.Errorf("%s that begins with %.3q: %v", what, ok, err)
			}
		}
		err := f.read(writeFile(t, utf16(f.text)))
		if err == nil || !strings.Contains(err.Error(), "iconv") {
			t.Errorf("%s in UTF-16: %v, want an error that says how to convert it", what, err)
		}
	}
	if p, err := password(writeFile(t, "\uFEFFsecret")); p != "secret" {
		t.Errorf("a password after a mark is %q, %v", p, err)
	}
	if u, err := loadUsers(writeFile(t, "\uFEFF"+users)); err != nil || !u.Check("alice", "secret") {
		t.Errorf("the first user after a mark is not known (%v)", err)
	}
	if _, err := Parse("relay.toml", []byte(utf16(string(least)))); !errors.Is(err, mailer.ErrConfig) || !strings.Contains(err.Error(), "iconv") {
		t.Errorf("a text in UTF-16: %v", err)
	}
}

// TestNextHopCAs: a CA file that is damaged in part is refused at the start, not when
// mail needs that CA.
func TestNextHopCAs(t *testing.T) {
	certs := testcerts.Make(t)
	good, err := os.ReadFile(certs.CA)
	if err != nil {
		t.Fatal(err)
	}
	damaged := strings.Replace(string(good), "\n", "\nAAAA", 3)
	for _, tt := range []struct{ name, text, want string }{
		{"first damaged", damaged + string(good), "file:1: "},
		{"second damaged", string(good) + damaged, "file:"},
		{"none", "nothing", "no certificate"},
	} {
		path := writeFile(t, tt.text)
		checked := (&Config{NextHops: []NextHop{{TLSCA: path}}}).CheckFiles()
		for what, err := range map[string]error{"CheckFiles": checked, "the next hop": loadCAs(path)} {
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%s, %s: %v, want an error with %q", tt.name, what, err, tt.want)
			}
		}
		if !errors.Is(checked, mailer.ErrConfig) {
			t.Errorf("%s: %v, want an ErrConfig", tt.name, checked)
		}
	}
}
