package admin

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/qkdmail/qkdmail/cipher"
	"github.com/qkdmail/qkdmail/kmclient/keystore"
	"github.com/qkdmail/qkdmail/mailer"
	"github.com/qkdmail/qkdmail/mailer/relay/config"
)

// settings are a table of the configuration in force. Its rows are chosen here one
// by one, so that a new key of the configuration is shown only if someone decides
// so. Files are named and not opened. URLs are shown without anything that may be
// a password. Of a value that may be secret, the page shows only whether it is
// set.
type settings struct {
	Title string
	Rows  []setting
}

type setting struct{ Name, Value string }

func settingsOf(c *config.Config, h *hybrid) []settings {
	all := []settings{{"Relay", []setting{{"Host name", c.Hostname}, {"Header policy", string(c.Headers.Policy)}}}}
	for _, l := range c.Listeners {
		all = append(all, settings{"Listener " + l.Name, listenerRows(l)})
	}
	for _, n := range c.NextHops {
		all = append(all, settings{"Next hop " + n.Name, []setting{
			{"Address", n.Address}, {"Protocol", string(n.Protocol)}, {"TLS", string(n.TLS)},
			{"Authentication", yesNo(n.AuthUser != "")}, {"Connections", fmt.Sprintf("%d, %d kept", n.MaxConnections, n.MaxIdle)},
		}})
	}
	all = append(all, settings{"Key manager", kmRows(&c.KM)}, settings{"Store", storeRows(&c.Store)})
	for _, p := range c.Peers {
		all = append(all, settings{"Peer " + p.Name, []setting{
			{"SAE", orNone(p.SAE)}, {"Domains", orNone(strings.Join(p.Domains, ", "))},
			{"Plain mail from it", p.Inbound}, {"Suites", suiteNames(h.peers[p.Name].suites)},
			{"X-Wing key", h.peers[p.Name].key}, {"Recipients", cmp.Or(p.Recipients, "sealed")},
		}})
	}
	for _, r := range c.Rules {
		rows := []setting{{"Encrypt", r.Encrypt.String()}}
		if r.Encrypt != mailer.Never {
			rows = append(rows, setting{"Peer", r.Peer}, setting{"Suite", r.Suite}, setting{"One-time pad up to", byteCount(int64(r.PadLimit))})
		}
		all = append(all, settings{"Mail to " + r.Domain, rows})
	}
	return append(all, settings{"Limits and times", limitRows(c)}, settings{"Log", []setting{
		{"Level", c.Log.Level.String()}, {"Format", c.Log.Format}, {"Message IDs", c.Log.MessageID}, {"Addresses", yesNo(c.Log.Addresses)},
	}})
}

func listenerRows(l config.Listener) []setting {
	var networks []string
	for _, n := range l.Networks {
		networks = append(networks, n.String())
	}
	return []setting{
		{"Direction", string(l.Direction)}, {"Protocol", string(l.Protocol)}, {"Address", l.Address}, {"Next hop", l.NextHop},
		{"Clients", orNone(strings.Join(networks, ", "))}, {"TLS", string(l.TLS)}, {"Authentication", yesNo(l.AuthFile != "")},
	}
}

func kmRows(km *config.KM) []setting {
	return []setting{
		{"Address", withoutPassword(km.URL)}, {"SAE", orNone(km.SAE)}, {"KME", orNone(km.KMEID)},
		{"Time for a request", km.RequestTimeout.String()}, {"Time for a message", km.Timeout.String()},
		{"Keys fetched ahead", yesNo(km.Pool)},
	}
}

func storeRows(s *config.Store) []setting {
	path := keystore.Location(s.Path).String()
	switch path {
	case config.StoreNone:
		return []setting{{"Place", path}}
	case "":
		path = "in the state directory, where it is needed"
	}
	kind, _, _ := strings.Cut(s.Key, ":")
	if kind == "" {
		kind = "file beside it"
	}
	return []setting{{"Place", path}, {"Sealed with", kind}}
}

func limitRows(c *config.Config) []setting {
	return []setting{
		{"Message", byteCount(c.Limits.MessageSize)}, {"Line", byteCount(c.Limits.LineLength)}, {"Header", byteCount(c.Limits.HeaderSize)},
		{"Recipients", fmt.Sprint(c.Limits.Recipients)}, {"Connections", fmt.Sprintf("%d, %d of one client", c.Limits.Connections, c.Limits.ConnectionsPerClient)},
		{"Next hop answers within", c.Timeouts.AfterDot.String()},
	}
}

// withoutPassword returns URLs without anything before their hosts or after their
// paths.
func withoutPassword(urls string) string {
	scheme, rest, ok := strings.Cut(urls, "//")
	if !ok {
		return urls
	}
	rest, _, _ = strings.Cut(rest, "?")
	rest, _, _ = strings.Cut(rest, "#")
	list := strings.Split(rest, ",")
	for i, one := range list {
		start := ""
		if s, r, ok := strings.Cut(one, "//"); ok {
			start, one = s+"//", r
		}
		list[i] = start + one[strings.LastIndexByte(one, '@')+1:]
	}
	return scheme + "//" + strings.Join(list, ",")
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

func suiteNames(suites []cipher.Suite) string {
	names := make([]string, len(suites))
	for i, s := range suites {
		names[i] = string(s)
	}
	return strings.Join(names, ", ")
}

func byteCount(n int64) string {
	if n == 0 {
		n = cipher.DefaultPadLimit // the only setting here whose zero stands for a default
	}
	for _, u := range []struct {
		name string
		size int64
	}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}} {
		if n%u.size == 0 {
			return fmt.Sprintf("%d %s", n/u.size, u.name)
		}
	}
	return grouped(n) + " bytes"
}
