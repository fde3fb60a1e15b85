package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// timeProgram is GNU time, which tells the peak memory of what it runs. What the
// kernel says of a child of ours includes our own memory, since a child has that
// until its exec; GNU time has next to none.
const timeProgram = "/usr/bin/time"

// A sample is one run of a program.
type sample struct {
	wall time.Duration
	cpu  time.Duration // user and system, of all threads
}

// measure runs a command whose standard output becomes the file out.
func measure(ctx context.Context, out string, argv []string) (sample, error) {
	if err := os.RemoveAll(out); err != nil { // to free its memory takes time
		return sample{}, err
	}
	f, err := os.Create(out)
	if err != nil {
		return sample{}, err
	}
	defer f.Close()
	var stderr strings.Builder
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Stdout, cmd.Stderr = f, &stderr
	begin := time.Now()
	err = cmd.Run()
	wall := time.Since(begin)
	if err != nil {
		return sample{}, fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, stderr.String())
	}
	return sample{wall, cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()}, f.Close()
}

// withMemory puts GNU time before a command; peak then tells how much memory the
// command took at most, in octets.
func withMemory(dir string, argv []string) (timed []string, peak func() (int64, error)) {
	file := filepath.Join(dir, "peak-"+filepath.Base(argv[0])+"-"+strconv.FormatInt(time.Now().UnixNano(), 36))
	return append([]string{timeProgram, "-f", "%M", "-o", file}, argv...), func() (int64, error) {
		text, err := os.ReadFile(file)
		if err != nil {
			return 0, err
		}
		kib, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
		return kib << 10, err
	}
}

func hasTime() bool {
	_, err := os.Stat(timeProgram)
	return err == nil
}

// goCommand is the go tool in the main module.
func (b *bench) goCommand(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = b.root
	return cmd
}

// runCommand runs a command that says something only if it fails.
func runCommand(cmd *exec.Cmd) error {
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, out)
	}
	return nil
}

// output runs a command and returns its standard output.
func output(ctx context.Context, argv ...string) (string, error) {
	out, err := exec.CommandContext(ctx, argv[0], argv[1:]...).Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w", strings.Join(argv, " "), err)
	}
	return string(out), nil
}

// services run in the background until the end.
type services []*exec.Cmd

// start starts a program and waits until it writes a line that matches to
// standard error, whose first group it returns. What follows is read and dropped.
func (s *services) start(ctx context.Context, line string, argv ...string) (string, error) {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 5 * time.Second
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return "", err
	}
	if err := cmd.Start(); err != nil {
		return "", err
	}
	*s = append(*s, cmd)
	var said strings.Builder
	lines := bufio.NewScanner(stderr)
	for lines.Scan() {
		if m := regexp.MustCompile(line).FindStringSubmatch(lines.Text()); m != nil {
			go func() { _, _ = io.Copy(io.Discard, stderr) }()
			return m[1], nil
		}
		fmt.Fprintln(&said, lines.Text())
	}
	return "", fmt.Errorf("%s did not start: %s", strings.Join(argv, " "), said.String())
}

// stop stops all, the last first.
func (s *services) stop() {
	for i := len(*s) - 1; i >= 0; i-- {
		cmd := (*s)[i]
		_ = cmd.Process.Signal(os.Interrupt)
		kill := time.AfterFunc(5*time.Second, func() { _ = cmd.Process.Kill() })
		_ = cmd.Wait()
		kill.Stop()
	}
	*s = nil
}
