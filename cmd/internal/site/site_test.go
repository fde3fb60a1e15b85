package site

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/qkdmail/qkdmail/cmd/internal/terminal"
	"github.com/qkdmail/qkdmail/mailer"
	"github.com/qkdmail/qkdmail/mailer/relay/config"
)

func sample(t *testing.T) *Site {
	return &Site{
		Dir: filepath.Join(t.TempDir(), "qkdmail"), Hostname: "mail.a.example", Domains: []string{"a.example"}, Suite: "auto", Port: FirstPort, Unit: true,
		KM:   config.KM{URL: "etsi014:https://kme.a.example:8443", SAE: "SAE_A", CA: "ca.crt", Cert: "a.crt", Key: "a.key"},
		Peer: config.Peer{Name: "site-b", SAE: "SAE_B", Domains: []string{"b.example", "*.b.example"}},
	}
}

func fileOf(t *testing.T, s *Site, name string) string {
	t.Helper()
	files, err := s.Files()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if f.Name == name {
			return string(f.Text)
		}
	}
	t.Fatalf("no file %s", name)
	return ""
}

// TestPostfixLines: the lines are those of the end-to-end tests, which docs/postfix.md
// explains.
func TestPostfixLines(t *testing.T) {
	for name, tested := range map[string]string{MainFile: "main.cf", MasterFile: "master.cf"} {
		want, err := os.ReadFile(filepath.Join("..", "e2e", "testdata", tested))
		if err != nil {
			t.Fatal(err)
		}
		if got := fileOf(t, sample(t), name); got != string(want) {
			t.Errorf("%s is not cmd/internal/e2e/testdata/%s:\n%s", name, tested, got)
		}
	}
}

func TestPorts(t *testing.T) {
	s := sample(t)
	s.Port = 20024
	for _, name := range []string{ConfigFile, MainFile, MasterFile} {
		text := fileOf(t, s, name)
		for _, port := range []string{"10024", "10025", "10026", "10027", "10028"} {
			if strings.Contains(text, port) {
				t.Errorf("%s still has port %s", name, port)
			}
		}
	}
	c, err := config.Parse("", []byte(fileOf(t, s, ConfigFile)))
	if err != nil {
		t.Fatal(err)
	}
	if got := c.Listeners[0].Address + " " + c.NextHops[1].Address; got != "127.0.0.1:20025 127.0.0.1:20028" {
		t.Errorf("the relay has %s", got)
	}
}

func TestConfigSaysWhatWasAsked(t *testing.T) {
	c, err := config.Parse("", []byte(fileOf(t, sample(t), ConfigFile)))
	if err != nil {
		t.Fatal(err)
	}
	p, err := c.Policy()
	if err != nil {
		t.Fatal(err)
	}
	for address, peer := range map[string]string{"x@b.example": "site-b", "x@deep.b.example": "site-b", "x@c.example": ""} {
		r := p.Outbound(address)
		got := ""
		if r.Peer != nil {
			got = r.Peer.Name
		}
		if got != peer || peer != "" && r.Mode != mailer.Required {
			t.Errorf("%s: peer %q, mode %v; want peer %q, required", address, got, r.Mode, peer)
		}
	}
	if !p.InboundRequired("b.example") {
		t.Error("plain mail from the peer's users is not refused")
	}
	if !p.OwnDomain("a.example") || p.OwnDomain("b.example") {
		t.Error("the site's own domains are not those that were given")
	}
	if c.KM.SAE != "SAE_A" || !strings.HasSuffix(c.KM.Cert, "a.crt") || c.Hostname != "mail.a.example" {
		t.Errorf("hostname %q, [km] %+v", c.Hostname, c.KM)
	}
}

// TestHostile: no value can become another key of the file.
func TestHostile(t *testing.T) {
	for name, change := range map[string]func(*Site){
		"a quote in the host":      func(s *Site) { s.Hostname = `mail"` + "\nlog = 1" },
		"a line end in the SAE":    func(s *Site) { s.KM.SAE = "A\nurl = \"mock:x\"" },
		"a quote in a domain":      func(s *Site) { s.Peer.Domains = []string{`b.example", "c.example`} },
		"no domain":                func(s *Site) { s.Peer.Domains = nil },
		"a wildcard alone":         func(s *Site) { s.Peer.Domains = []string{"*"} },
		"another suite":            func(s *Site) { s.Suite = "rot13" },
		"a key manager of no kind": func(s *Site) { s.KM.URL = "ftp://x" },
		"our own SAE as the peer":  func(s *Site) { s.Peer.SAE = s.KM.SAE },
		"a port too high":          func(s *Site) { s.Port = 65535 },
		"invalid UTF-8":            func(s *Site) { s.KM.Cert = "\xff.crt" },
	} {
		s := sample(t)
		change(s)
		if files, err := s.Files(); !errors.Is(err, mailer.ErrConfig) {
			t.Errorf("%s: error %v, want mailer.ErrConfig; made:\n%v", name, err, files)
		}
	}
}

