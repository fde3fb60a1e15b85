package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"time"
)

// processes are those that run beside.
type processes struct {
	running []*exec.Cmd
	inputs  []io.Closer
	ends    []func()
}

// start starts one. Its standard input stays open until the end, so that one
// that waits for that never outlives us.
func (p *processes) start(cmd *exec.Cmd) (io.Writer, error) {
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p.running, p.inputs = append(p.running, cmd), append(p.inputs, in)
	return in, nil
}

// stop ends them all.
func (p *processes) stop() {
	for _, end := range p.ends {
		end()
	}
	for _, in := range p.inputs {
		_ = in.Close()
	}
	for _, cmd := range p.running {
		timer := time.AfterFunc(3*time.Second, func() { _ = cmd.Process.Kill() })
		if cmd.Args[0] == "smtp-sink" { // which does not wait for their input to end
			_ = cmd.Process.Kill()
		}
		_ = cmd.Wait()
		timer.Stop()
	}
}

// cpuTime is what a process has used, to the hundredth of a second; 0 where
// that can't be told.
func cpuTime(pid int) time.Duration {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, after, ok := bytes.Cut(stat, []byte(") "))
	fields := bytes.Fields(after)
	if err != nil || !ok || len(fields) < 13 {
		return 0
	}
	user, _ := strconv.Atoi(string(fields[11]))
	system, _ := strconv.Atoi(string(fields[12]))
	return time.Duration(user+system) * 10 * time.Millisecond // Linux counts in 1/100 s, proc(5)
}

// peakMemory is the most that a process had resident, in KiB; 0 where that can't
// be told.
func peakMemory(pid int) int {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	_, after, ok := bytes.Cut(status, []byte("VmHWM:"))
	if err != nil || !ok {
		return 0
	}
	kib, _ := strconv.Atoi(string(bytes.Fields(after)[0]))
	return kib
}

// freePort returns a port that was free a moment ago.
func freePort() int {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// reachable waits until something listens.
func reachable(address string) (err error) {
	for range 200 {
		var conn net.Conn
		if conn, err = net.Dial("tcp", address); err == nil {
			return conn.Close()
		}
		time.Sleep(50 * time.Millisecond)
	}
	return err
}
