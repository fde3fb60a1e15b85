// Command benchrelay measures how many messages a second the relay passes on,
// beside what else could be in its place: smtp-source → X → smtp-sink, all on
// loopback, where X is nothing, a bare relay on go-smtp, the encrypt relay, the
// decrypt relay, or Postfix. They take turns, round after round, and are
// compared within a round, since the machine is not always equally fast.
//
// The relays are mailer.Relay in a process of its own each, with keys that are
// derived in memory, so that no key manager is in the figures.
//
// Usage: go run ./mailer/loadtest/benchrelay [-rounds N] [-sessions N] [-scale F]
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime/pprof"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/qkdmail/qkdmail/cipher"
	"github.com/qkdmail/qkdmail/mailer"
	"github.com/qkdmail/qkdmail/mailer/internal/smtpkit"
)

var (
	rounds   = flag.Int("rounds", 5, "rounds")
	sessions = flag.Int("sessions", 20, "SMTP sessions at one time")
	scale    = flag.Float64("scale", 1, "how many messages, as a factor")
	role     = flag.String("role", "", "be one of the relays: pass, encrypt or decrypt (used by the program itself)")
	next     = flag.String("next", "", "next hop of -role")
	profile  = flag.String("cpuprofile", "", "where -role writes its CPU profile")
)

func main() {
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	do := run
	if *role != "" {
		do = serve
	}
	if err := do(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "benchrelay:", err)
		os.Exit(1)
	}
}

// serve is a process that relays, until its standard input ends.
func serve(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	if *profile != "" {
		f, err := os.Create(*profile)
		if err != nil {
			return err
		}
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer func() {
			pprof.StopCPUProfile()
			_ = f.Close()
		}()
	}
	if *role == "pass" {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		server := smtpkit.PassThrough(*next)
		go func() {
			<-ctx.Done()
			_ = server.Close()
		}()
		fmt.Println(l.Addr())
		return server.Serve(l)
	}
	cfg, err := mailer.QuickConfig(mailer.QuickOptions{
		Direction: mailer.Direction(*role), Listen: "127.0.0.1:0", NextHop: *next, KM: mailer.KMConfig{URL: "mock:unused"},
	})
	if err != nil {
		return err
	}
	cfg.Timeouts.Shutdown = time.Second
	for i := range cfg.Rules {
		cfg.Rules[i].Suite = string(cipher.SuiteAES256GCM)
	}
	// A line a message is logged, to nowhere.
	relay, err := mailer.NewRelay(cfg, new(smtpkit.Keys), slog.New(slog.NewTextHandler(io.Discard, nil)))
	if err != nil {
		return err
	}
	if err := relay.Listen(ctx); err != nil {
		return err
	}
	fmt.Println(relay.Addrs()[0])
	return relay.Serve(ctx)
}

// A target is what stands between source and sink.
type target struct {
	name    string
	address string
	pid     int                 // of the relay, for its CPU time; 0: not known
	sealed  bool                // it gets encrypted messages
	part    float64             // of the messages that the others get
	settle  func() error        // waits until all is delivered
	results map[int][]oneResult // by size of message
}

type oneResult struct {
	rate float64       // messages a second
	cpu  time.Duration // a message
}

// sizes of messages, and how many of them a round has.
var sizes = []struct{ octets, messages int }{{4_000, 4000}, {50_000, 2000}}

func run(ctx context.Context) error {
	for _, program := range []string{"smtp-source", "smtp-sink"} {
		if _, err := exec.LookPath(program); err != nil {
			fmt.Printf("SKIPPED: %s is not installed (Debian: apt-get install postfix)\n", program)
			return nil
		}
	}
	dir, err := os.MkdirTemp("", "benchrelay-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil { // Postfix's users go through it
		return err
	}
	var bg processes
	defer bg.stop()
	targets, err := start(ctx, &bg, dir)
	if err != nil {
		return err
	}
	for _, size := range sizes {
		if err := writeMessages(dir, size.octets); err != nil {
			return err
		}
		n := int(float64(size.messages) * *scale)
		for round := range *rounds + 1 {
			for i := range targets {
				t := targets[(i+round)%len(targets)]
				r, err := t.measure(ctx, dir, size.octets, int(float64(n)*t.part))
				if err != nil {
					return fmt.Errorf("%s: %w", t.name, err)
				}
				if round > 0 { // the first is to warm up
					t.results[size.octets] = append(t.results[size.octets], r)
				}
			}
		}
	}
	report(targets)
	return nil
}

