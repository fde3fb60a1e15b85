package config

import (
	"errors"
	"strings"
	"testing"

	"github.com/qkdmail/qkdmail/mailer"
)

func TestAdmin(t *testing.T) {
	for _, tt := range []struct{ address, hostPort string }{
		{":9465", "127.0.0.1:9465"},
		{"127.0.0.2:9465", "127.0.0.2:9465"},
		{"[::1]:9465", "[::1]:9465"},
		{"localhost:9465", "localhost:9465"},
		{"0.0.0.0:9465", "0.0.0.0:9465"},
		{"[::]:9465", "[::]:9465"},
		{"192.0.2.1:9465", "192.0.2.1:9465"},
		{"localhost.example:9465", "localhost.example:9465"},
	} {
		a := Admin{Address: tt.address}
		if a.HostPort() != tt.hostPort {
			t.Errorf("%s: %s, want %s", tt.address, a.HostPort(), tt.hostPort)
		}
		if err := checkAdmin(a); err != nil {
			t.Errorf("%s: %v", tt.address, err)
		}
	}
	for _, address := range []string{"9465", "host", "host:port", "unix:/admin", "a b:1"} {
		if err := checkAdmin(Admin{Address: address}); !errors.Is(err, mailer.ErrConfig) || !strings.Contains(err.Error(), "admin.address") {
			t.Errorf("%q: %v", address, err)
		}
	}
	if err := checkAdmin(Admin{PProf: true}); !errors.Is(err, mailer.ErrConfig) {
		t.Errorf("profiles without an address: %v", err)
	}
}

func checkAdmin(a Admin) error {
	f := &findings{c: &Config{Admin: a}}
	f.admin()
	return f.err()
}
