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
// have been some all the time, since a one-time pad takes several.
func (m *Monitor) lacked(peer string, now time.Time) bool {
	at := m.count.byPeer.get(peerWay{mailer.DirectionEncrypt, peer}).lackedAt.Load()
	return at != 0 && now.Sub(time.Unix(0, at)) <= lackedFor
}

// checkKeys judges the stock, which is known where the key manager answers for at
// least one peer. A stock of 0 is no failure by itself: some key managers make keys
// when they are asked for.
func (m *Monitor) checkKeys(f findings, now time.Time) (c Check, isKnown bool) {
	c = Check{Name: "keys", State: StateOK, Found: "There are keys for all peers that mail is encrypted for."}
	var without, silent, tooFew, soon, noPad []string
	known, waits := 0, 0
	for _, name := range m.encryptedFor() {
		l, ok := f.peers[name]
		if !ok || l.err != nil {
			continue // checkKM says so
		}
		known++
		if mailWaits, err := m.config.Load().PadTrouble(name, l.status); err != nil {
			noPad = append(noPad, name)
			if mailWaits {
				waits++
			}
		}
		none := l.hasStock() && *l.status.StoredKeys == 0
		switch lacked := m.lacked(name, now); {
		case none && lacked:
			without = append(without, name)
			continue
		case none:
			silent = append(silent, name)
			continue
		case lacked:
			tooFew = append(tooFew, name)
		}
		if !l.hasStock() {
			continue
		}
		if left, falls, _ := m.forecast[name].lasts(); falls && left < runningOut {
			soon = append(soon, fmt.Sprintf("%s (about %s)", name, roughly(left)))
		}
	}
	const rate = "Check the QKD link, and whether its key rate is enough for the mail."
	switch {
	case len(m.encryptedFor()) == 0:
		c.Found = "None are needed: no mail is encrypted here."
	case known == 0:
		return c, false
	case len(without) == known:
		c.State, c.Found, c.Advice = StateFailed, "There are none.", rate+" Mail waits at its sender."
	case waits > 0:
		c.State, c.Found = StateFailed, "The key manager's limits allow no one-time pad for "+names(noPad)+", and a rule allows nothing else."
		c.Advice = `Set suite = "auto" or "aes-256-gcm" in that rule. Mail waits at its sender.`
	case len(without)+len(tooFew)+len(soon) > 0:
		c.State, c.Found, c.Advice = StateWarning, shortOfKeys(without, tooFew, soon), rate
		if len(tooFew) > 0 {
			c.Advice += " A smaller pad_limit uses fewer keys."
		}
		if len(without)+len(tooFew) > 0 {
			c.Advice += " Mail without keys waits at its sender."
		}
	case len(silent) > 0:
		c.State, c.Found = StateWarning, "The key manager says that it has none in stock for "+names(silent)+"."
		c.Advice = "That is normal if it makes keys when they are asked for. " + rate
	case len(noPad) > 0:
		c.State, c.Found = StateWarning, "The key manager's limits allow no one-time pad for "+names(noPad)+"; AES-256-GCM is used."
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
