package kmdoctor

import (
	"context"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/qkdmail/qkdmail/kmclient"
)

// A handshake is the outcome of a TLS connection.
type handshake struct {
	err     error // no TLS
	version uint16
	group   tls.CurveID       // of the key agreement; 0 if the handshake failed
	chain   error             // the certificate does not verify
	id      error             // the certificate does not have the KME's ID
	leaf    *x509.Certificate // the KME's; nil: none was seen
}

// shake connects to a KME, and notes any failure.
func (s *site) shake(ctx context.Context) (h handshake) {
	config := s.config.Clone()
	if verify := config.VerifyConnection; verify != nil {
		config.VerifyConnection = func(state tls.ConnectionState) error {
			h.version, h.leaf = state.Version, state.PeerCertificates[0]
			err := verify(state)
			if _, ok := errors.AsType[*tls.CertificateVerificationError](err); !ok {
				h.id = err
			}
			return err
		}
	}
	conn, err := s.dial(ctx, config)
	switch cert, bad := errors.AsType[*tls.CertificateVerificationError](err); {
	case err == nil:
		state := conn.ConnectionState()
		h.version, h.group, h.leaf = state.Version, state.CurveID, state.PeerCertificates[0]
		_ = conn.Close()
	case bad:
		h.chain = cert
	case h.id == nil:
		h.err = err
	}
	return h
}

// dial makes a TLS connection within the time for one request.
func (s *site) dial(ctx context.Context, config *tls.Config) (*tls.Conn, error) {
	limited, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	conn, err := (&tls.Dialer{Config: config}).DialContext(limited, "tcp", s.host)
	if err != nil {
		if errors.Is(err, context.DeadlineExceeded) || limited.Err() != nil {
			return nil, fmt.Errorf("no connection within %v: %w", s.timeout, context.DeadlineExceeded)
		}
		return nil, err
	}
	return conn.(*tls.Conn), nil // as tls.Dialer documents
}

func (d *doctor) tlsHandshake(ctx context.Context) verdict {
	d.hand = d.own.shake(ctx)
	switch _, plain := errors.AsType[tls.RecordHeaderError](d.hand.err); {
	case plain:
		return fail("%s does not speak TLS: is it a plain HTTP port?", d.own.host)
	case d.hand.err != nil && isAlert(d.hand.err):
		return fail("the KME broke off: %v: does it know the CA of the client certificate?", d.hand.err)
	case d.hand.err != nil:
		return fail("no TLS connection: %v", d.hand.err)
	case d.hand.version != 0:
		return pass("%s chose %s", d.own.host, tls.VersionName(d.hand.version))
	}
	return pass("%s speaks TLS", d.own.host)
}

func (d *doctor) tlsCertificate(context.Context) verdict {
	switch {
	case d.hand.err != nil:
		return skip("needs tls-handshake, which failed")
	case d.hand.chain != nil:
		return fail("%v", d.hand.chain)
	case time.Until(d.hand.leaf.NotAfter) < expiresSoon:
		return warn("it verifies, but expires soon: %s", certificateFacts(d.hand.leaf))
	case d.o.CAFile == "":
		return pass("it verifies with the system's CAs: %s", certificateFacts(d.hand.leaf))
	}
	return pass("it verifies with the CAs that were given: %s", certificateFacts(d.hand.leaf))
}

// expiresSoon is how long before its end a certificate has to be renewed.
const expiresSoon = 14 * 24 * time.Hour

// certificateFacts returns one phrase with what an administrator wants to know about a
// certificate.
func certificateFacts(c *x509.Certificate) string {
	key := c.PublicKeyAlgorithm.String()
	switch k := c.PublicKey.(type) {
	case *ecdsa.PublicKey:
		key += " on " + k.Params().Name
	case *rsa.PublicKey:
		key += fmt.Sprintf(" of %d bits", k.N.BitLen())
	}
	return fmt.Sprintf("%s, issued by %s, valid until %s", key, quote(c.Issuer.String()), c.NotAfter.UTC().Format(time.DateOnly))
}

func (d *doctor) tlsKMEID(context.Context) verdict {
	switch {
	case d.o.KMEID == "":
		return skip("no KME ID was given")
	case d.hand.id != nil:
		return fail("%v", d.hand.id)
	}
	return pass("the certificate has %s", quote(d.o.KMEID))
}

// errAccepted ends a handshake as soon as the server has agreed to it.
var errAccepted = errors.New("accepted")

func (d *doctor) tlsOld(ctx context.Context) verdict {
	var accepted uint16
	config := &tls.Config{
		ServerName: d.own.config.ServerName, Certificates: d.own.config.Certificates,
		MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11, CipherSuites: allSuites(),
		// Nothing is sent over this connection, which ends in the handshake.
		InsecureSkipVerify: true,
		VerifyConnection: func(s tls.ConnectionState) error {
			accepted = s.Version
			return errAccepted
		},
	}
	conn, err := d.own.dial(ctx, config)
	if err == nil {
		_ = conn.Close()
	}
	switch {
	case accepted != 0:
		return fail("the KME accepts %s", tls.VersionName(accepted))
	case errors.Is(err, context.DeadlineExceeded):
		return warn("offered TLS 1.1 and 1.0: %v", err)
	}
	return pass("TLS 1.1 and 1.0 are refused")
}

// tlsGroup judges the key agreement: someone who records a connection today may later
// have a quantum computer, and with it the keys that came over the connection.
func (d *doctor) tlsGroup(context.Context) verdict {
	c := kmclient.Connection{KME: d.own.host, TLS: tls.VersionName(d.hand.version), Group: d.hand.group.String()}
	if !c.PostQuantum() {
		return warn("%s", c)
	}
	return pass("%s", c)
}

func allSuites() (ids []uint16) {
	for _, s := range append(tls.CipherSuites(), tls.InsecureCipherSuites()...) {
		ids = append(ids, s.ID)
	}
	return ids
}

func (d *doctor) tlsClient(ctx context.Context) verdict {
	if d.hand.id != nil {
		return skip("needs tls-kme-id, which failed")
	}
	config := d.own.config.Clone()
	config.Certificates = nil
	a := d.own.ask(ctx, newClient(config), request{method: http.MethodGet, sae: d.o.Peer, what: "status"})
	defer a.wipe()
	asked := "status without a certificate: "
	switch {
	case a.err != nil && isAlert(a.err):
		return pass("%srefused by TLS: %v", asked, a.err)
	case a.broken: // a server that has sent its alert does not wait for it to be read
		return pass("%sthe connection is closed", asked)
	case a.err != nil:
		return warn("%s%s", asked, a)
	case a.good():
		return fail("%sserved with HTTP %d", asked, a.status)
	case a.status == http.StatusUnauthorized:
		return pass("%sHTTP 401", asked)
	}
	return warn("%srefused, but with %s", asked, a)
}

// isAlert reports whether the other side ended the TLS handshake with an alert.
func isAlert(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	return ok && op.Op == "remote error"
}
