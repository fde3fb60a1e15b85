package relaycmd

import (
	"bytes"
	"context"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/qkdmail/qkdmail/cipher"
	"github.com/qkdmail/qkdmail/cmd/internal/admin"
	"github.com/qkdmail/qkdmail/cmd/internal/flags"
	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/mailer/relay"
)

// idle is a key manager and next hops that are never asked.
type idle struct{ kmclient.KeyManager }

func (idle) Status(context.Context, string) (kmclient.Status, error) {
	return kmclient.Status{}, kmclient.ErrUnavailable
}
func (idle) CheckNextHops(context.Context) map[string]error { return nil }

// A reloadTest is a relay with X-Wing keys whose files change.
type reloadTest struct {
	*testing.T
	*reloader
	dir string
	log bytes.Buffer
}

func startReloadTest(t *testing.T) *reloadTest {
	t.Helper()
	r := &reloadTest{T: t, dir: t.TempDir()}
	r.key("b.pub")
	r.put("relay.toml", hybridConfig("b.pub"))
	f := &relayFlags{Globals: &flags.Globals{}, config: filepath.Join(r.dir, "relay.toml")}
	cfg, err := f.load()
	if err != nil {
		t.Fatal(err)
	}
	r.reloader = &reloader{flags: f, log: slog.New(slog.NewTextHandler(&r.log, nil)), first: cfg, seen: lookAt(cfg.KeyFiles())}
	if r.relay, err = relay.New(cfg, relay.WithoutStore(idle{}), nil); err != nil {
		t.Fatal(err)
	}
	r.monitor = admin.New(admin.Sources{Config: cfg, Keys: idle{}, NextHops: idle{}})
	return r
}

// hybridConfig is a configuration with the file of the peer's key.
func hybridConfig(key string) string {
	return strings.Replace(relayConfig, "[[rule]]", "hybrid_key = \""+key+"\"\n[[rule]]", 1)
}

// put replaces a file with a new one: a rewritten old one could have the same time.
func (r *reloadTest) put(name, text string) {
	r.Helper()
	file := filepath.Join(r.dir, name)
	err := os.WriteFile(file+".new", []byte(text), 0o600)
	if err == nil {
		err = os.Rename(file+".new", file)
	}
	if err != nil {
		r.Fatal(err)
	}
}

// key puts a new public key into a file.
func (r *reloadTest) key(name string) {
	r.Helper()
	key, err := cipher.GenerateHybridKey()
	if err != nil {
		r.Fatal(err)
	}
	r.put(name, string(key.Public().PEM()))
}

// logged checks that this is in the log ("" for nothing), and that the metrics say
// whether the newest configuration is in force.
func (r *reloadTest) logged(want string) {
	r.Helper()
	got := r.log.String()
	r.log.Reset()
	if want == "" && got != "" || !strings.Contains(got, want) || strings.Count(got, "reloaded") > 1 {
		r.Errorf("the log has %q, want %q", got, want)
	}
	if want == "" {
		return
	}
	good := "1"
	if strings.Contains(want, "not reloaded") {
		good = "0"
	}
	page := httptest.NewRecorder()
	r.monitor.Handler().ServeHTTP(page, httptest.NewRequest("GET", "/metrics", nil))
	if line := "\nqkdmail_config_last_reload_successful " + good + "\n"; !strings.Contains(page.Body.String(), line) {
		r.Errorf("the metrics do not have%s", line)
	}
}

// TestReloadOnChange: a change to a key file is enough. A configuration that can't
// be used changes nothing, is logged once, and is tried again when it changes.
func TestReloadOnChange(t *testing.T) {
	const good, bad = `msg="configuration reloaded"`, `msg="configuration not reloaded, the old one stays"`
	r := startReloadTest(t)
	looks := func(want string) {
		t.Helper()
		r.look()
		r.logged(want)
	}
	looks("")
	r.key("b.pub")
	looks(good)
	looks("")

	r.put("b.pub", "")
	looks(bad)
	looks("")
	if err := os.Remove(filepath.Join(r.dir, "b.pub")); err != nil {
		t.Fatal(err)
	}
	looks(bad)
	r.key("b.pub")
	looks(good)

	// relay.toml is read when a key file changes, but not when only it changes.
	r.put("relay.toml", hybridConfig("c.pub"))
	looks("")
	r.again()
	r.logged(bad)
	r.key("c.pub") // the file that was missing
	looks(good)
	r.key("b.pub")
	looks("")

	r.put("relay.toml", "unknown = 1")
	r.key("c.pub")
	looks(bad)
	looks("")
	r.put("relay.toml", hybridConfig("c.pub"))
	r.again()
	r.logged(good)
}
