package e2e

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"strings"
	"testing"

	"github.com/qkdmail/qkdmail/cmd/internal/relaytest"
)

// postfix is the Postfix of a site.
type postfix struct {
	*site
	listens []string // at these ports
}

func newPostfix(s *site) mailSystem {
	return &postfix{s, []string{portInternet, portOwn, portOut, portIn}}
}

func (s *postfix) configure(t *testing.T, o options, wire string) {
	t.Helper()
	base := strings.NewReplacer("@DIR@", s.dir, "@DOMAIN@", s.domain(),
		"@SINK@", port(s.sink.addr), "@WIRE@", port(wire)).Replace(testdata(t, "base-main.cf"))
	s.write(t, o, "main.cf", base+s.snippet(t, "main.cf"))
	master := testdata(t, "base-master.cf") + s.snippet(t, "master.cf")
	if file := o.master[s.name]; file != "" {
		// Its line for the Internet replaces the existing one.
		line := "\n" + relaytest.Loopback(s.ports[portInternet]) + " inet"
		before, after, _ := strings.Cut(master, line)
		_, after, _ = strings.Cut(after, "\n\n")
		master = before + "\n" + after + "\n" + s.snippet(t, file)
	}
	s.write(t, o, "master.cf", master)
}

func (s *postfix) start(t *testing.T, o options, wire string) (wait func()) {
	t.Helper()
	account, err := user.Lookup("postfix")
	if err != nil {
		t.Skipf("SKIPPED: %v", err)
	}
	uid, err := strconv.Atoi(account.Uid)
	if err != nil {
		t.Fatal(err)
	}
	s.configure(t, o, wire)
	for _, d := range []string{"queue", "data"} {
		if err := os.Mkdir(s.path(d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chown(s.path("data"), uid, -1); err != nil {
		t.Fatal(err)
	}
	relaytest.AtEnd(t, "postfix -c "+s.dir+" stop")
	start := exec.Command("postfix", "-c", s.dir, "start")
	var out bytes.Buffer
	start.Stdout, start.Stderr = &out, &out
	if err := start.Start(); err != nil {
		t.Fatal(err)
	}
	return func() {
		t.Helper()
		if err := start.Wait(); err != nil {
			t.Fatalf("postfix start: %v: %s%s", err, out.Bytes(), s.read("mail.log"))
		}
		s.awaitPorts(t, s.listens...)
	}
}

func (s *postfix) flush() error {
	out, err := exec.Command("postqueue", "-c", s.dir, "-f").CombinedOutput()
	if err != nil {
		return fmt.Errorf("postqueue -f: %w: %s", err, out)
	}
	return nil
}

func (s *postfix) queue(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("postqueue", "-c", s.dir, "-p").CombinedOutput()
	if err != nil {
		t.Fatalf("postqueue -p: %v: %s", err, out)
	}
	if strings.Contains(string(out), "Mail queue is empty") {
		return ""
	}
	return string(out)
}
