package mailer

import (
	"net"
	"testing"
)

// The network tells clients apart, however the address is written.
func TestOrigin(t *testing.T) {
	for addr, want := range map[string]string{
		"192.0.2.1":             "192.0.2.1/32",
		"IPv6:2001:db8::1":      "2001:db8::/64",
		"IPV6:2001:db8::2":      "2001:db8::/64",
		"ipv6:2001:DB8:0:0:1::": "2001:db8::/64",
		"2001:db8::1":           "2001:db8::/64",
		"IPv6:::ffff:192.0.2.1": "192.0.2.1/32",
		"":                      "",
		"[UNAVAILABLE]":         "",
		"IPv6:":                 "",
		"host.example":          "",
	} {
		if got := originOf(xforwarded(addr)); got != want {
			t.Errorf("XFORWARD ADDR=%s: %q, want %q", addr, got, want)
		}
	}
}

// An xforwarded client has the address that XFORWARD says.
type xforwarded string

func (x xforwarded) XForward(name string) string { return map[string]string{"ADDR": string(x)}[name] }
func (xforwarded) RemoteAddr() net.Addr          { return nil }
func (xforwarded) Hello() string                 { return "" }
func (xforwarded) Extended() bool                { return true }
func (xforwarded) TLS() bool                     { return false }
func (xforwarded) Close() error                  { return nil }
