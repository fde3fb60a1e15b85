package mailer

import (
	"net"
	"net/netip"
	"strings"

	"github.com/emersion/go-smtp"
	"github.com/qkdmail/qkdmail/mailer/internal/contract"
)

// A backend is an encrypting or decrypting step.
type backend struct {
	// begin begins the session of a client; conn is the client's connection if go-smtp's
	// own server has it, else nil.
	begin func(c contract.Client, conn *smtp.Conn) (contract.Session, error)
}

var _ contract.Backend = backend{}

// NewSession begins the session of a client of go-smtp's server.
func (b backend) NewSession(conn *smtp.Conn) (smtp.Session, error) {
	return b.begin(goSMTPClient{conn}, conn)
}

// Begin begins the session of a client of the relay's own server.
func (b backend) Begin(c contract.Client) (contract.Session, error) { return b.begin(c, nil) }

// A goSMTPClient is a client of go-smtp's own server. The Conn is nil if a backend is
// called without one.
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

// Extended is true: go-smtp does not say, and nearly all clients are.
func (goSMTPClient) Extended() bool { return true }

func (c goSMTPClient) TLS() bool {
	if c.Conn == nil {
		return false
	}
	_, ok := c.TLSConnectionState()
	return ok
}

func (goSMTPClient) XForward(string) string { return "" }

// Close closes the network connection. go-smtp's own Close would end the session that
// calls this.
func (c goSMTPClient) Close() error {
	if c.Conn == nil {
		return nil
	}
	return c.Conn.Conn().Close()
}

// originOf returns the network of the host that a message comes from, or "" if only the
// mail system before the relay is known, which sends everyone's mail.
func originOf(c contract.Client) string {
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
