package admin

import (
	"crypto/x509"
	"encoding/pem"
	"maps"
	"slices"
	"time"

	"github.com/qkdmail/qkdmail/kmclient/textfile"
	"github.com/qkdmail/qkdmail/mailer/relay/config"
)

// maxCertFile is how much of a certificate file is read, in bytes.
const maxCertFile = 1 << 20

// expiries returns when the certificates of a configuration expire, by what they
// are for. One that can't be read is left out: the relay reports that.
func expiries(cfg *config.Config) map[string]time.Time {
	files := map[string]string{"key manager client": cfg.KM.Cert}
	for _, l := range cfg.Listeners {
		files["listener "+l.Name] = l.TLSCert
	}
	found := map[string]time.Time{}
	for name, file := range files {
		if at, ok := expiry(file); ok {
			found[name] = at
		}
	}
	return found
}

// expiry returns when the first certificate of a PEM file expires.
func expiry(file string) (time.Time, bool) {
	if file == "" {
		return time.Time{}, false
	}
	text, err := textfile.Read(file, maxCertFile)
	if err != nil {
		return time.Time{}, false
	}
	defer clear(text) // there may be a private key in it
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			clear(block.Bytes)
			continue
		}
		if cert, err := x509.ParseCertificate(block.Bytes); err == nil {
			return cert.NotAfter, true
		}
	}
	return time.Time{}, false
}

// expiresSoon is how long before the end a warning comes.
const expiresSoon = 14 * 24 * time.Hour

// checkExpiry warns of certificates that have expired or will soon. It is only a
// warning: the other checks show whether the other side still accepts them.
func checkExpiry(f findings, now time.Time) (Check, bool) {
	var soon []string
	for _, name := range slices.Sorted(maps.Keys(f.expiry)) {
		if f.expiry[name].Sub(now) < expiresSoon {
			soon = append(soon, name+" ("+f.expiry[name].UTC().Format(time.DateOnly)+")")
		}
	}
	return Check{"certificates", StateWarning, "Expired or about to expire: " + names(soon) + ".", "Replace them; their files are in the configuration."}, len(soon) > 0
}
