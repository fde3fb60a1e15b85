package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/qkdmail/qkdmail/cmd/internal/relaytest"
)

// The ports of docs/postfix.md. Each site has its own in their place.
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

// A site is a mail system with a relay.
type site struct {
	mailSystem

	name   string // "a" or "b"
	dir    string
	ports  map[string]int
	sink   *sink
	config string // of the relay

	relay *exec.Cmd
	log   *os.File // of the relay
}

// A mailSystem is the mail system beside the relay.
type mailSystem interface {
	// start starts it and returns a function that waits until it has started.
	start(t *testing.T, o options, wire string) (wait func())
	// flush makes it try all waiting mail again.
	flush() error
	// queue lists the waiting mail; "" if there is none.
	queue(t *testing.T) string
}

// options say how a world differs from docs/postfix.md.
type options struct {
	system    func(*site) mailSystem   // nil: Postfix
	km        func(site string) string // the lines of [km]; nil: a mock that both sites share
	rules     string                   // more for relay.toml
	master    map[string]string        // files of testdata that replace master.cf's services, by site
	decryptBy string                   // protocol of the decrypting listeners; "": smtp
	edit      func(site, file, text string) string
}

// newWorld starts two sites.
func newWorld(t *testing.T, o options) *world {
	t.Helper()
	if o.system == nil {
		needsPostfix(t)
		o.system = newPostfix
	}
	if o.km == nil {
		shared := filepath.Join(folder(t), "keys.json")
		o.km = func(site string) string {
			return fmt.Sprintf("url = \"mock:%s\"\nsae = \"SAE_%s\"\n", shared, strings.ToUpper(site))
		}
	}
	w := &world{a: newSite(t, "a"), b: newSite(t, "b")}
	w.a.mailSystem, w.b.mailSystem = o.system(w.a), o.system(w.b)
	w.ab = newTap(t, w.b.ports[portInternet])
	w.ba = newTap(t, w.a.ports[portInternet])
	t.Cleanup(func() {
		if t.Failed() {
			w.a.logEnds(t)
			w.b.logEnds(t)
		}
	})
	started := []func(){w.a.start(t, o, w.ab.Addr), w.b.start(t, o, w.ba.Addr)}
	for i, s := range []*site{w.a, w.b} {
		started[i]()
		s.writeRelay(t, o)
		s.startRelay(t)
	}
	return w
}

func newSite(t *testing.T, name string) *site {
	t.Helper()
	s := &site{name: name, dir: filepath.Join(folder(t), name), ports: map[string]int{}, sink: newSink(t)}
	if err := os.Mkdir(s.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{portInternet, portOwn, portEncrypt, portDecrypt, portOut, portIn} {
		s.ports[p] = relaytest.FreePort(t)
	}
	return s
}

// domain is the domain of the site's users.
func (s *site) domain() string { return s.name + ".example" }

func (s *site) path(file string) string { return filepath.Join(s.dir, file) }

// port returns the port of an address.
func port(addr string) string { return addr[strings.LastIndex(addr, ":")+1:] }

// folder returns a new folder that Postfix's unprivileged processes can enter.
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

// snippet returns a file from the document, with the document's ports replaced
// by the site's.
func (s *site) snippet(t *testing.T, file string) string {
	t.Helper()
	text := testdata(t, file)
	for doc, port := range s.ports {
		if doc != portInternet {
			text = strings.ReplaceAll(text, doc, strconv.Itoa(port))
		}
	}
	own := relaytest.Loopback(s.ports[portOwn])
	text = regexp.MustCompile(`(?m)^\d+ `).ReplaceAllString(text, own+" ")
	return strings.Replace(text, "\nsmtp      inet", "\n"+relaytest.Loopback(s.ports[portInternet])+" inet", 1)
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

// read returns a log.
func (s *site) read(file string) string {
	text, err := os.ReadFile(s.path(file))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err.Error()
	}
	return string(text)
}

// logEnds logs the ends of the site's logs.
func (s *site) logEnds(t *testing.T) {
	t.Helper()
	files, _ := filepath.Glob(s.path("*.log"))
	for _, file := range files {
		file = filepath.Base(file)
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
