package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

var errNoStrace = errors.New("strace is not installed, or may not trace")

// countCalls counts the system calls of a relay while messages go through it.
// They take longer then, so that this is no part of a round.
func (b *bench) countCalls(ctx context.Context, t *target, m mode, mail *mail, messages int) error {
	if t.pid == 0 {
		return nil
	}
	run, err := b.source(ctx, t, m, mail, messages)
	if err != nil {
		return err
	}
	out := b.file("strace")
	cmd := exec.CommandContext(ctx, "strace", "-f", "-c", "-o", out, "-p", strconv.Itoa(t.pid))
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return err
	}
	if cmd.Start() != nil {
		return errNoStrace
	}
	attached, _ := bufio.NewReader(stderr).ReadString('\n')
	if !strings.Contains(attached, "attached") {
		_ = cmd.Wait()
		return errNoStrace
	}
	time.Sleep(100 * time.Millisecond) // for the other threads
	ran := run()
	_ = cmd.Process.Signal(syscall.SIGINT)
	_ = cmd.Wait()
	if ran != nil {
		return ran
	}
	table, err := os.ReadFile(out)
	if err != nil {
		return err
	}
	t.calls[result{m, mail.size}] = callsOf(table, messages)
	return nil
}

// callsOf reads the table of strace -c: "% time, seconds, usecs/call, calls,
// errors or nothing, syscall".
func callsOf(table []byte, messages int) map[string]float64 {
	calls := map[string]float64{}
	for line := range bytes.Lines(table) {
		fields := strings.Fields(string(line))
		if len(fields) < 5 {
			continue
		}
		if n, err := strconv.Atoi(fields[3]); err == nil {
			calls[fields[len(fields)-1]] = float64(n) / float64(messages)
		}
	}
	return calls
}
