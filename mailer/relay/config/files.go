package config

import (
	"crypto/tls"
	"fmt"
	"strings"

	"github.com/qkdmail/qkdmail/kmclient/textfile"
)

// CheckFiles returns, joined, an error for each file that the configuration names but
// that can't be used: certificates, keys, CAs, users, passwords. It also reports a peer
// that has a key of this site. It looks at neither the paths within km.url nor the store
// itself.
func (c *Config) CheckFiles() error {
	f := &findings{c: c}
	check := func(key string, err error) {
		if err != nil {
			f.add(key, "%v", err)
		}
	}
	pair := func(key, cert, private string) {
		if cert != "" && private != "" {
			_, err := textfile.KeyPair(cert, private)
			check(key, err)
		}
	}
	for i := range c.Listeners {
		l, at := &c.Listeners[i], entryKey("listener", i)
		pair(at+".tls_cert", l.TLSCert, l.TLSKey)
		_, err := l.Users()
		check(at+".auth_file", err)
	}
	for i := range c.NextHops {
		n, at := &c.NextHops[i], entryKey("next_hop", i)
		_, err := n.TLSConfig()
		check(at+".tls_ca", err)
		_, err = n.Password()
		check(at+".auth_password_file", err)
		_, err = n.Token()
		check(at+".auth_token_file", err)
	}
	pair("km.cert", c.KM.Cert, c.KM.Key)
	if c.KM.CA != "" {
		_, err := textfile.CAs(c.KM.CA)
		check("km.ca", err)
	}
	f.notOurOwn(f.peerKeys(), f.ownKeys())
	return f.err()
}

// TLSConfig returns how TLS is offered, nil if it is off.
func (l *Listener) TLSConfig() (*tls.Config, error) {
	if l.TLS == TLSOff || l.TLS == "" {
		return nil, nil
	}
	cert, err := textfile.KeyPair(l.TLSCert, l.TLSKey)
	if err != nil {
		return nil, err
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{cert}}, nil
}

// TLSConfig returns how TLS is begun, if it is.
func (n *NextHop) TLSConfig() (c *tls.Config, err error) {
	c = &tls.Config{MinVersion: tls.VersionTLS12, ServerName: n.TLSName}
	if n.TLSCA != "" {
		c.RootCAs, err = textfile.CAs(n.TLSCA)
	}
	return c, err
}

// Password reads AuthPasswordFile, which must be one line; "" if it is not set.
func (n *NextHop) Password() (string, error) { return secretLine(n.AuthPasswordFile, "a password") }

// Token reads AuthTokenFile, which must be one line; "" if it is not set. The token in it
// expires, and another program writes the next one.
func (n *NextHop) Token() (string, error) { return secretLine(n.AuthTokenFile, "a token") }

func secretLine(path, what string) (string, error) {
	if path == "" {
		return "", nil
	}
	text, err := textfile.Read(path, maxSize)
	if err != nil {
		return "", err
	}
	secret := strings.TrimRight(string(text), "\r\n")
	if secret == "" || strings.ContainsAny(secret, "\r\n\x00\x01") {
		return "", fmt.Errorf("%s: must be one line with %s", path, what)
	}
	return secret, nil
}
