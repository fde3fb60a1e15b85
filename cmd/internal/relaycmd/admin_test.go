package relaycmd

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/qkdmail/qkdmail/cmd/internal/flags"
	"github.com/qkdmail/qkdmail/cmd/internal/relaytest"
)

func TestRelayAdmin(t *testing.T) {
	dir := t.TempDir()
	config := configFile(t, strings.Replace(relayConfig, "keys.json", filepath.Join(dir, "keys.json"), 1)+"[admin]\naddress = \":1\"\npprof = true\n")
	url, log := relaytest.Admin(t, newRelay(&flags.Globals{}), "--config", config, "--store", filepath.Join(dir, "store.db"), "--admin", "127.0.0.1:0")
	if strings.Contains(log, "no password") {
		t.Errorf("there is a warning about a loopback address:\n%s", log)
	}
	for path, want := range map[string]string{
		"": "<title>", "healthz": "ok", "debug/pprof/": "goroutine",
		"metrics": "qkdmail_attack_alarms_total{kind=\"reused\"} 0", // there is a store
	} {
		if code, text := relaytest.Get(t, url+path); code != 200 || !strings.Contains(text, want) {
			t.Errorf("/%s: %d, without %q", path, code, want)
		}
	}
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		code, text := relaytest.Get(t, url+"readyz")
		if code == 503 && strings.Contains(text, "Can't be reached: next.") && strings.Contains(text, "store        ok") {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("/readyz: %d\n%s", code, text)
		}
	}
	if _, text := relaytest.Get(t, url); !strings.Contains(text, filepath.Join(dir, "store.db")) {
		t.Error("the page does not show the store that --store names")
	}
}

func TestRelayAdminForAll(t *testing.T) {
	_, log := relaytest.Admin(t, newRelay(&flags.Globals{}), "--config", configFile(t, relayConfig), "--admin", "0.0.0.0:0")
	if !strings.Contains(log, "level=WARN") || !strings.Contains(log, "no password") {
		t.Errorf("there is no warning about an address that other machines can reach:\n%s", log)
	}
}