// start starts the sink and all that is measured.
func start(ctx context.Context, bg *processes, dir string) ([]*target, error) {
	sink := fmt.Sprintf("127.0.0.1:%d", freePort())
	cmd := exec.CommandContext(ctx, "smtp-sink", "-u", "nobody", "-h", "sink.example", sink, "1000")
	if os.Getuid() != 0 {
		cmd.Args = slices.Delete(cmd.Args, 1, 3)
	}
	if err := bg.start(cmd); err != nil {
		return nil, err
	}
	if err := reachable(sink); err != nil {
		return nil, fmt.Errorf("smtp-sink: %w", err)
	}
	targets := []*target{{name: "none: source → sink", address: sink, part: 1}}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	for _, r := range []struct{ role, name string }{
		{"pass", "bare go-smtp pass-through"}, {"encrypt", "qkdmail, encrypt"}, {"decrypt", "qkdmail, decrypt"},
	} {
		cmd := exec.CommandContext(ctx, self, "-role", r.role, "-next", sink)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			return nil, err
		}
		if err := bg.start(cmd); err != nil {
			return nil, err
		}
		address, err := bufio.NewReader(out).ReadString('\n')
		if err != nil {
			return nil, fmt.Errorf("%s did not start", r.name)
		}
		targets = append(targets, &target{
			name: r.name, address: strings.TrimSpace(address), pid: cmd.Process.Pid, sealed: r.role == "decrypt", part: 1,
		})
	}
	postfix, err := startPostfix(ctx, bg, filepath.Join(dir, "postfix"), sink)
	if err != nil {
		fmt.Printf("SKIPPED: Postfix as a plain relay: %v\n", err)
	} else {
		targets = append(targets, postfix)
	}
	for _, t := range targets {
		t.results = map[int][]oneResult{}
	}
	return targets, nil
}

// writeMessages writes a message and its encrypted form, with LF: smtp-source
// makes CRLF of it.
func writeMessages(dir string, size int) error {
	plain := strings.ReplaceAll(string(smtpkit.Message(size)), "\r\n", "\n")
	if err := os.WriteFile(filepath.Join(dir, "plain"), []byte(plain), 0o644); err != nil {
		return err
	}
	f, err := os.Create(filepath.Join(dir, "sealed"))
	if err != nil {
		return err
	}
	w, err := cipher.Encrypt(context.Background(), f, new(smtpkit.Keys), &cipher.EncryptOptions{LineEnd: cipher.LineEndLF})
	if err == nil {
		_, err = io.WriteString(w, strings.ReplaceAll(plain, "\n", "\r\n"))
	}
	if err == nil {
		err = w.Close()
	}
	return errors.Join(err, f.Close())
}

// measure sends messages through the target.
func (t *target) measure(ctx context.Context, dir string, size, messages int) (oneResult, error) {
	file := filepath.Join(dir, "plain")
	if t.sealed {
		file = filepath.Join(dir, "sealed")
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "smtp-source", "-d", "-s", fmt.Sprint(*sessions), "-m", fmt.Sprint(messages),
		"-f", "alice@a.example", "-t", "bob@b.example", "-F", file, t.address)
	before, begin := cpuTime(t.pid), time.Now()
	if out, err := cmd.CombinedOutput(); err != nil {
		return oneResult{}, fmt.Errorf("smtp-source: %w: %s", err, out)
	}
	if t.settle != nil {
		if err := t.settle(); err != nil {
			return oneResult{}, err
		}
	}
	took := time.Since(begin)
	return oneResult{
		rate: float64(messages) / took.Seconds(),
		cpu:  (cpuTime(t.pid) - before) / time.Duration(messages),
	}, nil
}

// report prints the table. Ratios are those to the pass-through in the same
// round.
func report(targets []*target) {
	fmt.Printf("%d sessions, %d rounds, medians; the ratio is to the pass-through in the same round.\n\n", *sessions, *rounds)
	fmt.Print("| between smtp-source and smtp-sink |")
	for _, s := range sizes {
		fmt.Printf(" %d kB: messages/s | ratio | CPU of it, µs |", s.octets/1000)
	}
	fmt.Print("\n|---|" + strings.Repeat("---:|---:|---:|", len(sizes)) + "\n")
	for _, t := range targets {
		fmt.Printf("| %s |", t.name)
		for _, s := range sizes {
			var rates, ratios, cpus []float64
			for i, r := range t.results[s.octets] {
				rates = append(rates, r.rate)
				ratios = append(ratios, r.rate/targets[1].results[s.octets][i].rate)
				cpus = append(cpus, float64(r.cpu.Microseconds()))
			}
			cpu := "–"
			if t.pid != 0 {
				cpu = fmt.Sprintf("%.0f", median(cpus))
			}
			fmt.Printf(" %.0f | %.0f %% | %s |", median(rates), 100*median(ratios), cpu)
		}
		fmt.Println()
	}
}

func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	slices.Sort(v)
	return (v[len(v)/2] + v[(len(v)-1)/2]) / 2
}
