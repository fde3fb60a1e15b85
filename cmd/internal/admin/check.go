package admin

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/mailer"
	"github.com/qkdmail/qkdmail/mailer/relay/config"
)

// A State is how well something works.
type State string

// The states, from good to bad. Something has failed where nothing of it works;
// where a part works, that is a warning, since mail flows there.
const (
	StateOK      State = "ok"
	StateWarning State = "warning"
	StateFailed  State = "failed"
)

// A Check is whether one kind of thing that mail needs is there. Its texts are
// from this program.
type Check struct {
	Name   string `json:"name"`
	State  State  `json:"state"`
	Found  string `json:"found"`
	Advice string `json:"advice,omitempty"`
}

// findings are what the checks of one time have found.
type findings struct {
	at     time.Time // zero: nothing was checked yet
	peers  map[string]link
	hops   map[string]error
	store  error
	expiry map[string]time.Time // of certificates
}

// A link is what the key manager says of a peer.
type link struct {
	status kmclient.Status
	err    error
}

// check looks at all that mail needs. What it asks of others is the same however
// many look at the results.
func (m *Monitor) check(life context.Context) {
	ctx, cancel := context.WithTimeout(life, checkTimeout)
	defer cancel()
	cfg := m.config.Load()
	var found findings
	var wg sync.WaitGroup
	wg.Go(func() { found.peers = m.askPeers(ctx, cfg.Peers) })
	wg.Go(func() { found.hops = m.s.NextHops.CheckNextHops(ctx) })
	if m.s.Store != nil {
		wg.Go(func() { found.store = m.s.Store.CheckStore(ctx) })
	}
	found.expiry = expiries(cfg)
	wg.Wait()
	if life.Err() != nil {
		return // what has failed, failed for that
	}
	found.at = m.s.Now()

	m.mu.Lock()
	defer m.mu.Unlock()
	m.found = found
	maps.DeleteFunc(m.forecast, func(name string, _ *forecast) bool { _, ok := found.peers[name]; return !ok })
	for name, l := range found.peers {
		if l.err != nil || l.status.OnDemand || l.status.StoredKeys == nil {
			continue
		}
		if m.forecast[name] == nil {
			m.forecast[name] = &forecast{}
		}
		m.forecast[name].add(point{found.at, *l.status.StoredKeys, m.keysUsed(name)})
	}
	m.tell(found)
}

// askPeers asks the key manager for all peers, not for too many at a time.
func (m *Monitor) askPeers(ctx context.Context, peers []config.Peer) map[string]link {
	const atOnce = 4
	turn := make(chan struct{}, atOnce)
	var mu sync.Mutex
	var wg sync.WaitGroup
	found := map[string]link{}
	for _, p := range peers {
		turn <- struct{}{}
		wg.Go(func() {
			defer func() { <-turn }()
			var l link
			l.status, l.err = m.s.Keys.Status(ctx, p.SAEID())
			mu.Lock()
			defer mu.Unlock()
			found[p.Name] = l
		})
	}
	wg.Wait()
	return found
}

// keysUsed is how many keys messages for a peer have taken.
func (m *Monitor) keysUsed(peer string) int64 {
	return m.count.byPeer.get(peerWay{mailer.DirectionEncrypt, peer}).keysUsed.Load()
}

// tell logs which checks have begun to fail and which pass again, not each other
// text of an error that lasts. The lock is held.
func (m *Monitor) tell(f findings) {
	say := func(about, name string, err error) {
		key, fails := about+" "+name, err != nil
		switch {
		case m.failing[key] == fails:
			return
		case fails:
			m.s.Logger.Warn("a check has failed", "check", about, "name", name, "cause", err.Error())
		default:
			m.s.Logger.Info("a check passes again", "check", about, "name", name)
		}
		m.failing[key] = fails
	}
	for name, l := range f.peers {
		say("key manager", name, l.err)
	}
	for name, err := range f.hops {
		say("next hop", name, err)
	}
	say("store", "", f.store)
}

// Checks returns what was found last: the key manager, keys, the next hops and
// the store.
func (m *Monitor) Checks() []Check {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.s.Now()
	f := m.found
	if f.at.IsZero() {
		return []Check{{"start", StateFailed, "The checks have just begun.", "Ask again in some seconds."}}
	}
	checks := []Check{m.checkKM(f)}
	if c, known := m.checkKeys(f, now); known {
		checks = append(checks, c)
	}
	checks = append(checks, checkHops(f))
	if m.s.Store != nil {
		checks = append(checks, m.checkStore(f))
	}
	if c, wrong := checkExpiry(f, now); wrong {
		checks = append(checks, c)
	}
	if m.stopping.Load() {
		return append(checks, Check{"stop", StateFailed, "The relay is stopping.", "It takes no new messages; those under way come to their end."})
	}
	if age := now.Sub(f.at); age > 3*checkEvery {
		checks = append(checks, Check{"checks", StateFailed, fmt.Sprintf("Nothing was checked for %v.", age.Round(time.Second)),
			"The machine may be overloaded, or was asleep."})
	}
	return checks
}

// Ready reports whether mail can be expected to flow.
func Ready(checks []Check) bool {
	return !slices.ContainsFunc(checks, func(c Check) bool { return c.State == StateFailed })
}

