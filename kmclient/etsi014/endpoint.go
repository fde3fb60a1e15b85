package etsi014

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"net/url"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/internal/kmhttp"
)

// Endpoint returns what it takes to talk to the only KME of o as an [Client]
// does: the URL beneath which the API is, without a slash at its end, and the
// TLS configuration, which verifies the KME's certificate and its KMEID. It is
// for programs that have to see the answers as they are, like package
// kmdoctor. The files are read now, and not again when they change.
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

// Path returns the path of an operation, such as "status", with the peer
// of that SAE ID. An ID that can't be one, or would lead elsewhere, is an
// ErrBadRequest.
func Path(sae, operation string) (string, error) { return saePath(sae, operation) }

// Refusal reads an answer of a KME other than 2xx as an [Client] does. op
// is what was asked for, as in [kmclient.Error].Op.
func Refusal(op string, status int, body []byte) *kmclient.Error {
	return kmhttp.Refusal(kmhttp.Call{Op: op}, status, nil, body)
}
