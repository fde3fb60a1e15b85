package etsi014

import (
	"crypto/x509"
	"fmt"
	"math/big"
	"strings"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/internal/kmhttp"
	"github.com/qkdmail/qkdmail/kmclient/internal/redact"
)

// A kmeID is the ID of a KME, and the field of its certificate that must hold it: "cn",
// "uri", "dns" or "serial". An empty field means any of them, except the certificate's
// own serial number, which may be short enough to equal another KME's ID.
type kmeID struct{ field, value string }

// parseKMEIDs parses n IDs separated by commas, or one or none for all n KMEs.
func parseKMEIDs(text string, n int) ([]kmeID, error) {
	ids := make([]kmeID, n)
	if text == "" {
		return ids, nil
	}
	parts := strings.Split(text, ",")
	if len(parts) != 1 && len(parts) != n {
		return nil, fmt.Errorf("%w: %s: %d KME IDs for %d KMEs", kmclient.ErrConfig, redact.Line(text), len(parts), n)
	}
	for i := range ids {
		id := kmeID{value: strings.TrimSpace(parts[i%len(parts)])}
		if field, value, ok := strings.Cut(id.value, ":"); ok {
			switch field = strings.ToLower(field); field {
			case "cn", "uri", "dns", "serial":
				id = kmeID{field, value}
			}
		}
		if id.value == "" {
			return nil, fmt.Errorf("%w: %s: an empty KME ID", kmclient.ErrConfig, redact.Line(text))
		}
		ids[i] = id
	}
	return ids, nil
}

// check returns an error if cert is not the KME's.
func (id kmeID) check(cert *x509.Certificate) error {
	in := func(field string) bool { return id.field == "" || id.field == field }
	switch {
	case in("cn") && cert.Subject.CommonName == id.value,
		in("serial") && cert.Subject.SerialNumber == id.value,
		id.field == "serial" && sameSerial(cert.SerialNumber, id.value):
		return nil
	}
	for _, u := range cert.URIs {
		if in("uri") && u.String() == id.value {
			return nil
		}
	}
	for _, name := range cert.DNSNames {
		if in("dns") && strings.EqualFold(name, id.value) {
			return nil
		}
	}
	has := []string{"CN " + cert.Subject.CommonName, "serial " + cert.SerialNumber.Text(16)}
	for _, u := range cert.URIs {
		has = append(has, u.String())
	}
	return &kmhttp.IdentityError{Want: id.value, Has: redact.Line(strings.Join(append(has, cert.DNSNames...), ", "))}
}

// sameSerial reports whether text is n in decimal, or in hexadecimal with or without
// colons.
func sameSerial(n *big.Int, text string) bool {
	if n == nil {
		return false
	}
	decimal, ok := new(big.Int).SetString(text, 10)
	if ok && decimal.Cmp(n) == 0 {
		return true
	}
	hex, ok := new(big.Int).SetString(strings.ReplaceAll(text, ":", ""), 16)
	return ok && hex.Cmp(n) == 0
}
