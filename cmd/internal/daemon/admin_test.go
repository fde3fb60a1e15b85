package daemon

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/qkdmail/qkdmail/cmd/internal/cli"
	"github.com/spf13/cobra"
)

// adminOf runs a command with --admin and returns where it serves
// administrators, and what it has logged until then.
func adminOf(t *testing.T, cmd *cobra.Command, args ...string) (url, log string) {
	t.Helper()
	cmd.SetArgs(args)
	r, w := io.Pipe()
	cmd.SetErr(w)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- cmd.ExecuteContext(ctx)
		_ = w.Close()
	}()
	found := make(chan [2]string, 1)
	go func() {
		var all strings.Builder
		url := ""
		for lines := bufio.NewScanner(r); lines.Scan(); {
			all.WriteString(lines.Text() + "\n")
			if m := regexp.MustCompile(`for administrators" url=(\S+)`).FindStringSubmatch(lines.Text()); m != nil {
				url = m[1]
			} else if url != "" { // the line behind it, which may be a warning
				select {
				case found <- [2]string{url, all.String()}:
				default:
				}
			}
		}
	}()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("the command ended with %v", err)
		}
	})
	select {
	case f := <-found:
		return f[0], f[1]
	case <-time.After(20 * time.Second):
		t.Fatal("nothing is served to administrators")
		return "", ""
	}
}

// body returns what is at a URL.
func body(t *testing.T, url string) (code int, text string) {
	t.Helper()
	a, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Body.Close()
	b, err := io.ReadAll(a.Body)
	if err != nil {
		t.Fatal(err)
	}
	return a.StatusCode, string(b)
}

func TestRelayAdmin(t *testing.T) {
	dir := t.TempDir()
	config := filepath.Join(dir, "relay.toml")
	text := strings.Replace(relayConfig, "keys.json", filepath.Join(dir, "keys.json"), 1) + "[admin]\naddress = \":1\"\npprof = true\n"
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	url, log := adminOf(t, newRelay(&cli.Globals{}), "--config", config, "--store", filepath.Join(dir, "store.db"), "--admin", "127.0.0.1:0")
	if strings.Contains(log, "no password") {
		t.Errorf("a loopback address is warned of:\n%s", log)
	}
	for path, want := range map[string]string{
		"": "<title>", "healthz": "ok", "debug/pprof/": "goroutine",
		"metrics": "qkdmail_attack_alarms_total{kind=\"reused\"} 0", // there is a store
	} {
		if code, text := body(t, url+path); code != 200 || !strings.Contains(text, want) {
			t.Errorf("/%s: %d, without %q", path, code, want)
		}
	}
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		code, text := body(t, url+"readyz")
		if code == 503 && strings.Contains(text, "Can't be reached: next.") && strings.Contains(text, "store        ok") {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("/readyz: %d\n%s", code, text)
		}
	}
	if _, text := body(t, url); !strings.Contains(text, filepath.Join(dir, "store.db")) {
		t.Error("the page does not show the store that --store names")
	}
}

func TestRelayAdminForAll(t *testing.T) {
	config := filepath.Join(t.TempDir(), "relay.toml")
	if err := os.WriteFile(config, []byte(relayConfig), 0o600); err != nil {
		t.Fatal(err)
	}
	_, log := adminOf(t, newRelay(&cli.Globals{}), "--config", config, "--admin", "0.0.0.0:0")
	if !strings.Contains(log, "level=WARN") || !strings.Contains(log, "no password") {
		t.Errorf("an address that is open to others is not warned of:\n%s", log)
	}
}

func TestServeAdmin(t *testing.T) {
	url, _ := adminOf(t, newKMServe(), "--api", "qmail", "--listen", "127.0.0.1:0", "--memory", "--capacity", "7", "--admin", ":0")
	if !strings.HasPrefix(url, "http://127.0.0.1:") {
		t.Errorf("an address without a host is %s, want loopback", url)
	}
	for path, want := range map[string]string{
		"healthz": "ok", "readyz": "ready", "metrics": "qkdmail_simulator_key_stock{saes=\"(none)\"} 7",
	} {
		if code, text := body(t, url+path); code != 200 || !strings.Contains(text, want) {
			t.Errorf("/%s: %d, without %q", path, code, want)
		}
	}
}
