package config

import (
	"errors"
	"fmt"
	"net"
	"path"
	"strconv"
	"strings"

	"github.com/qkdmail/qkdmail/mailer/internal/address"
)

// Endpoint returns Address as package net takes it.
func (l *Listener) Endpoint() (network, addr string, err error) { return endpoint(l.Address) }

// Endpoint returns Address as package net takes it.
func (n *NextHop) Endpoint() (network, addr string, err error) { return endpoint(n.Address) }

// endpoint returns HOST:PORT or unix:/PATH as package net takes it.
func endpoint(s string) (network, addr string, err error) {
	if file, ok := strings.CutPrefix(s, "unix:"); ok {
		const longest = 107 // bytes, on Linux
		if !path.IsAbs(file) || len(file) > longest || strings.ContainsRune(file, 0) {
			return "", "", fmt.Errorf("must be unix:/PATH with at most %d bytes of path", longest)
		}
		return "unix", file, nil
	}
	host, port, err := net.SplitHostPort(s)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil || host != "" && !address.IsHost(host) {
		return "", "", errors.New("must be HOST:PORT or unix:/PATH")
	}
	return "tcp", s, nil
}
