package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
	"testing"
	"time"
)

const (
	bigMessage = 1 << 30  // bytes
	mostMemory = 48 << 10 // KiB resident
)

// TestMemory sends 1 GiB through "qkdmail encrypt | qkdmail decrypt" and checks the peak
// memory of each.
func TestMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: takes long, and this is -short")
	}
	if raceEnabled {
		t.Skip("the race detector takes memory of its own: run without -race")
	}
	if _, err := os.Stat("/proc/self/status"); err != nil {
		t.Skip("no /proc: peak memory can't be read here")
	}
	dir := t.TempDir()
	program := filepath.Join(dir, "qkdmail")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	encrypt := exec.CommandContext(t.Context(), program, "encrypt", "--km", "mock:"+filepath.Join(dir, "keys.json"))
	decrypt := exec.CommandContext(t.Context(), program, "decrypt", "--km", "mock:"+filepath.Join(dir, "keys.json"))

	original, restored := sha256.New(), sha256.New()
	encrypt.Stdin = io.TeeReader(io.LimitReader(&lines{}, bigMessage), original)
	wire, err := encrypt.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	decrypt.Stdin = wire
	decrypt.Stdout = restored
	var stderr bytes.Buffer
	decrypt.Stderr = &stderr
	for _, cmd := range []*exec.Cmd{encrypt, decrypt} {
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
	}
	peaks := watchPeaks(t, encrypt.Process.Pid, decrypt.Process.Pid)
	if err := decrypt.Wait(); err != nil {
		t.Fatalf("decrypt: %v\n%s", err, stderr.String())
	}
	if err := encrypt.Wait(); err != nil {
		t.Fatalf("encrypt: %v", err)
	}
	if !bytes.Equal(original.Sum(nil), restored.Sum(nil)) {
		t.Error("the restored message is not the original")
	}
	for i, peak := range peaks() {
		t.Logf("%s: at most %d KiB for a message of %d bytes", []string{"encrypt", "decrypt"}[i], peak, bigMessage)
		if peak == 0 || peak > mostMemory {
			t.Errorf("%d KiB of memory, want 1 to %d", peak, mostMemory)
		}
	}
}

// watchPeaks reads the peak memory of processes until they end. The kernel's figure for a
// child that has ended would include our own memory, from before its exec.
func watchPeaks(t *testing.T, pids ...int) (peaks func() []int) {
	t.Helper()
	found := make([]int, len(pids))
	var wg sync.WaitGroup
	for i, pid := range pids {
		wg.Go(func() {
			for {
				status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
				m := regexp.MustCompile(`VmHWM:\s+(\d+) kB`).FindSubmatch(status)
				if err != nil || m == nil {
					return // it has ended
				}
				found[i], _ = strconv.Atoi(string(m[1]))
				time.Sleep(5 * time.Millisecond)
			}
		})
	}
	return func() []int { wg.Wait(); return found }
}

// lines is a message that never ends. All its lines differ.
type lines struct {
	n    int
	rest []byte
}

func (l *lines) Read(p []byte) (n int, err error) {
	for n < len(p) {
		if len(l.rest) == 0 {
			l.rest = fmt.Appendf(l.rest[:0], "%075d\n", l.n)
			if l.n == 0 {
				l.rest = append(l.rest[:0], "From: a@example.org\nSubject: big\n\n"...)
			}
			l.n++
		}
		c := copy(p[n:], l.rest)
		l.rest, n = l.rest[c:], n+c
	}
	return n, nil
}
