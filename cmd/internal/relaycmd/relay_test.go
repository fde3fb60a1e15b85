package relaycmd

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/qkdmail/qkdmail/cmd/internal/flags"
	"github.com/qkdmail/qkdmail/mailer"
)

const relayConfig = `
[[listener]]
name = "out"
direction = "encrypt"
address = "127.0.0.1:0"
next_hop = "next"

[[next_hop]]
name = "next"
address = "127.0.0.1:1"

[km]
url = "mock:keys.json"

[[peer]]
name = "bravo"
domains = ["b.example"]

[[rule]]
domain = "default"
peer = "bravo"
`

// configFile writes a configuration and returns its path.
func configFile(t testing.TB, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "relay.toml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestReadAgain loads a configuration that has changed since the start. A
// configuration with a change that can't take effect is refused as a whole.
func TestReadAgain(t *testing.T) {
	r := &relayFlags{Globals: &flags.Globals{}, config: configFile(t, relayConfig)}
	first, err := r.load()
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		text string
		ok   bool
	}{
		"the same":       {relayConfig, true},
		"another rule":   {strings.Replace(relayConfig, `domain = "default"`, "domain = \"default\"\nsuite = \"otp\"", 1), true},
		"another store":  {relayConfig + "[store]\npath = \"other.db\"\n", false},
		"another policy": {relayConfig + "[store]\nclose = \"never\"\n", false},
		"another admin":  {relayConfig + "[admin]\naddress = \":1\"\n", false},
		"an unknown key": {relayConfig + "unknown = 1\n", false},
		"an empty file":  {"", false},
	} {
		r.config = configFile(t, tt.text)
		cfg, err := r.load()
		if err == nil {
			err = mayReplace(cfg, first)
		}
		if (err == nil) != tt.ok || !tt.ok && !errors.Is(err, mailer.ErrConfig) {
			t.Errorf("%s: error %v, want ok: %v", name, err, tt.ok)
		}
	}
}
