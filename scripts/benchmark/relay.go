package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

const relayConfig = `
[[listener]]
name = "in"
direction = "encrypt"
address = %q
next_hop = "sink"
networks = ["127.0.0.0/8"]

[[next_hop]]
name = "sink"
address = %q

[km]
url = %q

[[peer]]
name = "peer"

[[rule]]
domain = "default"
peer = "peer"
suite = "aes-256-gcm"

[log]
level = "warn" # and not a line a message
`

// requests counts what a busy relay asks of its key manager.
func (b *bench) requests(ctx context.Context) error {
	for _, program := range []string{"smtp-source", "smtp-sink"} {
		if _, err := exec.LookPath(program); err != nil {
			b.skip("requests of a busy relay: %v: %s", errMissing, program)
			return nil
		}
	}
	km, err := b.keyManager(ctx)
	if err != nil {
		return err
	}
	m, err := newMeter(km)
	if err != nil {
		return err
	}
	defer m.Close()
	listen, sink := freeAddress(), freeAddress()
	argv := []string{"smtp-sink", sink, "1000"}
	if os.Getuid() == 0 {
		argv = []string{"smtp-sink", "-u", "nobody", sink, "1000"}
	}
	if err := b.services.startAt(ctx, sink, argv...); err != nil {
		return err
	}
	config := filepath.Join(b.dir, "relay.toml")
	if err := os.WriteFile(config, fmt.Appendf(nil, relayConfig, listen, sink, m.URL), 0o600); err != nil {
		return err
	}
	if err := b.services.startAt(ctx, listen, b.program("qkdmaild"), "relay", "--config", config); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	m.counted()
	if err := runCommand(exec.CommandContext(ctx, "smtp-source", "-d", "-s", "20", "-m", strconv.Itoa(b.mails), "-l", "4000",
		"-f", "alice@a.example", "-t", "bob@b.example", listen)); err != nil {
		return err
	}
	requests, octets := m.counted()
	if octets < 32*b.mails {
		return fmt.Errorf("%d octets of keys for %d messages: they can't all have been encrypted", octets, b.mails)
	}
	b.perMail = float64(requests) / float64(b.mails)
	return nil
}

// relay runs the relay's own measurement, and keeps its table.
func (b *bench) relay(ctx context.Context) error {
	args := []string{"-rounds", strconv.Itoa(b.rounds)}
	if b.quick {
		args = append(args, "-scale", "0.02")
	}
	cmd := exec.CommandContext(ctx, filepath.Join(b.root, "scripts", "bench-relay"), args...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return err
	}
	b.relayed = strings.TrimSpace(string(out))
	return nil
}

// freeAddress is one that nobody listens at now.
func freeAddress() string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "127.0.0.1:0" // which the program that is to listen there refuses
	}
	defer l.Close()
	return l.Addr().String()
}
