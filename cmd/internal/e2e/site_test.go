package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The ports of the document. Each site has random ones in their places.
const (
	portInternet = "25"    // Postfix, from the other site
	portOwn      = "10024" // Postfix, from the site's own servers
	portEncrypt  = "10025" // relay
	portDecrypt  = "10026" // relay
	portOut      = "10027" // Postfix, encrypted mail
	portIn       = "10028" // Postfix, restored mail
)

// A world is two sites and the wires between them.
type world struct {
	a, b   *site
	ab, ba *tap // from A to B, and from B to A
}

// A site is a Postfix with a relay.
type site struct {
	name   string // "a" or "b"
	dir    string
	ports  map[string]int
	sink   *sink
	config string // of the relay

	relay *exec.Cmd
	log   *os.File // of the relay
}

// options are how a world differs from the document.
type options struct {
	km        func(site string) string // the lines of [km]; nil: a mock that both sites share
	rules     string                   // more for relay.toml
	master    map[string]string        // files of testdata that replace master.cf's services, by site
	decryptBy string                   // protocol of the decrypting listeners; "": smtp
	edit      func(site, file, text string) string
}

// newWorld starts two sites.
func newWorld(t *testing.T, o options) *world {
	t.Helper()
	needsPostfix(t)
	if o.km == nil {
		shared := filepath.Join(folder(t), "keys.json")
		o.km = func(site string) string {
			return fmt.Sprintf("url = \"mock:%s\"\nsae = \"SAE_%s\"\n", shared, strings.ToUpper(site))
		}
	}
	w := &world{a: newSite(t, "a"), b: newSite(t, "b")}
	w.ab = newTap(t, w.b.ports[portInternet])
	w.ba = newTap(t, w.a.ports[portInternet])
	started := []func(){w.a.startPostfix(t, o, w.ab.port), w.b.startPostfix(t, o, w.ba.port)}
	for i, s := range []*site{w.a, w.b} {
		started[i]()
		s.writeRelay(t, o)
		s.startRelay(t)
	}
	t.Cleanup(func() {
		if t.Failed() {
			w.a.tell(t)
			w.b.tell(t)
		}
	})
	return w
}

// folder returns a new folder that Postfix's unprivileged processes can pass.
func folder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "qkdmail-e2e-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// freePort returns a port below those that the system gives to clients: a relay
// that is restarted must get its own again.
func freePort(t *testing.T) int {
	t.Helper()
	for range 1000 {
		port := 11000 + rand.IntN(20000)
		if l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			_ = l.Close()
			return port
		}
	}
	t.Fatal("no free port")
	return 0
}

