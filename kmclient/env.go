package kmclient

import (
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"regexp"
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
	if err := checkSpec(spec); err != nil {
		return nil, err
	}
	switch scheme, rest, _ := strings.Cut(spec, ":"); scheme {
	case "mock":
		return openMock(rest, o)
	case "etsi014":
		return openETSI014(rest, o)
	}
	return openREST(spec, o)
}

// FromEnv returns the key manager that the environment names (see [EnvSpec]), a
// Mock on DefaultMockPath if it names none. These variables take precedence over
// the Options of the same meaning:
//
//	QKD_KM_CA     CAFile
//	QKD_KM_CERT   CertFile
//	QKD_KM_KEY    KeyFile
//	QKD_KME_ID    KMEID
//	QKD_SAE       SAE
//
// getenv is usually [os.Getenv]; empty is the same as not set. An error about the
// value of a variable names the variable.
func FromEnv(getenv func(string) string, o Options) (KeyManager, error) {
	for name, option := range map[string]*string{
		"QKD_KM_CA": &o.CAFile, "QKD_KM_CERT": &o.CertFile, "QKD_KM_KEY": &o.KeyFile, "QKD_KME_ID": &o.KMEID,
		"QKD_SAE": &o.SAE,
	} {
		if value := getenv(name); value != "" {
			*option = value
		}
	}
	spec, err := EnvSpec(getenv)
	if err != nil {
		return nil, err
	}
	if spec == "" {
		spec = "mock:"
	}
	km, err := Open(spec, o)
	return km, NameVariables(err, getenv)
}

// EnvSpec returns the key manager that the environment names, as Open takes it,
// or "" if it names none. It is named by QKD_KM, or else by the variables of the
// reference system:
//
//	QKD_KM            what Open takes; the others don't count then
//	QKD_USE_MOCK      true: a Mock on DefaultMockPath; false: one with the QMail REST API
//	QKD_KM_HOST       its host (default localhost)
//	QKD_KM_PORT       its port (default 8080)
//	QKD_KM_HTTPS      over TLS (default false)
//	QKD_KM_USE_HTTPS  the same, as the reference system spells it
//
// Without QKD_USE_MOCK those after it don't count. Truth is true, 1, yes, false, 0
// or no, in any case. Any other value, and one that can't be used, is an ErrConfig
// that names the variable.
func EnvSpec(getenv func(string) string) (string, error) {
	if spec := getenv("QKD_KM"); spec != "" {
		if err := checkSpec(spec); err != nil {
			return "", fmt.Errorf("QKD_KM: %w", err)
		}
		return spec, nil
	}
	mock, set, err := envBool(getenv, "QKD_USE_MOCK")
	switch {
	case err != nil || !set:
		return "", err
	case mock:
		return "mock:", nil
	}
	secure, err := envHTTPS(getenv)
	if err != nil {
		return "", err
	}
	address, err := envAddress(getenv)
	if err != nil {
		return "", err
	}
	u := url.URL{Scheme: "http", Host: address}
	if secure {
		u.Scheme = "https"
	}
	return u.String(), nil
}

// NameVariables returns err with the names of the environment variables whose
// values it speaks of. It looks for the values in its text.
func NameVariables(err error, getenv func(string) string) error {
	if err == nil {
		return nil
	}
	var names []string
	for _, name := range []string{"QKD_KM_HOST", "QKD_KM_CA", "QKD_KM_CERT", "QKD_KM_KEY", "QKD_KME_ID", "QKD_SAE", "QKD_PEER"} {
		if value := getenv(name); value != "" && !strings.Contains(err.Error(), name) && speaksOf(err.Error(), value) {
			names = append(names, name)
		}
	}
	if names == nil {
		return err
	}
	return fmt.Errorf("%w (from %s in the environment)", err, strings.Join(names, ", "))
}

// speaksOf reports whether text has value, and not as a part of a longer word.
func speaksOf(text, value string) bool {
	whole := regexp.MustCompile(`(^|[^A-Za-z0-9_/.-])` + regexp.QuoteMeta(value) + `($|[^A-Za-z0-9_/-])`)
	return whole.MatchString(text)
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

// checkSpec reports whether Open understands spec.
func checkSpec(spec string) error {
	scheme, rest, colon := strings.Cut(spec, ":")
	switch {
	case scheme == "mock" && colon:
		return nil
	case scheme == "http" || scheme == "https":
		_, _, err := checkBase(spec)
		return err
	case scheme == "etsi014" && colon:
		for raw := range strings.SplitSeq(rest, ",") {
			if _, err := checkKMEBase(raw); err != nil {
				return err
			}
		}
		return nil
	}
	return fmt.Errorf("%w: a key manager is mock:PATH, mock: (for %s), http://HOST:PORT, https://HOST:PORT or "+
		"etsi014:https://HOST:PORT", ErrConfig, DefaultMockPath)
}

// envBool reads a variable that is true or false, and whether it is set.
func envBool(getenv func(string) string, name string) (value, set bool, err error) {
	switch strings.ToLower(strings.TrimSpace(getenv(name))) {
	case "":
		return false, false, nil
	case "true", "1", "yes":
		return true, true, nil
	case "false", "0", "no":
		return false, true, nil
	}
	return false, true, fmt.Errorf("%w: %s must be true, 1 or yes, or else false, 0 or no", ErrConfig, name)
}

// envHTTPS reads the two names of one variable.
func envHTTPS(getenv func(string) string) (bool, error) {
	ours, set, err := envBool(getenv, "QKD_KM_HTTPS")
	if err != nil {
		return false, err
	}
	theirs, too, err := envBool(getenv, "QKD_KM_USE_HTTPS")
	switch {
	case err != nil:
		return false, err
	case set && too && ours != theirs:
		return false, fmt.Errorf("%w: QKD_KM_HTTPS and QKD_KM_USE_HTTPS mean the same and must not differ", ErrConfig)
	}
	return ours || theirs, nil
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
		return "", fmt.Errorf("%w: QKD_KM_PORT must be a number from 1 to 65535", ErrConfig)
	}
	return net.JoinHostPort(host, port), nil
}
