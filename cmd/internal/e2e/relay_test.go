package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/qkdmail/qkdmail/cmd/internal/relaytest"
)

func (s *site) writeRelay(t *testing.T, o options) {
	t.Helper()
	text := s.snippet(t, "relay.toml")
	if s.name == "b" {
		text = strings.NewReplacer("a.example", "b.example", "b.example", "a.example",
			"SAE_A", "SAE_B", "SAE_B", "SAE_A", "site-b", "site-a").Replace(text)
	}
	before, after, _ := strings.Cut(text, "[km]\n")
	_, after, _ = strings.Cut(after, "\n\n")
	text = before + "[km]\n" + o.km(s.name) + "\n" + after + o.rules
	if o.decryptBy != "" {
		text = strings.Replace(text, `protocol = "smtp"`, fmt.Sprintf("protocol = %q", o.decryptBy), 1)
	}
	s.config = s.path("relay.toml")
	s.write(t, o, "relay.toml", text)
}

// startRelay starts the relay if it is not running, and waits until it listens.
func (s *site) startRelay(t *testing.T) {
	t.Helper()
	if s.relay != nil {
		return
	}
	if s.log == nil {
		log, err := os.Create(s.path("relay.log"))
		if err != nil {
			t.Fatal(err)
		}
		s.log = log
		t.Cleanup(func() {
			s.kill()
			_ = log.Close()
		})
	}
	s.relay = exec.Command(qkdmail(t), "relay", "--config", s.config)
	s.relay.Stdout, s.relay.Stderr = s.log, s.log
	s.relay.Env = append(os.Environ(), "GOTRACEBACK=single", "STATE_DIRECTORY="+s.path("state"))
	relaytest.EndWithTest(s.relay)
	if err := s.relay.Start(); err != nil {
		t.Fatal(err)
	}
	s.awaitPorts(t, portEncrypt, portDecrypt)
}

// awaitPorts waits until the site listens on all these ports.
func (s *site) awaitPorts(t *testing.T, ports ...string) {
	t.Helper()
	for _, p := range ports {
		relaytest.AwaitListening(t, "site "+s.name, relaytest.Loopback(s.ports[p]))
	}
}

// kill kills the relay.
func (s *site) kill() {
	if s.relay != nil {
		_ = s.relay.Process.Kill()
		_ = s.relay.Wait()
		s.relay = nil
	}
}
