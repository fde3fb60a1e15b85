// Command benchmark measures qkdmail beside what else encrypts a mail, and writes
// a report and a plot; scripts/bench runs it. It is a module of its own, so that
// the library for plots is none of qkdmail's dependencies.
//
// All contenders take turns within a round, on files in memory, and are compared
// within a round: the machine is not always equally fast. Each message that is
// encrypted is decrypted and compared with the original.
//
// Usage, in the root of the repository: benchmark [-rounds N] [-quick] [-out FILE]
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
)

// Sizes, in octets.
const (
	kilo = 1000
	mega = 1000 * kilo
	giga = 1000 * mega
)

// A plan is how much is measured.
type plan struct {
	rounds int
	sizes  []int // of the messages, ascending
	stream int   // octets of the one message that is in no file
	pad    []int // sizes of the messages whose keys are counted
	quick  bool
}

func fullPlan(rounds int) plan {
	return plan{
		rounds: rounds, sizes: []int{10 * kilo, mega, 25 * mega, 200 * mega}, stream: giga,
		pad: []int{10 * kilo, 100 * kilo, mega},
	}
}

// quickPlan goes every way once. Its figures say nothing.
func quickPlan() plan {
	return plan{rounds: 1, sizes: []int{10 * kilo, mega}, stream: 10 * mega, pad: []int{10 * kilo}, quick: true}
}

// repeats is how often a message is measured: short runs scatter more.
func (p plan) repeats(size int) int {
	switch {
	case p.quick || size > 25*mega:
		return p.rounds
	case size > mega:
		return 2 * p.rounds
	case size > 10*kilo:
		return 6 * p.rounds
	}
	return 30 * p.rounds
}

func main() {
	rounds := flag.Int("rounds", 5, "rounds for the longest message; shorter ones have more")
	quick := flag.Bool("quick", false, "short messages, one round: to see that all works")
	out := flag.String("out", filepath.Join("docs", "performance.md"), "the report; the plot is written beside it, as .svg")
	flag.Parse()
	if *rounds < 1 || flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	p := fullPlan(*rounds)
	if *quick {
		p = quickPlan()
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, ".", *out, p)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "benchmark:", err)
		os.Exit(1)
	}
}

// A bench is one run.
type bench struct {
	plan
	root     string // of the repository
	dir      string // private, in memory where there is /dev/shm
	services services
	cleanup  []func()
	results
}

// run measures everything and writes the report.
func run(ctx context.Context, root, out string, p plan) error {
	root, err := filepath.Abs(root)
	if err != nil {
		return err
	}
	b := &bench{plan: p, root: root, results: newResults()}
	memory := "/dev/shm"
	if _, err := os.Stat(memory); err != nil {
		memory = ""
		b.skip("files in memory: there is no /dev/shm, so a disk is in the figures")
	}
	if b.dir, err = os.MkdirTemp(memory, "qkdmail-bench-"); err != nil {
		return err
	}
	defer os.RemoveAll(b.dir)
	defer func() {
		b.services.stop()
		for _, do := range b.cleanup {
			do()
		}
	}()
	var failed error
	for _, step := range []struct {
		what string
		do   func(context.Context) error
		must bool // without it there is nothing to report
	}{
		{"building qkdmail", b.build, true},
		{"describing the machine", b.describe, true},
		{"messages, every contender in turn", b.messages, true},
		{"memory for a long stream", b.longStream, false},
		{"the cipher in memory", b.shares, false},
		{"keys a message takes", b.keys, false},
		{"messages a second through the relay", b.relay, false},
	} {
		fmt.Fprintf(os.Stderr, "== %s ==\n", step.what)
		if err := step.do(ctx); err != nil {
			err = fmt.Errorf("%s: %w", step.what, err)
			if step.must || ctx.Err() != nil {
				return err
			}
			b.skip("%v", err)
			failed = errors.Join(failed, err)
		}
	}
	svg := strings.TrimSuffix(out, filepath.Ext(out)) + ".svg"
	if err := b.draw(svg); err != nil {
		return err
	}
	return errors.Join(failed, b.write(out, filepath.Base(svg)))
}

// build builds the program as the packages have it (scripts/package).
func (b *bench) build(ctx context.Context) error {
	cmd := b.goCommand(ctx, "build", "-buildvcs=true", "-trimpath", "-ldflags", "-s -w", "-o", b.dir, "./cmd/qkdmail")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	return runCommand(cmd)
}

// program is the path of qkdmail.
func (b *bench) program() string { return filepath.Join(b.dir, "qkdmail") }

// describe says what this is measured on.
func (b *bench) describe(ctx context.Context) error {
	model := "unknown processor"
	if cpus, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		model = field(string(cpus), "model name")
	}
	system := runtime.GOOS
	if release, err := os.ReadFile("/etc/os-release"); err == nil {
		system = strings.Trim(field(string(release), "PRETTY_NAME"), `"`)
	}
	kernel, err := output(ctx, "uname", "-sr")
	if err != nil {
		return err
	}
	version, err := output(ctx, b.program(), "--version")
	if err != nil {
		return err
	}
	b.machine = [][2]string{
		{"processor", fmt.Sprintf("%s, %d cores", model, runtime.NumCPU())},
		{"system", fmt.Sprintf("%s, %s", system, strings.TrimSpace(kernel))},
		{"Go", strings.TrimPrefix(runtime.Version(), "go")},
		{"qkdmail", strings.TrimSpace(strings.TrimPrefix(version, "qkdmail version"))},
	}
	return nil
}

// field returns the value of the first line "name : value" or "name=value".
func field(text, name string) string {
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			return strings.TrimSpace(strings.TrimLeft(rest, " \t:="))
		}
	}
	return "unknown"
}
