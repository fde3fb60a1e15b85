package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// A mode is how mail comes.
type mode string

const (
	kept      mode = "kept"      // smtp-source, connections kept
	perMail   mode = "new"       // smtp-source, a connection for each message
	pipelined mode = "pipelined" // our own source, connections kept
)

var modes = []mode{kept, perMail, pipelined}

// A target is what stands between source and sink.
type target struct {
	name    string
	address string
	pid     int                    // of the relay, for its CPU time; 0: not known
	ask     func() (totals, error) // what the relay reports; nil: nothing
	sealed  bool                   // it gets encrypted messages
	unique  bool                   // each with a key of its own
	part    float64                // of the messages that the others get
	settle  func() error           // waits until all is delivered; nil: it is when it is answered
	peak    int                    // KiB
	results map[result][]oneResult
	calls   map[result]map[string]float64 // a message, by name of the system call
}

// A result is what targets are compared in.
type result struct {
	mode mode
	size int
}

type oneResult struct {
	rate     float64       // messages a second
	cpu      time.Duration // of the relay, a message
	requests float64       // to its key manager, a message
	waits    totals        // a message
}

// passThrough is the index of what ratios are to.
const passThrough = 1

func (t *target) takes(m mode) bool { return !t.unique || m == pipelined }

func (t *target) add(m mode, size int, r oneResult) {
	k := result{m, size}
	t.results[k] = append(t.results[k], r)
}

// start starts the sink and all that is measured.
func (b *bench) start(ctx context.Context) (err error) {
	if b.km, err = startKeyManagers(ctx, b.dir); err != nil {
		return err
	}
	b.sink = fmt.Sprintf("127.0.0.1:%d", freePort())
	cmd := exec.CommandContext(ctx, "smtp-sink", "-u", "nobody", "-h", "sink.example", b.sink, "1000")
	if os.Getuid() != 0 {
		cmd.Args = slices.Delete(cmd.Args, 1, 3)
	}
	if _, err := b.bg.start(cmd); err != nil {
		return err
	}
	if err := reachable(b.sink); err != nil {
		return fmt.Errorf("smtp-sink: %w", err)
	}
	b.targets = []*target{{name: "none: source → sink", address: b.sink, part: 1}}
	for _, r := range b.roles(ctx) {
		if err := b.startRole(ctx, r.t, r.args...); err != nil {
			return err
		}
	}
	postfix, err := startPostfix(ctx, &b.bg, b.file("postfix"), b.sink)
	if err != nil {
		b.skip("Postfix as a plain relay: %v", err)
	} else {
		b.targets = append(b.targets, postfix)
	}
	for _, t := range b.targets {
		t.results, t.calls = map[result][]oneResult{}, map[result]map[string]float64{}
	}
	return nil
}

// A started is a target that is a role of this program, and its arguments.
type started struct {
	t    *target
	args []string
}

// roles are those targets. The pass-through is the first.
func (b *bench) roles(ctx context.Context) []started {
	etsi := func(site int, args ...string) []string {
		return append(args, "-km", b.km.address[site], "-certs", b.km.certs)
	}
	roles := []started{
		{&target{name: "bare go-smtp pass-through", part: 1}, []string{"pass"}},
		{&target{name: "qkdmail, encrypt", part: 1}, []string{"encrypt"}},
		{&target{name: "qkdmail, decrypt", part: 1, sealed: true}, []string{"decrypt"}},
		{&target{name: "qkdmail, encrypt, ETSI 014", part: 1}, etsi(0, "encrypt")},
		{&target{name: "qkdmail, decrypt, ETSI 014, SQLite", part: 0.25, unique: true}, etsi(1, "decrypt", "-store", b.file("store.db"))},
	}
	if b.postgres == "" {
		return roles
	}
	return append(roles, started{
		&target{name: "qkdmail, decrypt, ETSI 014, PostgreSQL", part: 0.25, unique: true}, etsi(1, "decrypt", "-store", b.postgres),
	})
}

// startRole starts this program again, as one of the relays.
func (b *bench) startRole(ctx context.Context, t *target, args ...string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	args = append([]string{"-next", b.sink, "-role"}, args...)
	if b.profiles != "" {
		name := strings.NewReplacer(" ", "-", ",", "").Replace(t.name)
		args = append(args, "-cpuprofile", filepath.Join(b.profiles, name+".pprof"))
	}
	cmd := exec.CommandContext(ctx, self, args...)
	cmd.Stderr = os.Stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	in, err := b.bg.start(cmd)
	if err != nil {
		return err
	}
	out := bufio.NewReader(stdout)
	address, err := out.ReadString('\n')
	if err != nil {
		return fmt.Errorf("%s did not start", t.name)
	}
	t.address, t.pid = strings.TrimSpace(address), cmd.Process.Pid
	t.ask = func() (s totals, err error) {
		if _, err = io.WriteString(in, "\n"); err == nil {
			var line []byte
			if line, err = out.ReadBytes('\n'); err == nil {
				err = json.Unmarshal(line, &s)
			}
		}
		return s, err
	}
	b.targets = append(b.targets, t)
	return nil
}

// once sends messages through a target.
func (b *bench) once(ctx context.Context, t *target, m mode, mail *mail, messages int) (r oneResult, err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	run, err := b.source(ctx, t, m, mail, messages)
	if err != nil {
		return r, err
	}
	before, err := t.reported()
	if err != nil {
		return r, err
	}
	requests, cpu, begin := b.km.requests.Load(), cpuTime(t.pid), time.Now()
	if err := run(); err != nil {
		return r, err
	}
	if t.settle != nil {
		if err := t.settle(); err != nil {
			return r, err
		}
	}
	took := time.Since(begin)
	after, err := t.reported()
	if err != nil {
		return r, err
	}
	n := time.Duration(messages)
	r = oneResult{
		rate: float64(messages) / took.Seconds(), cpu: (cpuTime(t.pid) - cpu) / n,
		requests: float64(b.km.requests.Load()-requests) / float64(messages),
		waits:    totals{Total: (after.Total - before.Total) / n, Keys: (after.Keys - before.Keys) / n, Hop: (after.Hop - before.Hop) / n},
	}
	if after.Other > before.Other {
		err = errors.New("messages were not encrypted or decrypted")
	}
	return r, err
}

func (t *target) reported() (totals, error) {
	if t.ask == nil {
		return totals{}, nil
	}
	return t.ask()
}

// source readies what sends the messages.
func (b *bench) source(ctx context.Context, t *target, m mode, mail *mail, messages int) (run func() error, err error) {
	if m == pipelined {
		one := mail.plain
		if t.sealed {
			one = mail.sealed
		}
		message := func(int) []byte { return one }
		if t.unique {
			all, err := b.sealedForEach(ctx, mail, messages)
			if err != nil {
				return nil, err
			}
			message = func(i int) []byte { return all[i] }
		}
		return func() error { return send(ctx, t.address, b.sessions, messages, message) }, nil
	}
	file := mail.plainFile
	if t.sealed {
		file = mail.sealedFile
	}
	args := []string{"-s", fmt.Sprint(b.sessions), "-m", fmt.Sprint(messages), "-f", "alice@a.example", "-t", "bob@b.example", "-F", file, t.address}
	if m == kept {
		args = append([]string{"-d"}, args...)
	}
	cmd := exec.CommandContext(ctx, "smtp-source", args...)
	return func() error {
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("smtp-source: %w: %s", err, out)
		}
		return nil
	}, nil
}
