package kmclient

import (
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Options are what [Open] and [FromEnv] need beside the choice of the key
// manager. Those that the chosen one has no use for are ignored, but a CAFile
// without TLS is an ErrConfig.
type Options struct {
	CAFile  string        // PEM, the CAs to trust instead of the system's; only with TLS
	Timeout time.Duration // of one request; 30 seconds if zero. Not for the mock
	Logger  *slog.Logger  // for warnings; may be nil

	// Of ETSI 014 only, as in ETSI014Options.
	SAE, CertFile, KeyFile, KMEID string

	// MockDB opens a mock whose path ends in .db. Package keydb has one, with
	// the database that it needs; nil: such a path is an ErrConfig.
	MockDB func(path string) (KeyManager, error)
}

// Open returns the key manager that spec names:
//
//	mock:PATH           a Mock on this file; Options.MockDB's if it ends in .db
//	mock:               a Mock on DefaultMockPath
//	http://HOST:PORT    the QMail REST API; a path may follow
//	https://HOST:PORT   the same over TLS
//	etsi014:https://HOST:PORT[,https://HOST2:PORT]
//	                    ETSI GS QKD 014, at one or more KMEs of this site
//
// Anything else is an ErrConfig.
func Open(spec string, o Options) (KeyManager, error) {
	scheme, rest, colon := strings.Cut(spec, ":")
	switch {
	case scheme == "mock" && colon:
		return openMock(rest, o)
	case scheme == "http" || scheme == "https":
		return openREST(spec, o)
	case scheme == "etsi014" && colon:
		return openETSI014(rest, o)
	}
	return nil, fmt.Errorf("%w: a key manager is mock:PATH, mock: (for %s), http://HOST:PORT, https://HOST:PORT or "+
		"etsi014:https://HOST:PORT", ErrConfig, DefaultMockPath)
}

// FromEnv returns the key manager that the environment names, with the
// reference system's variables or with one that comes before them:
//
//	QKD_KM        what Open takes; the other variables don't choose then
//	QKD_USE_MOCK  a Mock on DefaultMockPath (default true)
//	QKD_KM_HOST   host of a key manager with the QMail REST API (default localhost)
//	QKD_KM_PORT   its port (default 8080)
//	QKD_KM_HTTPS  over TLS (default false)
//
// These take precedence over the Options of the same meaning:
//
//	QKD_KM_CA     CAFile
//	QKD_KM_CERT   CertFile
//	QKD_KM_KEY    KeyFile
//	QKD_KME_ID    KMEID
//	QKD_SAE       SAE
//
// Truth is true, 1, yes, false, 0 or no, in any case. getenv is usually
// [os.Getenv]; empty is the same as not set.
func FromEnv(getenv func(string) string, o Options) (KeyManager, error) {
	for name, option := range map[string]*string{
		"QKD_KM_CA": &o.CAFile, "QKD_KM_CERT": &o.CertFile, "QKD_KM_KEY": &o.KeyFile, "QKD_KME_ID": &o.KMEID,
		"QKD_SAE": &o.SAE,
	} {
		if value := getenv(name); value != "" {
			*option = value
		}
	}
	if spec := getenv("QKD_KM"); spec != "" {
		return Open(spec, o)
	}
	mock, err := envBool(getenv, "QKD_USE_MOCK", true)
	if err != nil {
		return nil, err
	}
	if mock {
		return openMock("", o)
	}
	secure, err := envBool(getenv, "QKD_KM_HTTPS", false)
	if err != nil {
		return nil, err
	}
	address, err := envAddress(getenv)
	if err != nil {
		return nil, err
	}
	u := url.URL{Scheme: "http", Host: address}
	if secure {
		u.Scheme = "https"
	}
	return openREST(u.String(), o)
}

// openMock, openREST and openETSI014 return an interface that is nil when
// there is an error, which a nil *Mock in it would not be.

func openMock(path string, o Options) (KeyManager, error) {
	if strings.HasSuffix(path, ".db") {
		if o.MockDB == nil {
			return nil, fmt.Errorf("%w: this program has no database for mock:%s; use a path that does not end in .db",
				ErrConfig, path)
		}
		return o.MockDB(path)
	}
	m, err := NewMock(MockOptions{Path: path, Logger: o.Logger})
	if err != nil {
		return nil, err
	}
	return m, nil
}

func openREST(base string, o Options) (KeyManager, error) {
	r, err := NewREST(RESTOptions{URL: base, CAFile: o.CAFile, Timeout: o.Timeout})
	if err != nil {
		return nil, err
	}
	return r, nil
}

func openETSI014(urls string, o Options) (KeyManager, error) {
	e, err := NewETSI014(ETSI014Options{
		URLs: strings.Split(urls, ","), SAE: o.SAE, CertFile: o.CertFile, KeyFile: o.KeyFile, CAFile: o.CAFile,
		KMEID: o.KMEID, Timeout: o.Timeout, Logger: o.Logger,
	})
	if err != nil {
		return nil, err
	}
	return e, nil
}

func envBool(getenv func(string) string, name string, otherwise bool) (bool, error) {
	switch strings.ToLower(strings.TrimSpace(getenv(name))) {
	case "":
		return otherwise, nil
	case "true", "1", "yes":
		return true, nil
	case "false", "0", "no":
		return false, nil
	}
	return false, fmt.Errorf("%w: %s must be true or false", ErrConfig, name)
}

// envAddress returns HOST:PORT, with an IPv6 address in brackets.
func envAddress(getenv func(string) string) (string, error) {
	host := strings.TrimSpace(getenv("QKD_KM_HOST"))
	if host == "" {
		host = "localhost"
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	if _, err := netip.ParseAddr(host); err != nil && strings.ContainsAny(host, ":/@?#%\\[] \t") {
		return "", fmt.Errorf("%w: QKD_KM_HOST must be a host name or an IP address and nothing else (the port is QKD_KM_PORT)", ErrConfig)
	}
	port := strings.TrimSpace(getenv("QKD_KM_PORT"))
	if port == "" {
		port = "8080"
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return "", fmt.Errorf("%w: QKD_KM_PORT must be 1 to 65535", ErrConfig)
	}
	return net.JoinHostPort(host, port), nil
}
