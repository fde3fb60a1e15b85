package admin

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/keystore"
	"github.com/qkdmail/qkdmail/mailer"
)

// A view is what the page shows.
type view struct {
	Host, Version string
	Now, Started  time.Time
	Overall       State
	Headline      string
	Problems      []Check
	NoPeer        bool // none is configured
	Peers         []peerView
	Connections   []kmclient.Connection // to the key managers
	Keys          []keyView
	Hour, Day     chart
	Refusals      []refusalView
	Store         *keystore.Stats
	Alarms        []alarm
	AlarmAt       time.Time // zero: none yet
	Settings      []settings
}

// A peerView is a row of the peers.
type peerView struct {
	Name                 string
	Link                 State
	LinkText             string
	Stock                string // keys
	Used                 string // keys an hour
	Lasts                string // how long the stock lasts
	LastsState           State
	Hybrid               string // in which direction
	Encrypted, Decrypted int64
}

// A refusalView is a row of the latest refusals: those with the same direction,
// peer and reason. At is the time of the last one.
type refusalView struct {
	refusal
	Times         int
	Means, Advice string
}

// maxRows is how many kinds of refusals the page shows.
const maxRows = 12

// alarmFor is how long an alarm is shown as a problem.
const alarmFor = 24 * time.Hour

// view returns what the page shows now.
func (m *Monitor) view() *view {
	m.note()
	cfg := m.config.Load()
	now, h := m.s.Now().UTC(), m.hybrid.Load()
	v := &view{
		Host: cfg.Hostname, Version: m.s.Version, Now: now, Started: m.started.UTC(),
		NoPeer: len(cfg.Peers) == 0, Peers: m.peerViews(), Connections: m.lastFound().connections(), Keys: h.views(now),
		AlarmAt: m.alarms.lastSeen().UTC(), Settings: settingsOf(cfg, h),
	}
	hour, day := m.history.series(now)
	v.Hour = newChart("hour", "Last hour", "by the minute", "a minute", "15:04", hour)
	v.Day = newChart("day", "Last day", "by ten minutes", "ten minutes", "02 Jan 15:04", day)
	for _, c := range m.Checks() {
		if c.State != StateOK {
			v.Problems = append(v.Problems, c)
		}
	}
	s := m.storeStats()
	if m.s.Store != nil {
		v.Store = &s
	}
	v.Alarms = m.alarmsOf(s)
	if !v.AlarmAt.IsZero() && now.Sub(v.AlarmAt) < alarmFor {
		v.Problems = append(v.Problems, alarmCheck(v.Alarms))
	}
	slices.SortStableFunc(v.Problems, func(a, b Check) int { return cmp.Compare(gravity(b.State), gravity(a.State)) })
	v.Overall, v.Headline = overall(v.Problems)
	v.Refusals = refusalViews(m.count.latest.list())
	return v
}

// refusalViews groups refusals, which are in order, the newest first.
func refusalViews(list []refusal) []refusalView {
	reasons := map[string]mailer.Reason{}
	for _, r := range mailer.Reasons() {
		reasons[r.Name] = r
	}
	var views []refusalView
	for _, r := range list {
		same := func(v refusalView) bool {
			return v.Direction == r.Direction && v.Peer == r.Peer && v.Reason == r.Reason && v.Final == r.Final
		}
		if i := slices.IndexFunc(views, same); i >= 0 {
			views[i].Times++
		} else if len(views) < maxRows {
			r.At = r.At.UTC()
			views = append(views, refusalView{r, 1, reasons[r.Reason].Means, reasons[r.Reason].Advice})
		}
	}
	return views
}

func gravity(s State) int { return slices.Index([]State{StateOK, StateWarning, StateFailed}, s) }

// overall returns the state of the relay, and a headline for it.
func overall(problems []Check) (State, string) {
	if len(problems) == 0 {
		return StateOK, "Mail flows"
	}
	headline := "Mail flows, but something needs your attention"
	for _, c := range problems {
		if c.State != StateFailed {
			continue
		}
		if headline = otherwise(c.Name); headline == "" {
			return StateFailed, "Mail waits"
		}
	}
	return StateWarning, headline
}

// otherwise returns the headline for a failed check with which mail may flow all
// the same, or "".
func otherwise(check string) string {
	switch check {
	case "start":
		return "The relay has just started"
	case "stop":
		return "The relay is stopping"
	case "checks":
		return "It is not known whether mail flows"
	}
	return ""
}

func (m *Monitor) peerViews() []peerView {
	m.mu.Lock()
	defer m.mu.Unlock()
	encrypted := m.encryptedFor()
	var views []peerView
	for _, name := range slices.Sorted(maps.Keys(m.found.peers)) {
		l := m.found.peers[name]
		v := peerView{
			Name: name, Link: StateOK, LinkText: "Up", Stock: "not known", Used: "not known yet", Lasts: "not known yet", LastsState: StateOK,
			Encrypted: m.count.byPeer.get(peerWay{mailer.DirectionEncrypt, name}).delivered.Load(),
			Decrypted: m.count.byPeer.get(peerWay{mailer.DirectionDecrypt, name}).delivered.Load(),
			Hybrid:    m.hybrid.Load().peers[name].text(),
		}
		if used, known := m.perHour(name); known {
			v.Used = grouped(int64(used+.5)) + " an hour"
		}
		switch {
		case l.err != nil:
			v.Link, v.LinkText, v.Lasts = StateFailed, "Down: "+linkProblem(l.err), "not known"
		case l.status.OnDemand:
			v.Stock, v.Lasts = "made on demand", "as long as the link"
		case l.status.StoredKeys != nil:
			m.stockView(&v, *l.status.StoredKeys, slices.Contains(encrypted, name))
		}
		views = append(views, v)
	}
	return views
}

// perHour returns how many keys messages for a peer take per hour. mu must be
// held.
func (m *Monitor) perHour(peer string) (keys float64, known bool) {
	if f := m.forecast[peer]; f != nil {
		return f.perHour()
	}
	return 0, false
}

// stockView says how many keys there are and how long they last. mu must be held.
func (m *Monitor) stockView(v *peerView, stock int, needed bool) {
	v.Stock = grouped(int64(stock))
	f := m.forecast[v.Name]
	left, falls, known := f.lasts()
	switch {
	case stock == 0 && !m.lacked(v.Name, m.s.Now()):
		v.Lasts = "none in stock"
		if needed {
			v.LastsState = StateWarning
		}
	case stock == 0:
		v.Lasts = "none left"
		if needed {
			v.LastsState = StateFailed
		}
	case m.lacked(v.Name, m.s.Now()) && (!falls || left >= runningOut):
		v.Lasts, v.LastsState = "too few for some messages", StateWarning
	case known && !falls:
		v.Lasts = "the stock does not fall"
	case known:
		v.Lasts = "about " + roughly(left)
		if left < runningOut && needed {
			v.LastsState = StateWarning
		}
	}
}
