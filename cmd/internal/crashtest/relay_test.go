package crashtest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/qkdmail/qkdmail/cmd/internal/relaytest"
	"github.com/qkdmail/qkdmail/kmclient/keystore"
)

// The directions of a relay.
const (
	encrypt = "encrypt"
	decrypt = "decrypt"
)

// A relay is a process of qkdmail that is started again whenever it ends, as
// systemd would do.
type relay struct {
	name, direction string
	addr            string
	command         []string
	logFile         string
	order           *order
	km              *gate   // to the key manager
	store           []*gate // to the store; nil: it is a file

	mu      sync.Mutex
	cmd     *exec.Cmd     // nil: it is not running
	wanted  bool          // it should be running
	ends    int           // how often it ended by itself
	faults  []span        // when it was killed
	stopped chan struct{} // closed when the process has ended
}

// storeOf is where the relays of one direction keep their keys.
type storeOf struct {
	url  string   // for --store, with {0}, {1} … in place of endpoints
	key  string   // file of the store key; "": beside the SQLite file, and made with it
	ends []string // endpoints: each relay has its own gates to them
	open func(context.Context) (keystore.Engine, error)
}

// newRelay writes the configuration of a relay. It does not start the process.
func newRelay(t testing.TB, o *order, l *link, direction, name string, store storeOf, nextHop string) *relay {
	t.Helper()
	dir := t.TempDir()
	own, kme, peer := "SAE_A", "KME_A", "SAE_B"
	if direction == decrypt {
		own, kme, peer = "SAE_B", "KME_B", "SAE_A"
	}
	r := &relay{
		name: name, direction: direction, addr: relaytest.Loopback(relaytest.FreePort(t)), order: o, logFile: filepath.Join(dir, "log"),
		km: newGate(t, o, strings.TrimPrefix(l.URL[kme], "https://")),
	}
	url := store.url
	for i, end := range store.ends {
		g := newGate(t, o, end)
		r.store = append(r.store, g)
		url = strings.Replace(url, fmt.Sprintf("{%d}", i), g.Addr, 1)
	}
	protocol, rules := "lmtp", sendingRules
	if direction == decrypt {
		protocol, rules = "smtp", ""
	}
	cert, key := l.Certs.Of(own)
	text := fmt.Sprintf(configuration, name, direction, protocol, r.addr, nextHop, r.km.Addr, own, l.Certs.CA(), cert, key, peer) + rules
	config := filepath.Join(dir, "relay.toml")
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	r.command = []string{qkdmail(t), "relay", "--config", config, "--store", url}
	if store.key != "" {
		r.command = append(r.command, "--store-key", "file:"+store.key)
	}
	t.Cleanup(func() { r.stop() })
	return r
}

const configuration = `
hostname = "%[1]s.example"

[[listener]]
name = "in"
direction = "%[2]s"
protocol = "%[3]s"
address = "%[4]s"
next_hop = "next"

[[next_hop]]
name = "next"
address = "%[5]s"
tls = "off"

[km]
url = "etsi014:https://%[6]s"
sae = "%[7]s"
ca = "%[8]s"
cert = "%[9]s"
key = "%[10]s"

[[peer]]
name = "other-site"
sae = "%[11]s"

[limits]
connections_per_client = 500
`

const sendingRules = `
[[rule]]
domain = "b.example"
peer = "other-site"
encrypt = "required"
suite = "auto"
pad_limit = "256 KiB"

[[rule]]
domain = "aes.b.example"
peer = "other-site"
encrypt = "required"
suite = "aes-256-gcm"

[[rule]]
domain = "default"
encrypt = "never"
`

// start starts the process, and has it started again when it ends.
func (r *relay) start() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.wanted = true
	if r.cmd != nil {
		return nil
	}
	log, err := os.OpenFile(r.logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	cmd := exec.Command(r.command[0], r.command[1:]...)
	cmd.Stdout, cmd.Stderr = log, log
	relaytest.EndWithTest(cmd)
	if err := cmd.Start(); err != nil {
		return err
	}
	stopped := make(chan struct{})
	r.cmd, r.stopped = cmd, stopped
	go func() {
		_ = cmd.Wait() // an error if it was killed
		close(stopped)
		r.mu.Lock()
		ended := r.cmd == cmd
		if ended {
			r.cmd = nil
			r.ends++
		}
		r.mu.Unlock()
		if ended {
			time.Sleep(100 * time.Millisecond)
			r.mu.Lock()
			wanted := r.wanted
			r.mu.Unlock()
			if wanted {
				_ = r.start()
			}
		}
	}()
	return nil
}

// startAll starts relays, and waits until they answer.
func startAll(t testing.TB, relays []*relay) {
	t.Helper()
	for _, r := range relays {
		if err := r.start(); err != nil {
			t.Fatal(err)
		}
	}
	for _, r := range relays {
		relaytest.AwaitListening(t, r.name, r.addr)
	}
}

// kill ends the process as a crash would, and does not start it again.
func (r *relay) kill() {
	begin := r.order.now()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.wanted = false
	if r.cmd == nil {
		return
	}
	_ = r.cmd.Process.Kill()
	<-r.stopped
	r.cmd = nil
	r.faults = append(r.faults, span{begin, r.order.now()})
}

// stop ends the process gracefully, and reports whether that worked.
func (r *relay) stop() bool {
	begin := r.order.now()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.wanted = false
	if r.cmd == nil {
		return true
	}
	_ = r.cmd.Process.Signal(syscall.SIGTERM)
	ended := true
	select {
	case <-r.stopped:
	case <-time.After(40 * time.Second): // it gives messages in progress 30 s
		_ = r.cmd.Process.Kill()
		<-r.stopped
		ended = false
		r.faults = append(r.faults, span{begin, r.order.now()})
	}
	r.cmd = nil
	return ended
}

// deaths returns the times when the relay was killed.
func (r *relay) deaths() []span {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.faults)
}

// log returns the relay's log.
func (r *relay) log() string {
	text, err := os.ReadFile(r.logFile)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// logAtEnd logs the ends of the relays' logs if the test has failed.
func logAtEnd(t testing.TB, relays []*relay) {
	t.Cleanup(func() {
		if !t.Failed() {
			return
		}
		for _, r := range relays {
			lines := strings.Split(r.log(), "\n")
			t.Logf("the log of %s ends:\n%s", r.name, strings.Join(lines[max(0, len(lines)-20):], "\n"))
		}
	})
}
