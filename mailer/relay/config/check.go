package config

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/qkdmail/qkdmail/cipher"
	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/mailer"
	"github.com/qkdmail/qkdmail/mailer/internal/address"
	"github.com/qkdmail/qkdmail/mailer/internal/readable"
)

// Check returns, joined, everything that is wrong with a configuration in itself, each an
// *[Error]. It opens no file and no connection.
func (c *Config) Check() error {
	f := &findings{c: c}
	if !address.IsHost(c.Hostname) {
		f.add("hostname", "%q must be a host name", readable.Short(c.Hostname))
	}
	f.listeners(f.nextHops())
	f.keyManager()
	f.store()
	f.hybrid()
	f.policy(c.standIns())
	f.headers()
	f.bounds()
	f.admin()
	f.log()
	return f.err()
}

// name checks the name of an entry of a table. taken has the names of the entries before
// it.
func (f *findings) name(taken map[string]int, table string, i int, name string) {
	key := entryKey(table, i) + ".name"
	first, doubled := taken[name]
	switch {
	case name == "":
		f.add(key, "missing")
	case !readable.IsName(name):
		f.badName(key, name)
	case doubled:
		f.add(key, "%q is the name of another %s (line %d)", name, table, f.c.line(entryKey(table, first)+".name"))
	default:
		taken[name] = i
	}
}

func (f *findings) badName(key, name string) {
	f.add(key, "%q must be %s", readable.Short(name), readable.NameForm)
}

func (f *findings) listeners(hops map[string]int) {
	if len(f.c.Listeners) == 0 {
		f.add("listener", "missing: without a [[listener]] no mail comes in")
	}
	names, addresses := map[string]int{}, map[string]int{}
	for i := range f.c.Listeners {
		l, at := &f.c.Listeners[i], entryKey("listener", i)
		f.name(names, "listener", i, l.Name)
		f.oneOf(at+".direction", string(l.Direction), string(mailer.DirectionEncrypt), string(mailer.DirectionDecrypt))
		f.oneOf(at+".protocol", string(l.Protocol), string(SMTP), string(LMTP))
		if f.address(at, l.Address) && !strings.HasSuffix(l.Address, ":0") {
			if first, ok := addresses[l.Address]; ok {
				f.add(at+".address", "%q is the address of another listener (line %d)", l.Address, f.c.line(entryKey("listener", first)+".address"))
			}
			addresses[l.Address] = i
		}
		if n, ok := hops[l.NextHop]; !ok {
			f.add(at+".next_hop", "there is no [[next_hop]] with the name %q", readable.Short(l.NextHop))
		} else if f.c.NextHops[n].Protocol == LMTP && l.Protocol != LMTP {
			f.add(at+".next_hop", "next hop %q speaks lmtp, so the listener must speak it as well: smtp has one answer for all recipients", l.NextHop)
		}
		f.clients(at, l)
		f.listenerTLS(at, l)
	}
}

// clients checks who may connect.
func (f *findings) clients(at string, l *Listener) {
	if len(l.Networks) == 0 && !strings.HasPrefix(l.Address, "unix:") {
		f.add(at+".networks", "empty: no client could connect")
	}
	for i, n := range l.Networks {
		if l.AuthFile == "" {
			f.notTooWide(entryKey(at+".networks", i), n)
		} else if !n.IsValid() {
			f.add(entryKey(at+".networks", i), "no network")
		}
	}
	for i, n := range l.XForward {
		f.notTooWide(entryKey(at+".xforward", i), n)
	}
}

// notTooWide refuses networks that are a large part of the Internet. The private networks
// are all smaller.
func (f *findings) notTooWide(key string, n netip.Prefix) {
	least := 7 // fc00::/7
	if n.Addr().Is4() {
		least = 8 // 10.0.0.0/8
	}
	if !n.IsValid() {
		f.add(key, "no network")
	} else if n.Bits() < least {
		f.add(key, "%s is too wide, it must be /%d or longer: a relay for unknown clients is an open relay; "+
			"with auth_file clients authenticate", n, least)
	}
}

func (f *findings) listenerTLS(at string, l *Listener) {
	if !f.oneOf(at+".tls", string(l.TLS), string(TLSOff), string(TLSOpportunistic), string(TLSRequired)) {
		return
	}
	switch on := l.TLS != TLSOff; {
	case on && l.TLSCert == "":
		f.add(at+".tls_cert", "missing: tls = %q needs tls_cert and tls_key", l.TLS)
	case on && l.TLSKey == "":
		f.add(at+".tls_key", "missing: tls = %q needs tls_cert and tls_key", l.TLS)
	case !on && l.TLSCert+l.TLSKey != "":
		f.add(at+".tls", "is off, but there is a certificate or key: say opportunistic or required")
	}
	if l.AuthFile != "" && l.TLS == TLSOff {
		f.add(at+".auth_file", "passwords are taken over TLS only: say tls = \"opportunistic\" or \"required\"")
	}
}

