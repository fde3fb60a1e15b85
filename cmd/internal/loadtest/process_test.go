package loadtest

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/qkdmail/qkdmail/cmd/internal/relaytest"
)

// needsFigures skips a test if the memory of a process can't be read.
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

func TestMain(m *testing.M) { program.Main(m) }

// A relayProcess is a process of "qkdmail relay".
type relayProcess struct {
	direction, address string
	pid                int
}

// relayConfig is for relays that take large messages and many clients from one
// address.
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
	keys := filepath.Join(t.TempDir(), "keys.json")
	decrypt = startRelay(t, "decrypt", sink, keys)
	encrypt = startRelay(t, "encrypt", decrypt.address, keys)
	return encrypt, decrypt
}

func startRelay(t *testing.T, direction, next, keys string) *relayProcess {
	t.Helper()
	file := filepath.Join(t.TempDir(), "relay.toml")
	r := ""
	if direction == "encrypt" {
		r = rules
	}
	if err := os.WriteFile(file, fmt.Appendf(nil, relayConfig, direction, next, keys, r), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program.Path(t), "relay", "--config", file)
	log, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	relaytest.EndWithTest(cmd)
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
		t.Fatalf("%s does not log where it listens", direction)
	}
	return nil
}

// memory returns the resident memory of the process, now and at most, in KiB.
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
