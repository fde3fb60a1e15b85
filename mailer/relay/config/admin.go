package config

import (
	"strings"

	"github.com/qkdmail/qkdmail/mailer/internal/readable"
)

// Admin says where health, metrics and a status page are served, over plain HTTP and
// without a password.
type Admin struct {
	// Address is HOST:PORT, or :PORT for loopback alone; "": nothing is served.
	Address string `toml:"address"`
	PProf   bool   `toml:"pprof"` // Go's profiles as well; default false
}

// HostPort returns Address as package net takes it. Without a host it is on loopback,
// since nothing there has a password.
func (a *Admin) HostPort() string {
	if strings.HasPrefix(a.Address, ":") {
		return "127.0.0.1" + a.Address
	}
	return a.Address
}

func (f *findings) admin() {
	a := &f.c.Admin
	if a.Address == "" {
		if a.PProf {
			f.add("admin.pprof", "needs an address")
		}
		return
	}
	if network, _, err := endpoint(a.Address); err != nil || network != "tcp" {
		f.add("admin.address", "%q must be HOST:PORT, or :PORT for loopback", readable.Short(a.Address))
	}
}
