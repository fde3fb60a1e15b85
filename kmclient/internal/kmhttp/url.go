package kmhttp

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/qkdmail/qkdmail/kmclient"
)

// CheckBase returns the base URL of a key manager, without a final slash, and whether
// it is secure. Its errors do not quote the URL, which may hold a password.
func CheckBase(raw string) (base string, secure bool, err error) {
	u, err := url.Parse(raw)
	if err != nil {
		return "", false, fmt.Errorf("%w: the key manager's URL can't be parsed", kmclient.ErrConfig)
	}
	port, portErr := strconv.ParseUint(u.Port(), 10, 16)
	switch {
	case u.Scheme != "http" && u.Scheme != "https", u.Hostname() == "":
		err = fmt.Errorf("%w: the key manager's URL must be http://HOST:PORT or https://HOST:PORT", kmclient.ErrConfig)
	case u.User != nil:
		err = fmt.Errorf("%w: the key manager's URL must have no user or password", kmclient.ErrConfig)
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || strings.HasSuffix(raw, "#"):
		err = fmt.Errorf("%w: the key manager's URL must end with its path, without ? and #", kmclient.ErrConfig)
	case Climbs(u.Path):
		err = fmt.Errorf("%w: the path of the key manager's URL must have no . or .. in it", kmclient.ErrConfig)
	case strings.HasSuffix(u.Host, ":") || u.Port() != "" && (portErr != nil || port == 0):
		err = fmt.Errorf("%w: the port of the key manager's URL must be 1 to 65535", kmclient.ErrConfig)
	}
	return strings.TrimRight(u.String(), "/"), u.Scheme == "https", err
}

// CheckTLSBase is CheckBase for a KME, which must speak TLS.
func CheckTLSBase(raw string) (base string, err error) {
	base, secure, err := CheckBase(raw)
	if !secure {
		return "", fmt.Errorf("%w: the URL of a KME must be https://HOST:PORT, since ETSI GS QKD 014 needs mutual TLS", kmclient.ErrConfig)
	}
	return base, err
}

// Climbs reports whether a path has a segment "." or "..", which RFC 3986 §5.2.4
// removes. A backslash counts as a slash.
func Climbs(path string) bool {
	for s := range strings.FieldsFuncSeq(path, func(r rune) bool { return r == '/' || r == '\\' }) {
		if s == "." || s == ".." {
			return true
		}
	}
	return false
}
