package mailer

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"
)

func TestAdminConfig(t *testing.T) {
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
		a := AdminConfig{Address: tt.address}
		if a.HostPort() != tt.hostPort {
			t.Errorf("%s: %s, want %s", tt.address, a.HostPort(), tt.hostPort)
		}
		if err := checkAdmin(a); err != nil {
			t.Errorf("%s: %v", tt.address, err)
		}
	}
	for _, address := range []string{"9465", "host", "host:port", "unix:/admin", "a b:1"} {
		if err := checkAdmin(AdminConfig{Address: address}); !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), "admin.address") {
			t.Errorf("%q: %v", address, err)
		}
	}
	if err := checkAdmin(AdminConfig{PProf: true}); !errors.Is(err, ErrConfig) {
		t.Errorf("profiles without an address: %v", err)
	}
}

func checkAdmin(a AdminConfig) error {
	f := &findings{c: &Config{Admin: a}}
	f.admin()
	return f.err()
}

func TestCheckNextHops(t *testing.T) {
	noLeaks(t)
	// One that accepts connections and says nothing.
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	good := startHop(t)
	r := startRelay(t, DirectionEncrypt, good.addr(), func(c *Config) {
		more := c.NextHops[0]
		more.Name, more.Address = "silent", silent.Addr().String()
		c.NextHops = append(c.NextHops, more)
		more.Name, more.Address = "down", "127.0.0.1:1"
		c.NextHops = append(c.NextHops, more)
	})
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	found := r.CheckNextHops(ctx)
	if len(found) != 3 || found["next"] != nil || found["silent"] == nil || found["down"] == nil {
		t.Errorf("found %v, want next to be fine", found)
	}
	good.none()
}