func TestWrite(t *testing.T) {
	s := sample(t)
	files, err := s.Files()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Write(files, false); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(s.Config())
	if err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("%v, %v; want mode 0640", info.Mode(), err)
	}
	if err := os.Remove(filepath.Join(s.Dir, MainFile)); err != nil {
		t.Fatal(err)
	}
	if err := s.Write(files, false); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a second time: %v, want fs.ErrExist", err)
	}
	if _, err := os.Stat(filepath.Join(s.Dir, MainFile)); err == nil {
		t.Error("a file is made although another exists")
	}
	if err := s.Write(files, true); err != nil {
		t.Errorf("with force: %v", err)
	}
	left, _ := filepath.Glob(filepath.Join(s.Dir, ".*"))
	if len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestUnit has systemd check the unit.
func TestUnit(t *testing.T) {
	s := sample(t)
	unit := fileOf(t, s, UnitFile)
	if !strings.Contains(unit, "--config "+s.Config()+"\n") {
		t.Errorf("the unit does not name %s", s.Config())
	}
	if want := fmt.Sprintf("\nRestartPreventExitStatus=%d %d\n", terminal.ExitUsage, terminal.ExitConfig); !strings.Contains(unit, want) {
		t.Errorf("the unit must have %q: a restart does not cure these errors", want)
	}
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("SKIPPED: systemd-analyze is not installed")
	}
	// The program is not installed.
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	unit = strings.ReplaceAll(unit, "/usr/bin/qkdmail", program)
	unit = strings.ReplaceAll(unit, "Documentation=man:qkdmail-relay(1)\n", "")
	file := filepath.Join(t.TempDir(), UnitFile)
	if err := os.WriteFile(file, []byte(unit), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(analyze, "verify", "--man=no", file).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
	// Exposure of 10 is a service without any protection.
	if out, err := exec.Command(analyze, "security", "--offline=true", "--threshold=20", file).CombinedOutput(); err != nil {
		t.Errorf("systemd-analyze security: %v\n%s", err, out)
	}
}

// TestProblem: a value can be checked before the others are known.
func TestProblem(t *testing.T) {
	for name, tt := range map[string]struct {
		site Site
		key  string
		want string // in the problem; "": there is none
	}{
		"a hostname":                      {Site{Hostname: "mail.a.example"}, "hostname", ""},
		"no hostname":                     {Site{Hostname: "mail a"}, "hostname", "hostname"},
		"a key manager":                   {Site{KM: config.KM{URL: "etsi014:https://kme.example:8443"}}, "km.url", ""},
		"no key manager":                  {Site{KM: config.KM{URL: "nonsense"}}, "km.url", "must be mock:PATH"},
		"no key manager, asked of others": {Site{Hostname: "mail.a.example", KM: config.KM{URL: "nonsense"}}, "hostname", ""},
		"a CA":                            {Site{KM: config.KM{URL: "https://km.example", CA: "ca.crt"}}, "km.ca", ""},
		"a CA without TLS":                {Site{KM: config.KM{URL: "mock:x", CA: "ca.crt"}}, "km.ca", "has no TLS"},
		"a domain":                        {Site{Domains: []string{"a.example"}}, "site.domains", ""},
		"no domain":                       {Site{Domains: []string{"a..example"}}, "site.domains", "a..example"},
		"a peer's domain":                 {Site{Peer: config.Peer{Domains: []string{"*.b.example"}}}, "peer[0].domains", ""},
		"no peer's domain":                {Site{Peer: config.Peer{Domains: []string{"b.example", "b..example"}}}, "peer[0].domains", "b..example"},
		"our domain as a peer's":          {Site{Domains: []string{"a.example"}, Peer: config.Peer{Domains: []string{"a.example"}}}, "peer[0].domains", "our own"},
		"a control character":             {Site{Hostname: "mail\x00.a.example"}, "hostname", "control character"},
		"a suite":                         {Site{Suite: "otp"}, "rule[0].suite", ""},
		"no suite":                        {Site{Suite: "rot13"}, "rule[0].suite", "rot13"},
		"no port":                         {Site{Port: 65535}, "hostname", "first port"},
	} {
		tt.site.Dir = "/etc/qkdmail"
		tt.site.Port = cmp.Or(tt.site.Port, FirstPort)
		tt.site.Suite = cmp.Or(tt.site.Suite, "auto")
		switch err := tt.site.Problem(tt.key); {
		case tt.want == "" && err != nil:
			t.Errorf("%s: %v, want no problem with %s", name, err, tt.key)
		case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
			t.Errorf("%s: %v, want a problem that says %q", name, err, tt.want)
		}
	}
}
