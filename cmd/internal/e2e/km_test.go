package e2e

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// etsi starts a simulated QKD link with a KME for each site, and returns what
// the relays need to know about it. gates gets the ways to the KMEs, which can
// be cut.
func etsi(t *testing.T, gates map[string]*tap) func(site string) string {
	t.Helper()
	needsPostfix(t)
	dir := folder(t)
	certs := filepath.Join(dir, "certs")
	run(t, nil, qkdmail(t), "km", "certs", certs)
	ports := map[string]int{"a": freePort(t), "b": freePort(t)}
	cmd := exec.Command(qkdmail(t), "km", "serve", "--api", "etsi014", "--certs", certs, "--quiet",
		"--kme", fmt.Sprintf("KME_A=127.0.0.1:%d", ports["a"]), "--kme", fmt.Sprintf("KME_B=127.0.0.1:%d", ports["b"]))
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = log.Close()
	})
	atDeath(t, fmt.Sprintf("kill -9 %d", cmd.Process.Pid))
	for _, port := range ports {
		await(t, 10*time.Second, "KME", func() bool {
			c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
			if err == nil {
				_ = c.Close()
			}
			return err == nil
		})
	}
	if gates != nil {
		for site, port := range ports {
			gates[site] = newTap(t, port)
			ports[site] = gates[site].port
		}
	}
	return func(site string) string {
		sae := "sae_" + site
		return fmt.Sprintf("url = \"etsi014:https://127.0.0.1:%d\"\nsae = \"%s\"\nca = \"%s/ca.crt\"\ncert = \"%[3]s/%s.crt\"\nkey = \"%[3]s/%[4]s.key\"\npool = false\n",
			ports[site], strings.ToUpper(sae), certs, sae)
	}
}

// TestKeyManagerDown cuts the ways to the key managers: mail waits in Postfix
// A's queue, and arrives when they are back.
func TestKeyManagerDown(t *testing.T) {
	gates := map[string]*tap{}
	w := newWorld(t, options{km: etsi(t, gates)})
	const secret = "a-text-that-waits"
	text := []byte("From: alice@a.example\r\nTo: bob@b.example\r\nSubject: x\r\n\r\n" + secret + "\r\n")
	for _, c := range []struct{ site, why, prefix string }{
		{"a", "to encrypt", "a"},
		{"b", "to decrypt", "b"},
	} {
		gates[c.site].set(true)
		reason := "" // as Postfix has it
		to := []string{c.prefix + "-pad@b.example", c.prefix + "-aes@aes.b.example"}
		send(t, w.a.ports[portOwn], "alice@a.example", to, text)
		for _, r := range to {
			await(t, 30*time.Second, r+" in the queue, refused for now", func() bool {
				queue := w.a.queue(t)
				reason = firstLine(queue, "451 4.7.5")
				return strings.Contains(queue, r) && reason != ""
			})
		}
		time.Sleep(3 * time.Second) // Postfix tries again and again
		for _, r := range to {
			if len(w.b.sink.to(r)) > 0 {
				t.Fatalf("%s has arrived without a key %s", r, c.why)
			}
		}
		t.Logf("no key %s: %s", c.why, reason)
		if strings.Contains(w.a.read("mail.log"), "queue file write error") {
			t.Error("a relay hung up instead of saying what is wrong")
		}
		gates[c.site].set(false)
		start := time.Now()
		if err := w.a.flush(); err != nil {
			t.Fatal(err)
		}
		for _, r := range to {
			w.b.sink.one(t, r)
		}
		await(t, 10*time.Second, "an empty queue", func() bool { return w.a.queueEmpty(t) })
		t.Logf("keys are back: all arrived %v later", time.Since(start).Round(10*time.Millisecond))
	}
	if n := len(w.b.sink.all()); n != 4 {
		t.Errorf("%d messages arrived instead of 4", n)
	}
	if w.ab.saw(secret) || w.ba.saw(secret) {
		t.Error("it was seen on the wire")
	}
}
