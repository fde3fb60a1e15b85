// Command benchrelay measures how many messages a second the relay passes on,
// beside what else could be in its place: source → X → sink, all on loopback,
// where X is nothing, a bare relay on go-smtp, the encrypt relay, the decrypt
// relay, either with a simulated ETSI key manager and a key store, or Postfix.
// They take turns, round after round, and are compared within a round, since the
// machine is not always equally fast.
//
// Mail comes in three ways. "kept" and "new" are smtp-source, which waits for the
// answer to each command, over connections that are kept or with one for each
// message. "pipelined" is a source of our own, which sends MAIL, RCPT and DATA
// together over connections that are kept, as Postfix does.
//
// The relays are relay.Relay in a process of its own each. But for those with a
// key manager their keys are derived in memory, so that none is in the figures.
//
// Usage: go run ./cmd/internal/loadtest/benchrelay [-rounds N] [-sessions N] [-scale F]
// [-only REGEXP] [-json FILE] [-profiles DIR] [-postgres URL] [-syscalls]
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"syscall"
)

// A bench is one measurement of all targets.
type bench struct {
	rounds, sessions int
	scale            float64
	only             *regexp.Regexp
	json             string // file of the results; "": none
	profiles         string // folder for a CPU profile of each relay; "": none
	postgres         string
	syscalls         bool

	dir     string
	bg      processes
	sink    string // address
	km      *keyManagers
	targets []*target
	skipped []string
}

func main() {
	b, r := new(bench), new(role)
	flag.IntVar(&b.rounds, "rounds", 5, "rounds")
	flag.IntVar(&b.sessions, "sessions", 20, "SMTP sessions at one time")
	flag.Float64Var(&b.scale, "scale", 1, "how many messages, as a factor")
	only := flag.String("only", "", "measure the pass-through and what matches this, of \"NAME MODE SIZE\"")
	flag.StringVar(&b.json, "json", "", "file to write the results to, as JSON")
	flag.StringVar(&b.profiles, "profiles", "", "folder to write a CPU profile of each relay to")
	flag.StringVar(&b.postgres, "postgres", "", "also with a key store at this URL of PostgreSQL, whose schema \"qkdmail store init\" has made")
	flag.BoolVar(&b.syscalls, "syscalls", false, "also count system calls; needs strace")
	flag.StringVar(&r.name, "role", "", "be one of the relays: pass, encrypt or decrypt (used by the program itself)")
	flag.StringVar(&r.next, "next", "", "next hop of -role")
	flag.StringVar(&r.km, "km", "", "ETSI key manager of -role, HOST:PORT; \"\": keys are derived")
	flag.StringVar(&r.certs, "certs", "", "folder with its certificates")
	flag.StringVar(&r.store, "store", "", "key store of -role, a file or a PostgreSQL URL; \"\": none")
	flag.StringVar(&r.profile, "cpuprofile", "", "where -role writes its CPU profile")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	if r.name != "" {
		err = r.serve(ctx)
	} else if b.only, err = regexp.Compile(*only); err == nil {
		err = b.run(ctx)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "benchrelay:", err)
		os.Exit(1)
	}
}

// sizes of messages, and how many of them a round has.
var sizes = []struct{ octets, messages int }{{4_000, 4000}, {50_000, 2000}}

func (b *bench) run(ctx context.Context) (err error) {
	for _, program := range []string{"smtp-source", "smtp-sink"} {
		if _, err := exec.LookPath(program); err != nil {
			fmt.Printf("SKIPPED: %s is not installed (Debian: apt-get install postfix)\n", program)
			return nil
		}
	}
	if b.dir, err = os.MkdirTemp("", "benchrelay-"); err != nil {
		return err
	}
	defer os.RemoveAll(b.dir)
	if err := os.Chmod(b.dir, 0o755); err != nil { // Postfix's users go through it
		return err
	}
	defer b.bg.stop()
	if err := b.start(ctx); err != nil {
		return err
	}
	defer b.km.stop()
	for _, size := range sizes {
		mail, err := b.newMail(size.octets)
		if err != nil {
			return err
		}
		for _, m := range modes {
			if err := b.measure(ctx, m, mail, int(float64(size.messages)*b.scale)); err != nil {
				return err
			}
		}
	}
	for _, t := range b.targets {
		t.peak = peakMemory(t.pid)
	}
	return b.report(os.Stdout)
}

// measure runs all rounds of one mode with messages of one size.
func (b *bench) measure(ctx context.Context, m mode, mail *mail, messages int) error {
	var targets []*target
	for i, t := range b.targets {
		if t.takes(m) && (i == passThrough || b.only.MatchString(fmt.Sprintf("%s %s %d", t.name, m, mail.size))) {
			targets = append(targets, t)
		}
	}
	if len(targets) < 2 && b.only.String() != "" {
		return nil
	}
	for round := range b.rounds + 1 {
		for i := range targets {
			t := targets[(i+round)%len(targets)]
			r, err := b.once(ctx, t, m, mail, max(1, int(float64(messages)*t.part)))
			if err != nil {
				return fmt.Errorf("%s, %s, %d octets: %w", t.name, m, mail.size, err)
			}
			if round > 0 { // the first is to warm up
				t.add(m, mail.size, r)
			}
		}
	}
	if !b.syscalls {
		return nil
	}
	for _, t := range targets {
		if err := b.countCalls(ctx, t, m, mail, max(100, messages/10)); errors.Is(err, errNoStrace) {
			b.skip("system calls: %v", err)
			b.syscalls = false
			return nil
		} else if err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) skip(format string, args ...any) {
	b.skipped = append(b.skipped, fmt.Sprintf(format, args...))
}

func (b *bench) file(name string) string { return filepath.Join(b.dir, name) }
