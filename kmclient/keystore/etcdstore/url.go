package etcdstore

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/qkdmail/qkdmail/kmclient"
)

const (
	scheme        = "etcd://"
	defaultPort   = "2379"
	defaultPrefix = "/qkdmail"
	maxEndpoints  = 64
	maxPrefix     = 255 // octets
)

// ParseURL returns the Endpoints and the Prefix that a text of this form names:
//
//	etcd://HOST:PORT,HOST:PORT/PREFIX
//
// A host is a name, an IPv4 address or an IPv6 address in brackets; without a
// port it is 2379. The prefix may have several parts with "/" between them, of
// letters, digits, ".", "_" and "-"; without one it is /qkdmail. Whether TLS is
// used is said by the other Options, and no URL holds a password: one with "@"
// is refused, and so is any that can't be used, with a kmclient.ErrConfig.
func ParseURL(text string) (Options, error) {
	if strings.Contains(text, "@") { // not shown: it may hold a password
		return Options{}, fmt.Errorf("%w: an etcd URL holds no user and no password: they are given apart from it", kmclient.ErrConfig)
	}
	rest, found := strings.CutPrefix(text, scheme)
	if !found {
		return Options{}, fmt.Errorf("%w: %.300q is not of the form etcd://HOST:PORT,HOST:PORT/PREFIX", kmclient.ErrConfig, text)
	}
	hosts, path, _ := strings.Cut(rest, "/")
	o := Options{Endpoints: strings.Split(hosts, ","), Prefix: "/" + path}
	if path == "" {
		o.Prefix = defaultPrefix
	}
	if err := o.checkAddress(); err != nil {
		return Options{}, err
	}
	return o, nil
}

// checkAddress checks Endpoints and Prefix, and completes them.
func (o *Options) checkAddress() error {
	if len(o.Endpoints) == 0 || len(o.Endpoints) > maxEndpoints {
		return fmt.Errorf("%w: %d etcd endpoints, must be 1 to %d", kmclient.ErrConfig, len(o.Endpoints), maxEndpoints)
	}
	full := make([]string, len(o.Endpoints)) // the caller's are left as they are
	for i, e := range o.Endpoints {
		var ok bool
		if full[i], ok = endpoint(e); !ok {
			return fmt.Errorf("%w: etcd endpoint %.300q must be HOST:PORT, an IPv6 address in brackets, without a scheme", kmclient.ErrConfig, e)
		}
	}
	o.Endpoints = full
	if o.Prefix == "" {
		o.Prefix = defaultPrefix
	}
	if !isPrefix(o.Prefix) {
		return fmt.Errorf("%w: etcd prefix %.300q must be /PART or /PART/PART, of letters, digits, \".\", \"_\" and \"-\", and of %d octets at most",
			kmclient.ErrConfig, o.Prefix, maxPrefix)
	}
	return nil
}

// endpoint returns HOST:PORT with the default port if there is none.
func endpoint(s string) (string, bool) {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		host, port, err = net.SplitHostPort(s + ":" + defaultPort)
	}
	if err != nil || !isHost(host, strings.HasPrefix(s, "[")) {
		return "", false
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 || strconv.FormatUint(n, 10) != port {
		return "", false
	}
	return net.JoinHostPort(host, port), true
}

func isHost(s string, brackets bool) bool {
	if address, err := netip.ParseAddr(s); err == nil {
		return address.Is6() == brackets && address.Zone() == ""
	}
	return !brackets && s != "" && len(s) <= 253 && consistsOf(s, "-.")
}

// isPrefix reports whether s is one or more parts, each after a "/".
func isPrefix(s string) bool {
	parts := strings.Split(s, "/")
	if len(s) > maxPrefix || len(parts) < 2 || parts[0] != "" {
		return false
	}
	for _, p := range parts[1:] {
		if p == "" || !consistsOf(p, "-._") {
			return false
		}
	}
	return true
}

// consistsOf reports whether s has no octets but letters, digits and these.
func consistsOf(s, others string) bool {
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && strings.IndexByte(others, c) < 0 {
			return false
		}
	}
	return true
}
