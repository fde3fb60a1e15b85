// Command benchmark compares the time and memory of qkdmail with those of other
// programs that encrypt files, and the messages a second of the relay with those
// of a bare go-smtp relay and Postfix. It prints a report in Markdown.
// scripts/bench runs it; docs/performance.md explains the figures.
//
// Contenders take turns and are compared within a round, because the speed of a
// machine varies.
package main

import (
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"syscall"

	"github.com/qkdmail/qkdmail/cmd/internal/kmsim"
)

// A bench is one run of the program.
type bench struct {
	rounds int
	quick  bool
	only   string         // part of what is measured; "": everything
	match  *regexp.Regexp // names of contenders; nil: all
	out    string         // file of the report; "": standard output
	json   string         // file of the figures; "": none
	dir    string         // private, in memory where there is /dev/shm
	km     string         // URL of a key manager with the QMail REST API
	atEnd  []func()
	results
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := command(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "benchmark:", err)
		os.Exit(1)
	}
}

func command(ctx context.Context) (err error) {
	if text := os.Getenv(relayEnv); text != "" {
		return serveRelay(ctx, text)
	}
	b := &bench{}
	flag.IntVar(&b.rounds, "rounds", 5, "rounds for long messages; short ones have more")
	flag.BoolVar(&b.quick, "quick", false, "one round with short messages, to check that everything works")
	flag.StringVar(&b.only, "only", "", "measure only this `part`: files, cipher or relay")
	flag.Func("match", "measure only contenders whose names match this `regexp`, and those they are compared with", func(text string) (err error) {
		b.match, err = regexp.Compile(text)
		return err
	})
	flag.StringVar(&b.out, "out", "", "`file` to write the report to, replacing an older one; the plot is written beside it, as .svg")
	flag.StringVar(&b.json, "json", "", "`file` to write the figures to, as JSON")
	flag.Parse()
	if !slices.Contains([]string{"", "files", "cipher", "relay"}, b.only) || b.rounds < 1 || flag.NArg() > 0 {
		flag.Usage()
		os.Exit(64)
	}
	if b.out != "" && (b.only != "" || b.match != nil || b.quick) {
		return errors.New("-out replaces a whole report: leave out -only, -match and -quick")
	}
	return b.run(ctx)
}

// run measures what is asked for and writes the report.
func (b *bench) run(ctx context.Context) (err error) {
	if b.quick {
		b.rounds = 1
	}
	memory := "/dev/shm"
	if _, err := os.Stat(memory); err != nil {
		memory = ""
	}
	if b.dir, err = os.MkdirTemp(memory, "qkdmail-bench-"); err != nil {
		return err
	}
	defer os.RemoveAll(b.dir)
	defer func() {
		for _, do := range slices.Backward(b.atEnd) {
			do()
		}
	}()
	if err := b.build(ctx); err != nil {
		return err
	}
	var failed error
	for _, part := range []struct {
		name    string
		measure func(context.Context) error
	}{{"files", b.measureFiles}, {"cipher", b.measureCipher}, {"relay", b.measureRelays}} {
		if b.only == "" || b.only == part.name {
			failed = errors.Join(failed, part.measure(ctx))
		}
		if ctx.Err() != nil {
			return failed
		}
	}
	b.conclude()
	if failed != nil {
		b.out = "" // keep an older report intact
	}
	return errors.Join(failed, b.write())
}

// build builds qkdmail as for the packages (scripts/package) and notes which
// machine and versions the figures are for.
func (b *bench) build(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-buildvcs=auto", "-trimpath", "-ldflags", "-s -w", "-o", b.dir, "github.com/qkdmail/qkdmail/cmd/qkdmail")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w: %s", err, out)
	}
	b.note(ctx, "processor", `sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | sed 1q; echo ", $(nproc) cores"`)
	b.note(ctx, "system", `. /etc/os-release; echo "$PRETTY_NAME, $(uname -sr)"`)
	b.note(ctx, "qkdmail", "./qkdmail --version | sed 's/^qkdmail version //'")
	b.Machine = append(b.Machine, [2]string{"Go", strings.TrimPrefix(runtime.Version(), "go")})
	return nil
}

// note adds what a script prints to the description of the machine.
func (b *bench) note(ctx context.Context, name, script string) error {
	said, err := b.shell(ctx, script)
	if err == nil {
		b.Machine = append(b.Machine, [2]string{name, strings.ReplaceAll(strings.TrimSpace(said), "\n", "")})
	}
	return err
}

// shell runs a script in the private folder and returns what it prints.
func (b *bench) shell(ctx context.Context, script string) (string, error) {
	cmd := exec.CommandContext(ctx, "sh", "-ec", script)
	cmd.Dir = b.dir
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", script, err, stderr.String())
	}
	return string(out), nil
}

// serve serves a key manager on loopback until the end.
func (b *bench) serve(ctx context.Context, handler http.Handler, config *tls.Config) (address string, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	ctx, stop := context.WithCancel(ctx)
	served := make(chan error, 1)
	go func() { served <- kmsim.Serve(ctx, l, handler, kmsim.ServeOptions{TLS: config}) }()
	b.atEnd = append(b.atEnd, func() { stop(); <-served })
	return l.Addr().String(), nil
}

func (b *bench) file(name string) string { return filepath.Join(b.dir, name) }

// A contender takes part in a measurement.
type contender interface {
	label() string
	prepare(context.Context, *bench) error
}

// prepared returns the contenders that are wanted and can be measured. The
// first, with which the others are compared, is always among them.
func prepared[C contender](ctx context.Context, b *bench, all []C) (ready []C) {
	for i, c := range all {
		if i > 0 && b.match != nil && !b.match.MatchString(c.label()) {
			continue
		}
		if err := c.prepare(ctx, b); err != nil {
			b.Skipped = append(b.Skipped, fmt.Sprintf("%s: %v", c.label(), err))
			continue
		}
		ready = append(ready, c)
	}
	return ready
}

// inTurns measures contenders round after round, each of them first in some
// rounds, and adds the results. Round 0 is a warm-up.
func inTurns[C contender](rounds int, all []C, measure func(c C, warmUp bool) error) error {
	for round := range rounds + 1 {
		for i := range all {
			c := all[(i+round)%len(all)]
			if err := measure(c, round == 0); err != nil {
				return fmt.Errorf("%s: %w", c.label(), err)
			}
		}
	}
	return nil
}
