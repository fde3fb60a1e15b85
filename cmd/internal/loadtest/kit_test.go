package loadtest

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/qkdmail/qkdmail/cmd/internal/relaytest"
	"github.com/qkdmail/qkdmail/cmd/internal/smtpkit"
)

// needsFigures skips where the memory of a process can't be told.
func needsFigures(t *testing.T) {
	t.Helper()
	if raceEnabled {
		t.Skip("the race detector takes memory of its own: run without -race")
	}
	if _, err := os.Stat("/proc/self/status"); err != nil {
		t.Skip("no /proc: memory can't be read here")
	}
}

// program is qkdmail, which the tests run.
var program relaytest.Program

func TestMain(m *testing.M) { os.Exit(program.Main(m)) }

// A relayProcess is one of "qkdmail relay".
type relayProcess struct {
	direction, address string
	pid                int
}

// The relays take great messages, and many clients from one address.
const relayConfig = `hostname = "relay.example"
[[listener]]
name = "in"
direction = %q
address = "127.0.0.1:0"
next_hop = "next"
[[next_hop]]
name = "next"
address = %q
[km]
url = "mock:%s"
[[peer]]
name = "peer"
%s
[limits]
message_size = "2 GiB"
connections = 500
connections_per_client = 600
[log]
level = "info"
`

const rules = `[[rule]]
domain = "default"
peer = "peer"
suite = "aes-256-gcm"
`

// startChain starts encrypt → decrypt → sink, and returns both relays.
func startChain(t *testing.T, sink string) (encrypt, decrypt *relayProcess) {
	t.Helper()
	qkdmail, keys := program.Path(t), filepath.Join(t.TempDir(), "keys.json")
	decrypt = startRelay(t, qkdmail, "decrypt", sink, keys)
	encrypt = startRelay(t, qkdmail, "encrypt", decrypt.address, keys)
	return encrypt, decrypt
}

func startRelay(t *testing.T, qkdmail, direction, next, keys string) *relayProcess {
	t.Helper()
	file := filepath.Join(t.TempDir(), "relay.toml")
	r := ""
	if direction == "encrypt" {
		r = rules
	}
	if err := os.WriteFile(file, fmt.Appendf(nil, relayConfig, direction, next, keys, r), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(qkdmail, "relay", "--config", file)
	log, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	address := make(chan string, 1)
	read := make(chan struct{})
	go func() {
		defer close(read)
		for lines := bufio.NewScanner(log); lines.Scan(); {
			if m := regexp.MustCompile(`msg=listening .*address=(\S+)`).FindStringSubmatch(lines.Text()); m != nil {
				address <- m[1]
			} else if !regexp.MustCompile(`msg=(delivered|"next hop seen")`).MatchString(lines.Text()) {
				t.Logf("%s: %s", direction, lines.Text())
			}
		}
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		<-read
		_ = cmd.Wait()
	})
	select {
	case a := <-address:
		return &relayProcess{direction: direction, address: a, pid: cmd.Process.Pid}
	case <-read:
		t.Fatalf("%s did not start", direction)
	case <-time.After(10 * time.Second):
		t.Fatalf("%s does not say where it listens", direction)
	}
	return nil
}

// memory returns what a process has resident, now and at most, in KiB.
func (r *relayProcess) memory(t *testing.T) (now, most int) {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", r.pid))
	if err != nil {
		t.Fatal(err)
	}
	for name, n := range map[string]*int{"VmRSS": &now, "VmHWM": &most} {
		m := regexp.MustCompile(name + `:\s+(\d+) kB`).FindSubmatch(status)
		if m == nil {
			t.Fatalf("no %s of %s", name, r.direction)
		}
		*n, _ = strconv.Atoi(string(m[1]))
	}
	return now, most
}

// startSink starts a sink for the time of the test.
func startSink(t *testing.T, sink *smtpkit.Sink) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() { sink.Serve(l) })
	t.Cleanup(func() {
		_ = l.Close()
		wg.Wait()
	})
	return l.Addr().String()
}
