package kmsim

import (
	"crypto/x509"
	"net/http"
)

// The fields of a client certificate that can have the SAE's ID. The standard
// does not say which.
const (
	identityCN     = "cn"     // the subject's common name
	identityURI    = "uri"    // a URI subject alternative name
	identityDNS    = "dns"    // a DNS subject alternative name
	identitySerial = "serial" // the serial number in lower-case hexadecimal, without leading zeros
)

// identityNames returns the names in a certificate that may be the ID of an
// SAE.
func identityNames(field string, c *x509.Certificate) (names []string) {
	switch field {
	case identityURI:
		for _, u := range c.URIs {
			names = append(names, u.String())
		}
	case identityDNS:
		names = c.DNSNames
	case identitySerial:
		if c.SerialNumber != nil {
			names = []string{c.SerialNumber.Text(16)}
		}
	default:
		names = []string{c.Subject.CommonName}
	}
	return names
}

// caller returns the ID of the SAE that sent a request. ok is false if its
// certificate was not verified, or does not have the ID of exactly one SAE
// here.
func (n *network) caller(r *http.Request) (id string, ok bool) {
	if r.TLS == nil || len(r.TLS.VerifiedChains) == 0 || len(r.TLS.VerifiedChains[0]) == 0 {
		return "", false
	}
	for _, name := range identityNames(n.identity, r.TLS.VerifiedChains[0][0]) {
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
