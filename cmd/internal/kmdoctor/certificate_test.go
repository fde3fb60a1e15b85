package kmdoctor

import (
	"crypto/x509"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/qkdmail/qkdmail/cmd/internal/kmsim"
)

// The report has what an administrator wants to know about a certificate, and warns when
// it has to be renewed.
func TestCertificateFacts(t *testing.T) {
	w := start(t, kmsim.Options{}, nil, nil)
	c := run(t, w.options(false)).Check("tls-certificate")
	want := regexp.MustCompile(`: ECDSA on P-256, issued by "CN=[^"]+", valid until 2[0-9]{3}-[0-9]{2}-[0-9]{2}$`)
	if c.Result != Pass || !want.MatchString(c.Detail) {
		t.Errorf("%s: %s, want %s", c.Result, c.Detail, want)
	}
	for days, want := range map[int]Result{1: Warn, 13: Warn, 15: Pass} {
		leaf := &x509.Certificate{NotAfter: time.Now().AddDate(0, 0, days)}
		v := (&doctor{hand: handshake{leaf: leaf}}).tlsCertificate(t.Context())
		if v.result != want || !strings.Contains(v.detail, leaf.NotAfter.UTC().Format(time.DateOnly)) {
			t.Errorf("valid for %d days: %s: %s, want %s", days, v.result, v.detail, want)
		}
	}
}