func newSite(t *testing.T, name string) *site {
	t.Helper()
	s := &site{name: name, dir: filepath.Join(folder(t), name), ports: map[string]int{}, sink: newSink(t)}
	if err := os.Mkdir(s.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{portInternet, portOwn, portEncrypt, portDecrypt, portOut, portIn} {
		s.ports[p] = freePort(t)
	}
	return s
}

// domain is that of the site's users.
func (s *site) domain() string { return s.name + ".example" }

func (s *site) path(file string) string { return filepath.Join(s.dir, file) }

// snippet is a file of the document, with the site's ports in the places of its
// own.
func (s *site) snippet(t *testing.T, file string) string {
	t.Helper()
	text := testdata(t, file)
	for doc, port := range s.ports {
		if doc != portInternet {
			text = strings.ReplaceAll(text, doc, strconv.Itoa(port))
		}
	}
	own := fmt.Sprintf("127.0.0.1:%d", s.ports[portOwn])
	text = regexp.MustCompile(`(?m)^\d+ `).ReplaceAllString(text, own+" ")
	return strings.Replace(text, "\nsmtp      inet", fmt.Sprintf("\n127.0.0.1:%d inet", s.ports[portInternet]), 1)
}

func testdata(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", file))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func (s *site) write(t *testing.T, o options, file, text string) {
	t.Helper()
	if o.edit != nil {
		text = o.edit(s.name, file, text)
	}
	if err := os.WriteFile(s.path(file), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func (s *site) writePostfix(t *testing.T, o options, wire int) {
	t.Helper()
	base := strings.NewReplacer("@DIR@", s.dir, "@DOMAIN@", s.domain(),
		"@SINK@", strconv.Itoa(s.sink.port), "@WIRE@", strconv.Itoa(wire)).Replace(testdata(t, "base-main.cf"))
	s.write(t, o, "main.cf", base+s.snippet(t, "main.cf"))
	master := testdata(t, "base-master.cf") + s.snippet(t, "master.cf")
	if file := o.master[s.name]; file != "" {
		// Its line for the Internet takes the place of the one that is there.
		line := fmt.Sprintf("\n127.0.0.1:%d inet", s.ports[portInternet])
		before, after, _ := strings.Cut(master, line)
		_, after, _ = strings.Cut(after, "\n\n")
		master = before + "\n" + after + "\n" + s.snippet(t, file)
	}
	s.write(t, o, "master.cf", master)
}

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

// atDeath has a command run at the end of the test, also where this process is
// killed: it waits for a pipe to be closed.
func atDeath(t *testing.T, command string) {
	t.Helper()
	cmd := exec.Command("sh", "-c", "read _; { "+command+"; } >/dev/null 2>&1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	pipe, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = pipe.Close()
		_ = cmd.Wait()
	})
}

// startPostfix starts Postfix; the function that it returns waits until it has
// started.
func (s *site) startPostfix(t *testing.T, o options, wire int) (wait func()) {
	t.Helper()
	account, err := user.Lookup("postfix")
	if err != nil {
		t.Skipf("SKIPPED: %v", err)
	}
	uid, err := strconv.Atoi(account.Uid)
	if err != nil {
		t.Fatal(err)
	}
	s.writePostfix(t, o, wire)
	for _, d := range []string{"queue", "data"} {
		if err := os.Mkdir(s.path(d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chown(s.path("data"), uid, -1); err != nil {
		t.Fatal(err)
	}
	atDeath(t, "postfix -c "+s.dir+" stop")
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
		s.listens(t, portInternet, portOwn, portOut, portIn)
	}
}

// listens waits until all these ports are open.
func (s *site) listens(t *testing.T, ports ...string) {
	t.Helper()
	for _, p := range ports {
		await(t, 20*time.Second, "port "+p+" of site "+s.name, func() bool {
			c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", s.ports[p]))
			if err == nil {
				_ = c.Close()
			}
			return err == nil
		})
	}
}

// startRelay starts the relay and waits until it listens.
func (s *site) startRelay(t *testing.T) {
	t.Helper()
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
		atDeath(t, fmt.Sprintf("kill -9 $(cat %s)", s.path("relay.pid")))
	}
	if err := s.runRelay(qkdmail(t)); err != nil {
		t.Fatal(err)
	}
	s.listens(t, portEncrypt, portDecrypt)
}

func (s *site) runRelay(program string) error {
	s.relay = exec.Command(program, "relay", "--config", s.config)
	s.relay.Stdout, s.relay.Stderr = s.log, s.log
	s.relay.Env = append(os.Environ(), "GOTRACEBACK=single", "STATE_DIRECTORY="+s.path("state"))
	if err := s.relay.Start(); err != nil {
		return err
	}
	return os.WriteFile(s.path("relay.pid"), []byte(strconv.Itoa(s.relay.Process.Pid)), 0o644)
}

// kill kills the relay.
func (s *site) kill() {
	if s.relay != nil {
		_ = s.relay.Process.Kill()
		_ = s.relay.Wait()
		_ = os.Remove(s.path("relay.pid")) // another process may get its number
		s.relay = nil
	}
}

// flush has Postfix try all mail again that waits.
func (s *site) flush() error {
	out, err := exec.Command("postqueue", "-c", s.dir, "-f").CombinedOutput()
	if err != nil {
		return fmt.Errorf("postqueue -f: %w: %s", err, out)
	}
	return nil
}

// queue is what Postfix has in its queue.
func (s *site) queue(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("postqueue", "-c", s.dir, "-p").CombinedOutput()
	if err != nil {
		t.Fatalf("postqueue -p: %v: %s", err, out)
	}
	return string(out)
}

func (s *site) queueEmpty(t *testing.T) bool {
	return strings.Contains(s.queue(t), "Mail queue is empty")
}

// read returns a log.
func (s *site) read(file string) string {
	text, err := os.ReadFile(s.path(file))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err.Error()
	}
	return string(text)
}

// tell shows the ends of the logs of a test that failed.
func (s *site) tell(t *testing.T) {
	t.Helper()
	for _, file := range []string{"mail.log", "relay.log"} {
		lines := slices.DeleteFunc(strings.Split(s.read(file), "\n"), func(line string) bool {
			return strings.Contains(line, "postfix-script") || strings.Contains(line, "connect from")
		})
		t.Logf("%s of site %s ends:\n%s", file, s.name, strings.Join(lines[max(0, len(lines)-30):], "\n"))
	}
}

// run runs a program to its end.
func run(t *testing.T, stdin io.Reader, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	var out bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, &out, &out
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out.Bytes())
	}
	return out.String()
}