func (m *Monitor) checkKM(f findings) Check {
	c := Check{Name: "key manager", State: StateOK, Found: "It answers."}
	var down, ailing []string
	var why error
	trouble := ""
	for _, name := range slices.Sorted(maps.Keys(f.peers)) {
		l := f.peers[name]
		if l.err != nil {
			down, why = append(down, name), l.err
		} else if t := l.status.Trouble(); t != "" {
			ailing, trouble = append(ailing, name), t
		}
	}
	switch {
	case len(f.peers) == 0:
		c.Found = "It is not asked: there is no peer."
		return c
	case len(down)+len(ailing) == 0:
		return c
	case len(down) == 0:
		c.State, c.Found = StateWarning, "It answers, and says that "+trouble+" ("+names(ailing)+")."
		c.Advice = "Check the key manager and the QKD link."
		return c
	case len(down) == len(f.peers):
		c.State, c.Found = StateFailed, linkProblem(why)+"."
	default:
		c.State, c.Found = StateWarning, linkProblem(why)+", for "+names(down)+"."
	}
	c.Advice = "Check the key manager, the network and the certificates; the cause is in the log. Mail waits at its sender."
	return c
}

// linkProblem says what is wrong with a key manager, in words of this program.
func linkProblem(err error) string {
	switch {
	case errors.Is(err, kmclient.ErrRefused):
		return "It refuses this client"
	case errors.Is(err, kmclient.ErrUnavailable):
		return "It can't be reached or does not serve now"
	case errors.Is(err, kmclient.ErrBadAnswer):
		return "Its answer is not what its protocol says"
	}
	return "It can't tell its status"
}

const (
	runningOut = 4 * time.Hour    // keys that last for less are said to run out
	lackedFor  = 10 * time.Minute // how long a message that lacked keys is a warning; its sender first tries again sooner
)

// lacked reports whether a message for a peer has lacked keys lately. A one-time
// pad takes several keys, so some may be left all the time.
func (m *Monitor) lacked(peer string, now time.Time) bool {
	at := m.count.byPeer.get(peerWay{mailer.DirectionEncrypt, peer}).lackedAt.Load()
	return at != 0 && now.Sub(time.Unix(0, at)) <= lackedFor
}

// checkKeys looks at the stock. It is known where the key manager answers for a
// peer at least. That it says 0 is no failure by itself: some make keys when they are
// asked for.
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
		stored := l.status.StoredKeys
		none := !l.status.OnDemand && stored != nil && *stored == 0
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
		if l.status.OnDemand || l.status.StoredKeys == nil {
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
		c.State, c.Found = StateFailed, "Its limits allow no one-time pad for "+names(noPad)+", and a rule asks for nothing else."
		c.Advice = `Set suite = "auto" or "aes-256-gcm" in that rule. Mail waits at its sender.`
	case len(without)+len(tooFew)+len(soon) > 0:
		c.State, c.Found, c.Advice = StateWarning, shortOfKeys(without, tooFew, soon), rate
		if len(tooFew) > 0 {
			c.Advice += " A smaller pad_limit takes fewer."
		}
		if len(without)+len(tooFew) > 0 {
			c.Advice += " Mail that has none waits at its sender."
		}
	case len(silent) > 0:
		c.State, c.Found = StateWarning, "The key manager says that it has none in stock for "+names(silent)+"."
		c.Advice = "If it makes keys when they are asked for, that is as it should be. " + rate
	case len(noPad) > 0:
		c.State, c.Found = StateWarning, "Its limits allow no one-time pad for "+names(noPad)+"; AES-256-GCM is taken."
		c.Advice = "Compare the limits in its status with docs/format.md."
	}
	return c, true
}

// shortOfKeys says which peers have no keys, which too few, and which have none
// soon.
func shortOfKeys(without, tooFew, soon []string) string {
	var found []string
	say := func(text string, peers []string) {
		if len(peers) > 0 {
			found = append(found, text+names(peers)+".")
		}
	}
	say("There are none for ", without)
	say("Too few for some messages to ", tooFew)
	say("They run out for ", soon)
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

func checkHops(f findings) Check {
	c := Check{Name: "next hop", State: StateOK, Found: "All can be reached."}
	var down []string
	for _, name := range slices.Sorted(maps.Keys(f.hops)) {
		if f.hops[name] != nil {
			down = append(down, name)
		}
	}
	if len(down) == 0 {
		return c
	}
	c.State, c.Found = StateWarning, "Can't be reached: "+names(down)+"."
	if len(down) == len(f.hops) {
		c.State = StateFailed
	}
	c.Advice = "Check the mail system behind the relay; the cause is in the log. Mail waits at its sender."
	return c
}

func (m *Monitor) checkStore(f findings) Check {
	stats := m.s.Store.Stats()
	switch {
	case f.store != nil:
		return Check{"store", StateFailed, "It can't be written.",
			"Check the disk or the server that it is on: space, permissions, health; the cause is in the log. Mail waits at its sender."}
	case stats.Waiting > 0:
		return Check{"store", StateWarning, fmt.Sprintf("%d keys could not be stored yet and live in memory only.", stats.Waiting),
			"Don't stop the relay. Check the disk or the server that the store is on."}
	}
	if warnings := m.storeWarnings(); len(warnings) > 0 {
		return Check{"store", StateWarning, "It can be written. But: " + strings.Join(warnings, "; ") + ".",
			"See docs/scaling.md for the server's settings. They are looked at with each new connection."}
	}
	return Check{"store", StateOK, "It can be written.", ""}
}

// storeWarnings is what is questionable about the server of the store.
func (m *Monitor) storeWarnings() []string {
	if m.s.StoreWarnings == nil {
		return nil
	}
	return m.s.StoreWarnings()
}

// names joins names for people.
func names(list []string) string {
	const most = 5
	if extra := len(list) - most; extra > 0 {
		list = append(slices.Clip(list[:most]), fmt.Sprintf("%d more", extra))
	}
	text := ""
	for i, name := range list {
		switch {
		case i == 0:
		case i == len(list)-1:
			text += " and "
		default:
			text += ", "
		}
		text += name
	}
	return text
}
