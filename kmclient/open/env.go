package open

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"github.com/qkdmail/qkdmail/kmclient"
)

// FromEnv returns the key manager that the environment names (see [EnvSpec]), or else
// a mock on mock.DefaultPath. These variables take precedence over the Options:
//
//	QKD_KM_CA     CAFile
//	QKD_KM_CERT   CertFile
//	QKD_KM_KEY    KeyFile
//	QKD_KME_ID    KMEID
//	QKD_SAE       SAE
//
// getenv is usually [os.Getenv]; an empty variable is the same as an unset one. An
// error of the key manager names the variables that set an option.
func FromEnv(getenv func(string) string, o Options) (kmclient.KeyManager, error) {
	var used []string
	for _, v := range []struct {
		name   string
		option *string
	}{
		{"QKD_KM_CA", &o.CAFile}, {"QKD_KM_CERT", &o.CertFile}, {"QKD_KM_KEY", &o.KeyFile},
		{"QKD_KME_ID", &o.KMEID}, {"QKD_SAE", &o.SAE},
	} {
		if value := getenv(v.name); value != "" {
			*v.option = value
			used = append(used, v.name)
		}
	}
	spec, err := EnvSpec(getenv)
	if err != nil {
		return nil, err
	}
	km, err := KeyManager(cmp.Or(spec, "mock:"), o)
	if err != nil && used != nil {
		return nil, fmt.Errorf("%w (with %s from the environment)", err, strings.Join(used, ", "))
	}
	return km, err
}

// EnvSpec returns the spec of the key manager that the environment names, as
// [KeyManager] takes it, or "". QKD_KM is the spec. If it is not set, the variables of
// the reference system are used:
//
//	QKD_USE_MOCK      true: a mock on mock.DefaultPath; false: the QMail REST API
//	QKD_KM_HOST       host of the QMail REST API (default localhost)
//	QKD_KM_PORT       port (default 8080)
//	QKD_KM_HTTPS      true: over TLS (default false)
//	QKD_KM_USE_HTTPS  the same, as the reference system spells it
//
// Without QKD_USE_MOCK the others are ignored. A truth value is true, 1, yes, false, 0
// or no, in any case. If a value can't be used, the error is kmclient.ErrConfig and
// names the variable.
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

// envBool returns a variable that is true or false, and whether it is set.
func envBool(getenv func(string) string, name string) (value, set bool, err error) {
	switch strings.ToLower(strings.TrimSpace(getenv(name))) {
	case "":
		return false, false, nil
	case "true", "1", "yes":
		return true, true, nil
	case "false", "0", "no":
		return false, true, nil
	}
	return false, true, fmt.Errorf("%w: %s must be true, 1 or yes, or else false, 0 or no", kmclient.ErrConfig, name)
}

// envHTTPS returns a variable that has two names.
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
		return false, fmt.Errorf("%w: QKD_KM_HTTPS and QKD_KM_USE_HTTPS mean the same and must not differ", kmclient.ErrConfig)
	}
	return ours || theirs, nil
}

// envAddress returns HOST:PORT, with an IPv6 address in brackets.
func envAddress(getenv func(string) string) (string, error) {
	host := cmp.Or(strings.TrimSpace(getenv("QKD_KM_HOST")), "localhost")
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	if _, err := netip.ParseAddr(host); err != nil && strings.ContainsAny(host, ":/@?#%\\[] \t") {
		return "", fmt.Errorf("%w: QKD_KM_HOST must be a host name or an IP address and nothing else (the port is QKD_KM_PORT)", kmclient.ErrConfig)
	}
	port := cmp.Or(strings.TrimSpace(getenv("QKD_KM_PORT")), "8080")
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return "", fmt.Errorf("%w: QKD_KM_PORT must be a number from 1 to 65535", kmclient.ErrConfig)
	}
	return net.JoinHostPort(host, port), nil
}
