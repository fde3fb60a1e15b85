package admin

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/qkdmail/qkdmail/mailer"
	"github.com/qkdmail/qkdmail/mailer/relay/config"
)

const (
	runningOut = 4 * time.Hour    // keys that last for less run out soon
	lackedFor  = 10 * time.Minute // how long a message that lacked keys is a warning; the sender's first retry comes sooner
)

// lacked reports whether a message for a peer has lacked keys lately. There may
// have been some keys all along, since a one-time pad takes several.
func (m *Monitor) lacked(peer string, now time.Time) bool {
	at := m.count.byPeer.get(peerWay{mailer.DirectionEncrypt, peer}).lackedAt.Load()
	return at != 0 && now.Sub(time.Unix(0, at)) <= lackedFor
}

// supply is what is known about the keys for the peers that mail is encrypted for.
type supply struct {
	known   int // peers for which the key manager answers
	waiting int // of them, those whose rule allows only a pad, which the limits rule out

	without []string // peers whose mail lacks keys, and none are in stock
	silent  []string // none in stock, and no mail has lacked any
	tooFew  []string // some in stock, and mail has lacked keys
	soon    []string // their keys run out soon
	noPad   []string // the limits allow no one-time pad
}

// supply sorts the peers by the results of the last round of checks. mu must be
// held.
func (m *Monitor) supply(f findings, now time.Time) (s supply) {
	for _, name := range m.encryptedFor() {
		l, ok := f.peers[name]
		if !ok || l.err != nil {
			continue // checkKM says so
		}
		s.known++
		if mailWaits, err := m.config.Load().PadTrouble(name, l.status); err != nil {
			s.noPad = append(s.noPad, name)
			if mailWaits {
				s.waiting++
			}
		}
		none := l.hasStock() && *l.status.StoredKeys == 0
		switch lacked := m.lacked(name, now); {
		case none && lacked:
			s.without = append(s.without, name)
			continue
		case none:
			s.silent = append(s.silent, name)
			continue
		case lacked:
			s.tooFew = append(s.tooFew, name)
		}
		if !l.hasStock() {
			continue
		}
		if left, falls, _ := m.forecast[name].lasts(); falls && left < runningOut {
			s.soon = append(s.soon, fmt.Sprintf("%s (about %s)", name, roughly(left)))
		}
	}
	return s
}

// checkKeys judges the stock, which is known if the key manager answers for at
// least one peer. A stock of 0 is not a failure by itself: some key managers make
// keys on demand. mu must be held.
func (m *Monitor) checkKeys(f findings, now time.Time) (c Check, known bool) {
	const rate = "Check the QKD link, and whether its key rate is enough for the mail."
	c = Check{Name: "keys", State: StateOK, Found: "There are keys for every peer that mail is encrypted for."}
	s := m.supply(f, now)
	switch {
	case len(m.encryptedFor()) == 0:
		c.Found = "No keys are needed: no mail is encrypted here."
	case s.known == 0:
		return c, false
	case len(s.without) == s.known:
		c.State, c.Found, c.Advice = StateFailed, "There are none.", rate+" Mail waits at its sender."
	case s.waiting > 0:
		c.State, c.Found = StateFailed, "The key manager's limits allow no one-time pad for "+names(s.noPad)+", and a rule allows nothing else."
		c.Advice = `Set suite = "auto" or "aes-256-gcm" in that rule. Mail waits at its sender.`
	case len(s.without)+len(s.tooFew)+len(s.soon) > 0:
		c.State, c.Found, c.Advice = StateWarning, shortOfKeys(s.without, s.tooFew, s.soon), rate
		if len(s.tooFew) > 0 {
			c.Advice += " A smaller pad_limit uses fewer keys."
		}
		if len(s.without)+len(s.tooFew) > 0 {
			c.Advice += " Mail without keys waits at its sender."
		}
	case len(s.silent) > 0:
		c.State, c.Found = StateWarning, "The key manager says that it has none in stock for "+names(s.silent)+"."
		c.Advice = "That is normal if it makes keys on demand. " + rate
	case len(s.noPad) > 0:
		c.State, c.Found = StateWarning, "The key manager's limits allow no one-time pad for "+names(s.noPad)+"; AES-256-GCM is used."
		c.Advice = "Compare the limits in its status with docs/format.md."
	}
	return c, true
}

// shortOfKeys says which peers have no keys, which have too few, and whose keys run
// out soon.
func shortOfKeys(without, tooFew, soon []string) string {
	var found []string
	say := func(text string, peers []string) {
		if len(peers) > 0 {
			found = append(found, text+names(peers)+".")
		}
	}
	say("There are none for ", without)
	say("Too few for some messages to ", tooFew)
	say("They run out soon for ", soon)
	return strings.Join(found, " ")
}

// encryptedFor returns the peers that mail is encrypted for.
func (m *Monitor) encryptedFor() []string {
	cfg := m.config.Load()
	encrypts := slices.ContainsFunc(cfg.Listeners, func(l config.Listener) bool { return l.Direction == mailer.DirectionEncrypt })
	var peers []string
	for _, r := range cfg.Rules {
		if encrypts && r.Encrypt != mailer.Never && !slices.Contains(peers, r.Peer) {
			peers = append(peers, r.Peer)
		}
	}
	return peers
}
