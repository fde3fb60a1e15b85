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

// The states, from good to bad. A check fails if nothing works; if a part works it
// is a warning, since mail flows there.
const (
	StateOK      State = "ok"
	StateWarning State = "warning"
	StateFailed  State = "failed"
)

// A Check says whether one of the things that mail needs works. All its texts come
// from this program.
type Check struct {
	Name   string `json:"name"`
	State  State  `json:"state"`
	Found  string `json:"found"`
	Advice string `json:"advice,omitempty"`
}

// findings are the results of one round of checks.
type findings struct {
	at     time.Time // zero: nothing was checked yet
	peers  map[string]link
	hops   map[string]error
	store  error
	expiry map[string]time.Time // of certificates
}

// A link is the key manager's status with a peer.
type link struct {
	status kmclient.Status
	err    error
}

// hasStock reports whether the key manager says how many keys it has in stock.
func (l link) hasStock() bool {
	return l.err == nil && !l.status.OnDemand && l.status.StoredKeys != nil
}

// connections returns how the key managers were last reached, in the order of their
// addresses.
func (f findings) connections() []kmclient.Connection {
	found := map[string]kmclient.Connection{}
	for _, l := range f.peers {
		for _, c := range l.status.Connections {
			found[c.KME] = c
		}
	}
	return slices.SortedFunc(maps.Values(found), func(a, b kmclient.Connection) int { return strings.Compare(a.KME, b.KME) })
}

// lastFound returns the results of the last round of checks. They no longer change.
func (m *Monitor) lastFound() findings {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.found
}

// check checks everything that mail needs.
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
		return // the checks failed because of that
	}
	found.at = m.s.Now()

	m.mu.Lock()
	defer m.mu.Unlock()
	m.found = found
	maps.DeleteFunc(m.forecast, func(name string, _ *forecast) bool { _, ok := found.peers[name]; return !ok })
	for name, l := range found.peers {
		if !l.hasStock() {
			continue
		}
		if m.forecast[name] == nil {
			m.forecast[name] = &forecast{}
		}
		m.forecast[name].add(point{found.at, *l.status.StoredKeys, m.keysUsed(name)})
	}
	m.log(found)
}

// askPeers asks the key manager about all peers, a few at a time.
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

// log logs which checks have begun to fail and which pass again, but not changes in
// an error's text. mu must be held.
func (m *Monitor) log(f findings) {
	note := func(about, name string, err error) {
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
		note("key manager", name, l.err)
	}
	for name, err := range f.hops {
		note("next hop", name, err)
	}
	note("store", "", f.store)
}

// Checks returns the last results for the key manager, the keys, the next hops
// and the store.
func (m *Monitor) Checks() []Check {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.s.Now()
	f := m.found
	if f.at.IsZero() {
		return []Check{{"start", StateFailed, "The checks have just begun.", "Ask again in a few seconds."}}
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
	if c, wrong := m.hybrid.Load().check(now); wrong {
		checks = append(checks, c)
	}
	if m.notNew.Load() {
		checks = append(checks, Check{"configuration", StateWarning, "It has changed, or an X-Wing key file has, and the new one can't be used. The old one stays in force.",
			"The cause is in the log; qkdmail relay --check shows it too."})
	}
	if m.stopping.Load() {
		return append(checks, Check{"stop", StateFailed, "The relay is stopping.", "It accepts no new messages and finishes those under way."})
	}
	if age := now.Sub(f.at); age > 3*checkEvery {
		checks = append(checks, Check{"checks", StateFailed, fmt.Sprintf("Nothing was checked for %v.", age.Round(time.Second)),
			"The machine may be overloaded or may have been suspended."})
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

// linkProblem says what is wrong with a key manager, without quoting it.
func linkProblem(err error) string {
	switch {
	case errors.Is(err, kmclient.ErrRefused):
		return "It refuses this client"
	case errors.Is(err, kmclient.ErrUnavailable):
		return "It can't be reached or is out of service"
	case errors.Is(err, kmclient.ErrBadAnswer):
		return "Its answer violates its protocol"
	}
	return "It gives no status"
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
	c.Advice = "Check the mail system after the relay; the cause is in the log. Mail waits at its sender."
	return c
}

func (m *Monitor) checkStore(f findings) Check {
	stats := m.s.Store.Stats()
	switch {
	case f.store != nil:
		return Check{"store", StateFailed, "It can't be written to.",
			"Check the disk or the server that it is on: space, permissions, health; the cause is in the log. Mail waits at its sender."}
	case stats.Waiting > 0:
		return Check{"store", StateWarning, fmt.Sprintf("%d keys could not be stored yet and are in memory only.", stats.Waiting),
			"Don't stop the relay. Check the disk or the server that the store is on."}
	}
	if warnings := m.storeWarnings(); len(warnings) > 0 {
		return Check{"store", StateWarning, "It can be written to, but: " + strings.Join(warnings, "; ") + ".",
			"See docs/scaling.md for the server's settings. They are checked with each new connection."}
	}
	return Check{"store", StateOK, "It can be written to.", ""}
}

// storeWarnings returns the warnings about the server of the store.
func (m *Monitor) storeWarnings() []string {
	if m.s.StoreWarnings == nil {
		return nil
	}
	return m.s.StoreWarnings()
}

// names joins a list of names into a phrase.
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