// nextHops returns the indices of the next hops by their names.
func (f *findings) nextHops() map[string]int {
	names := map[string]int{}
	for i := range f.c.NextHops {
		n, at := &f.c.NextHops[i], entryKey("next_hop", i)
		f.name(names, "next_hop", i, n.Name)
		f.oneOf(at+".protocol", string(n.Protocol), string(SMTP), string(LMTP))
		if f.address(at, n.Address) && (strings.HasPrefix(n.Address, ":") || strings.HasSuffix(n.Address, ":0")) {
			f.add(at+".address", "%q needs a host and a port", n.Address)
		}
		f.oneOf(at+".tls", string(n.TLS), string(TLSOff), string(TLSOpportunistic), string(TLSRequired))
		if n.TLS != TLSRequired {
			if n.TLSCA+n.TLSName != "" {
				f.add(at+".tls", "certificates are verified with tls = \"required\" only, so tls_ca and tls_name need that")
			}
			if n.AuthUser != "" {
				f.add(at+".auth_user", "a password is sent with tls = \"required\" only")
			}
		}
		if n.TLS == TLSRequired && n.TLSName == "" && strings.HasPrefix(n.Address, "unix:") {
			f.add(at+".tls_name", "missing: a unix: address has no host to compare the certificate with")
		}
		if (n.AuthUser == "") != (n.AuthPasswordFile+n.AuthTokenFile == "") {
			f.add(at+".auth_user", "auth_user and auth_password_file go together, or auth_user and auth_token_file")
		}
		if n.AuthPasswordFile != "" && n.AuthTokenFile != "" {
			f.add(at+".auth_token_file", "give a password or a token, not both")
		}
		f.number(at+".max_connections", int64(n.MaxConnections), 1, 100_000)
		f.number(at+".max_idle", int64(n.MaxIdle), 1, 100_000)
		f.number(at+".max_messages", int64(n.MaxMessages), 0, 100_000)
	}
	return names
}

// address checks the address of a listener or next hop.
func (f *findings) address(at, addr string) bool {
	if addr == "" {
		f.add(at+".address", "missing")
		return false
	}
	if _, _, err := endpoint(addr); err != nil {
		f.add(at+".address", "%q %v", readable.Short(addr), err)
		return false
	}
	return true
}

func (f *findings) keyManager() {
	km := &f.c.KM
	scheme, rest, _ := strings.Cut(km.URL, ":")
	switch {
	case km.URL == "":
		f.add("km.url", "missing: name the key manager, as etsi014:https://HOST:PORT, https://HOST:PORT or mock:PATH")
	case scheme == "etsi014":
		for _, need := range []struct{ key, value string }{{"sae", km.SAE}, {"cert", km.Cert}, {"key", km.Key}} {
			if need.value == "" {
				f.add("km."+need.key, "missing: ETSI GS QKD 014 needs sae, cert and key")
			}
		}
	case scheme != "mock" && scheme != "http" && scheme != "https" || scheme == km.URL,
		scheme != "mock" && !strings.HasPrefix(rest, "//"):
		f.add("km.url", "%q must be mock:PATH, http://HOST:PORT, https://HOST:PORT or etsi014:https://HOST:PORT", readable.Short(km.URL))
	}
	if km.CA != "" && (scheme == "mock" || scheme == "http") {
		f.add("km.ca", "%s: has no TLS", scheme)
	}
	if (km.Cert == "") != (km.Key == "") {
		f.add("km.cert", "cert and key go together")
	}
	// Without a file there is one direction only, and the other end may expect no SAE.
	if f.c.file != "" && km.SAE == "" && scheme != "etsi014" && slices.ContainsFunc(f.c.Peers, func(p Peer) bool { return p.SAEID() != "" }) {
		f.add("km.sae", "missing: the peers have SAE IDs, so they would refuse our mail, which names none")
	}
	f.duration("km.request_timeout", km.RequestTimeout, 100*time.Millisecond, 10*time.Minute)
	f.duration("km.timeout", km.Timeout, 100*time.Millisecond, 10*time.Minute)
	f.duration("km.key_grace", km.KeyGrace, time.Minute, mailer.DefaultMaxAge)
	f.number("km.pool_batch", int64(km.PoolBatch), 0, kmclient.MaxRequestKeys)
	f.number("km.pool_max", int64(km.PoolMax), 0, 1<<20)
	if km.PoolMax != 0 && km.PoolMax < cmp.Or(km.PoolBatch, 128) {
		f.add("km.pool_max", "is less than pool_batch, %d", cmp.Or(km.PoolBatch, 128))
	}
	f.duration("km.pool_max_age", km.PoolMaxAge, 0, 24*time.Hour)
}

func (f *findings) headers() {
	if _, err := cipher.ParseHeaderPolicy(string(f.c.Headers.Policy)); err != nil {
		f.add("headers.policy", "%q must be %s, %s or %s", readable.Short(string(f.c.Headers.Policy)),
			cipher.HeadersBaseline, cipher.HeadersShy, cipher.HeadersNoConfidentiality)
	}
	const longest = 8 << 10
	if n := f.c.Headers.Note; n != nil && (len(*n) > longest || strings.ContainsRune(*n, 0)) {
		f.add("headers.note", "must be text of at most %s", readable.Size(longest))
	}
}
