package kmsim

import (
	"crypto/x509"
	"net/http"
)

// Identity is the field of a client certificate that has the SAE's ID. The
// standard leaves it open.
type Identity string

// The fields that are in use.
const (
	IdentityCN     Identity = "cn"     // the subject's common name; also the empty Identity
	IdentityURI    Identity = "uri"    // a URI subject alternative name
	IdentityDNS    Identity = "dns"    // a DNS subject alternative name
	IdentitySerial Identity = "serial" // the serial number in lower-case hexadecimal, without leading zeros
)

func (i Identity) valid() bool {
	switch i {
	case "", IdentityCN, IdentityURI, IdentityDNS, IdentitySerial:
		return true
	}
	return false
}

// names returns the IDs that a certificate may stand for.
func (i Identity) names(c *x509.Certificate) (names []string) {
	switch i {
	case IdentityURI:
		for _, u := range c.URIs {
			names = append(names, u.String())
		}
	case IdentityDNS:
		names = c.DNSNames
	case IdentitySerial:
		if c.SerialNumber != nil {
			names = []string{c.SerialNumber.Text(16)}
		}
	default:
		names = []string{c.Subject.CommonName}
	}
	return names
}

// caller returns the ID of the SAE that a request comes from. There is none if
// its certificate was not verified, or stands for no SAE here or for several.
func (n *network) caller(r *http.Request) (id string, ok bool) {
	if r.TLS == nil || len(r.TLS.VerifiedChains) == 0 || len(r.TLS.VerifiedChains[0]) == 0 {
		return "", false
	}
	for _, name := range n.identity.names(r.TLS.VerifiedChains[0][0]) {
		if _, known := n.home[name]; !known || name == id {
			continue
		}
		if id != "" {
			return "", false
		}
		id = name
	}
	return id, id != ""
}
