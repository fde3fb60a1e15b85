package etsi014

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/internal/kmhttp"
	"github.com/qkdmail/qkdmail/kmclient/internal/redact"
)

// Endpoint returns the base URL of the only KME in o, without a final slash, and a TLS
// configuration that verifies the KME's certificate and KMEID as a [Client] does. It is
// for programs that make their own requests, such as a conformance check. The files are
// read now, and not again when they change.
func (o Options) Endpoint() (base string, config *tls.Config, err error) {
	if len(o.URLs) != 1 {
		return "", nil, fmt.Errorf("%w: %d KMEs: must be one", kmclient.ErrConfig, len(o.URLs))
	}
	base, err = kmhttp.CheckTLSBase(o.URLs[0])
	if err != nil {
		return "", nil, err
	}
	ids, err := parseKMEIDs(o.KMEID, 1)
	if err != nil {
		return "", nil, err
	}
	files, err := openTLSFiles(o.CertFile, o.KeyFile, o.CAFile, slog.New(slog.DiscardHandler))
	if err != nil {
		return "", nil, err
	}
	u, err := url.Parse(base)
	if err != nil {
		return "", nil, fmt.Errorf("%w: the key manager's URL can't be parsed", kmclient.ErrConfig)
	}
	return base, files.config(u.Hostname(), ids[0]), nil
}

// Path returns the path of an operation ("status", "enc_keys" or "dec_keys", ETSI GS
// QKD 014 §5) for the peer with this SAE ID, which may come from a message. If it can't
// be an SAE ID, or would lead to another path, the error is kmclient.ErrBadRequest.
func Path(sae, operation string) (string, error) {
	switch {
	case sae == "":
		return "", fmt.Errorf("%w: no peer: an SAE ID is needed", kmclient.ErrBadRequest)
	case len(sae) > kmclient.MaxIDLength || !utf8.ValidString(sae) || strings.ContainsFunc(sae, unicode.IsControl) || kmhttp.Climbs(sae):
		return "", fmt.Errorf("%w: %q can't be an SAE ID", kmclient.ErrBadRequest, redact.Line(sae))
	}
	return "/api/v1/keys/" + url.PathEscape(sae) + "/" + operation, nil
}

// Refusal returns the error that a [Client] makes from an answer other than 2xx. op is
// what was asked for, as in [kmclient.Error].Op.
func Refusal(op string, status int, body []byte) *kmclient.Error {
	return kmhttp.Refusal(kmhttp.Call{Op: op}, status, nil, body)
}
