package mailer

import (
	"net"
	"net/netip"
	"strings"

	"github.com/emersion/go-smtp"
)

// A client is who sends the mail of a session, as the server knows it that the
// session runs under.
type client interface {
	RemoteAddr() net.Addr // nil: unknown
	Hello() string        // how it has introduced itself
	Extended() bool       // with EHLO or LHLO
	TLS() bool
	XForward(name string) string // what it says of its own client, if it is trusted
	Close() error                // drops the connection
}

// A goSMTPClient is a client of go-smtp's own server. The Conn is nil where a
// backend is called without one.
type goSMTPClient struct{ *smtp.Conn }

func (c goSMTPClient) RemoteAddr() net.Addr {
	if c.Conn == nil {
		return nil
	}
	return c.Conn.Conn().RemoteAddr()
}

func (c goSMTPClient) Hello() string {
	if c.Conn == nil {
		return ""
	}
	return c.Hostname()
}

// Extended is not known; nearly all clients are.
func (goSMTPClient) Extended() bool { return true }

func (c goSMTPClient) TLS() bool {
	if c.Conn == nil {
		return false
	}
	_, ok := c.TLSConnectionState()
	return ok
}

func (goSMTPClient) XForward(string) string { return "" }

// Close closes the connection beneath: go-smtp's own Close would end the session
// that calls this.
func (c goSMTPClient) Close() error {
	if c.Conn == nil {
		return nil
	}
	return c.Conn.Conn().Close()
}

// originOf is the network of the host that a message comes from, "" where only the
// mail system before us is known, which sends everyone's.
func originOf(c client) string {
	const tag = "IPv6:" // RFC 5321 §4.1.3, in any case
	text := c.XForward("ADDR")
	if len(text) > len(tag) && strings.EqualFold(text[:len(tag)], tag) {
		text = text[len(tag):]
	}
	addr, err := netip.ParseAddr(text)
	if err != nil {
		return ""
	}
	bits := 64 // of a site's IPv6 network
	if addr = addr.Unmap(); addr.Is4() {
		bits = 32
	}
	network, _ := addr.Prefix(bits)
	return network.String()
}
