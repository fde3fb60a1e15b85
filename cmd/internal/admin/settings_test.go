package admin

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/qkdmail/qkdmail/mailer/relay/config"
)

func TestWithoutPassword(t *testing.T) {
	for given, want := range map[string]string{
		"":                           "",
		"mock:":                      "mock:",
		"mock:instance/keys@home.db": "mock:instance/keys@home.db",
		"https://km.example:8443":    "https://km.example:8443",
		"https://u:SECRET@km.example/path?token=SECRET#SECRET":            "https://km.example/path",
		"https://u:SE/CRET@SECRET@km.example":                             "https://km.example",
		"etsi014:https://u:SECRET@a.example:1,https://SECRET@b.example:2": "etsi014:https://a.example:1,https://b.example:2",
	} {
		if got := withoutPassword(given); got != want {
			t.Errorf("%s: %s, want %s", given, got, want)
		}
	}
}

// No secret of the configuration is on any page: no contents of the files that
// it names, no password in a URL, no note to readers, and no user name.
func TestNoSecretOfTheConfiguration(t *testing.T) {
	const secret = "S3CR3T-MARK"
	dir := t.TempDir()
	for _, name := range []string{"sae.key", "password", "users", "in.key", "store.key", "sae.crt", "in.crt", "ca.crt"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(secret+" in "+name+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cfg, err := config.Parse(filepath.Join(dir, "relay.toml"), []byte(strings.ReplaceAll(secretConfig, "MARK", secret)))
	if err != nil {
		t.Fatal(err)
	}
	// A URL with a password may be refused elsewhere; the page must not rely on
	// that.
	cfg.KM.URL = "etsi014:https://" + secret + ":" + secret + "@kme.example:8443"
	cfg.Store.Path = "postgres://" + secret + ":" + secret + "@a.example:5432/mail?" + secret
	cfg.Store.Key = "env:" + secret
	r := newRig(t, func(s *Sources) { s.Config = cfg })
	r.set(func() {
		r.stock["SAE_B"] = 1
		r.down = fmt.Errorf("GET https://u:%s@kme.example: key %s", secret, secret)
		r.hops["out"] = fmt.Errorf("535 bad password %s for %s@a.example", secret, secret)
		r.broken = fmt.Errorf("store key %s", secret)
	})
	r.check(t.Context())
	url := serve(t, r.Handler(), ServeOptions{})
	for _, path := range []string{"/", "/metrics", "/readyz", "/healthz"} {
		_, body := get(t, url+path)
		if i := strings.Index(body, secret); i >= 0 {
			t.Errorf("%s shows %q", path, body[max(0, i-80):min(len(body), i+40)])
		}
	}
	_, page := get(t, url+"/")
	for _, want := range []string{"kme.example:8443", "postgres://a.example:5432/mail", "relay.example", "<dd>env</dd>"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page does not show %s", want)
		}
	}
}

// If no keys are kept, there is no place and nothing to seal.
func TestSettingsWithoutStore(t *testing.T) {
	for path, want := range map[string]string{
		config.StoreNone: "[{Place none}]",
		"keys.db":        "[{Place keys.db} {Sealed with file beside it}]",

		"postgres://u:SE?CRET@h/db": "[{Place postgres://…} {Sealed with file beside it}]",
		"postgres://u:SECRET@h/db?": "[{Place postgres://h/db} {Sealed with file beside it}]",
	} {
		if got := fmt.Sprint(storeRows(&config.Store{Path: path})); got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
}

const secretConfig = `
hostname = "relay.example"

[[listener]]
name = "in"
direction = "encrypt"
address = "127.0.0.1:10025"
next_hop = "out"
tls = "required"
tls_cert = "in.crt"
tls_key = "in.key"
auth_file = "users"

[[next_hop]]
name = "out"
address = "mx.example:25"
tls = "required"
tls_ca = "ca.crt"
auth_user = "MARK"
auth_password_file = "password"

[km]
url = "etsi014:https://kme.example:8443"
sae = "SAE_A"
cert = "sae.crt"
key = "sae.key"

[[peer]]
name = "site-b"
sae = "SAE_B"

[[rule]]
domain = "default"
peer = "site-b"

[headers]
note = "MARK"
`
