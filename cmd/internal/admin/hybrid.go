package admin

import (
	"slices"
	"time"

	"github.com/qkdmail/qkdmail/cipher"
	"github.com/qkdmail/qkdmail/mailer"
	"github.com/qkdmail/qkdmail/mailer/relay/config"
)

// hybrid is what is known about X-Wing keys: those of this site, and which mail to and
// from peers is hybrid. It does not change.
type hybrid struct {
	own   []hybridKey
	peers map[string]hybridPeer // by name
}

// A hybridKey is one of this site's.
type hybridKey struct {
	fingerprint string
	written     time.Time // zero: not known
}

// A hybridPeer says whether all mail is hybrid, in each direction that the relay
// serves.
type hybridPeer struct {
	ways   map[mailer.Direction]bool
	key    string         // fingerprint of the peer's key, or "none"
	suites []cipher.Suite // that are accepted from it
}

// hybridOf reads the X-Wing keys of a configuration.
func hybridOf(cfg *config.Config) (*hybrid, error) {
	own, err := cfg.HybridKeys()
	if err != nil {
		return nil, err
	}
	policy, err := cfg.Policy()
	if err != nil {
		return nil, err
	}
	h := &hybrid{peers: map[string]hybridPeer{}}
	for _, k := range own {
		h.own = append(h.own, hybridKey{k.Public().Fingerprint().String(), k.Written})
	}
	for _, p := range policy.Peers() {
		peer := hybridPeer{key: "none", suites: p.Suites, ways: map[mailer.Direction]bool{}}
		if p.Hybrid != nil {
			peer.key = p.Hybrid.Fingerprint().String()
		}
		if cfg.Does(mailer.DirectionEncrypt) {
			peer.ways[mailer.DirectionEncrypt] = p.Hybrid != nil
		}
		if cfg.Does(mailer.DirectionDecrypt) {
			peer.ways[mailer.DirectionDecrypt] = !slices.ContainsFunc(p.Suites, func(s cipher.Suite) bool { return !s.Hybrid() })
		}
		h.peers[p.Name] = peer
	}
	return h, nil
}

// text says in which direction all mail is hybrid.
func (p hybridPeer) text() string {
	to, from := p.ways[mailer.DirectionEncrypt], p.ways[mailer.DirectionDecrypt]
	switch {
	case to && from:
		return "to and from it"
	case to:
		return "to it"
	case from:
		return "from it"
	}
	return "no"
}

// A keyView is one of this site's X-Wing keys on the page.
type keyView struct{ Fingerprint, Age string }

func (h *hybrid) views(now time.Time) []keyView {
	var views []keyView
	for _, k := range h.own {
		v := keyView{k.fingerprint, "a credential of unknown age"}
		if !k.written.IsZero() {
			v.Age = "file of " + k.written.UTC().Format("2 Jan 2006") + ", " + roughly(now.Sub(k.written)) + " old"
		}
		views = append(views, v)
	}
	return views
}

// oldKey is the age at which a key should be replaced.
const oldKey = 366 * 24 * time.Hour

// check returns a warning if the newest key is old.
func (h *hybrid) check(now time.Time) (Check, bool) {
	young := func(k hybridKey) bool { return k.written.IsZero() || now.Sub(k.written) < oldKey }
	if len(h.own) == 0 || slices.ContainsFunc(h.own, young) {
		return Check{}, false
	}
	return Check{"X-Wing key", StateWarning, "This site's X-Wing key is over a year old.",
		"Whoever gets it and knows the key manager's keys can open all mail of that time. Change it: docs/operations.md says how."}, true
}

func hybridFigures() []figure {
	return []figure{
		gauge("peer_hybrid", "1 if all mail encrypted for a peer, or all mail accepted from it, is under a hybrid suite.", func(r *reading, put put) {
			for name, p := range r.m.hybrid.Load().peers {
				for way, all := range p.ways {
					put(truth(all), string(way), name)
				}
			}
		}, "direction", "peer"),
		gauge("hybrid_key_timestamp_seconds", "When the file of one of this site's X-Wing keys was written; absent for a credential.", func(r *reading, put put) {
			for _, k := range r.m.hybrid.Load().own {
				if !k.written.IsZero() {
					put(seconds(k.written), k.fingerprint)
				}
			}
		}, "fingerprint"),
	}
}
