package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
)

// startEtcd starts a private etcd of one node, without TLS.
func (b *bench) startEtcd(ctx context.Context) (url string, err error) {
	if _, err := exec.LookPath("etcd"); err != nil {
		return "", errors.New("etcd is not installed (Debian: apt-get install etcd-server)")
	}
	client, peer := fmt.Sprintf("127.0.0.1:%d", freePort()), fmt.Sprintf("http://127.0.0.1:%d", freePort())
	cmd := exec.CommandContext(ctx, "etcd", "--data-dir", b.file("etcd"), "--log-level", "error",
		"--listen-client-urls", "http://"+client, "--advertise-client-urls", "http://"+client,
		"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", "default="+peer)
	if _, err := b.bg.start(cmd); err != nil {
		return "", err
	}
	return "etcd://" + client, reachable(client)
}
