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
// manager.
type Options struct {
	CAFile  string        // PEM, the CAs to trust instead of the system's; only with https
	Timeout time.Duration // of one request; 30 seconds if zero. Not for the mock
	Logger  *slog.Logger  // for warnings; may be nil
}

// Open returns the key manager that spec names:
//
//	mock:PATH           a Mock on this file
//	mock:               a Mock on DefaultMockPath
//	http://HOST:PORT    the QMail REST API; a path may follow
//	https://HOST:PORT   the same over TLS
//
// Anything else is an ErrConfig. A mock has no use for Options.CAFile and
// ignores it.
func Open(spec string, o Options) (KeyManager, error) {
	scheme, rest, colon := strings.Cut(spec, ":")
	switch {
	case scheme == "mock" && colon:
		return openMock(rest, o)
	case scheme == "http" || scheme == "https":
		return openREST(spec, o)
	}
	return nil, fmt.Errorf("%w: a key manager is mock:PATH, mock: (for %s), http://HOST:PORT or https://HOST:PORT",
		ErrConfig, DefaultMockPath)
}

// FromEnv returns the key manager that the reference system's environment
// variables name:
//
//	QKD_USE_MOCK  a Mock on DefaultMockPath, and the others don't count (default true)
//	QKD_KM_HOST   host of a key manager with the QMail REST API (default localhost)
//	QKD_KM_PORT   its port (default 8080)
//	QKD_KM_HTTPS  over TLS (default false)
//	QKD_KM_CA     PEM file; takes precedence over Options.CAFile
//
// Truth is true, 1, yes, false, 0 or no, in any case. getenv is usually
// [os.Getenv]; empty is the same as not set.
func FromEnv(getenv func(string) string, o Options) (KeyManager, error) {
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
	if file := getenv("QKD_KM_CA"); file != "" {
		o.CAFile = file
	}
	u := url.URL{Scheme: "http", Host: address}
	if secure {
		u.Scheme = "https"
	}
	return openREST(u.String(), o)
}

// openMock and openREST return an interface that is nil when there is an
// error, which a nil *Mock in it would not be.

func openMock(path string, o Options) (KeyManager, error) {
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
