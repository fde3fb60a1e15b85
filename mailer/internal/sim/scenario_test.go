package sim

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/qkdmail/qkdmail/kmclient/keystore"
)

// A scenario is everything that follows from a seed before a run.
type scenario struct {
	Seed          uint64
	Days          int  // of mail and troubles; the queues drain after that
	Sites         int  // 2 or 3
	Nodes         int  // relays of each site, which share its store
	LMTP          bool // from the senders' queues to the relays
	LMTPHop       bool // from the wire to the relays, and on to the mailboxes
	Pool          bool
	Hybrid        bool   // with X-Wing keys
	SQLite        bool   // the stores are real files, whose disks have no troubles
	Opportunistic bool   // mail to maybe. may go in clear for want of keys
	Close         string // keystore.Policy
	Events        []event
}

// An event is something that happens, or the beginning of a trouble.
type event struct {
	At    time.Duration // from the start
	For   time.Duration // how long a trouble lasts, or a relay is down
	Kind  string
	Where string  // a site, a link, a relay, ...
	N     int     // the event's number: its random decisions follow from it
	P     float64 // how likely each thing is troubled
}

func (e event) String() string {
	text := fmt.Sprintf("%v %s %s #%d", e.At.Round(time.Second), e.Kind, e.Where, e.N)
	if e.P > 0 {
		text += fmt.Sprintf(" p=%.2f", e.P)
	}
	if e.For > 0 {
		text += fmt.Sprintf(" for %v", e.For.Round(time.Second))
	}
	return text
}

// soonClosed closes keys before mail systems give up: the first recipients of a message
// get it, the last ones may not.
const soonClosed = "after:1h"

func (sc *scenario) closing() keystore.Policy {
	p, err := keystore.ParsePolicy(sc.Close)
	if err != nil {
		panic(err)
	}
	return p
}

// troubles are what may go wrong for a while, by place. P says how often, up to most.
var troubles = []struct {
	kind  string
	where func(*scenario, *rand.Rand) string
	most  float64
}{
	{"cut", link, 0.8}, {"cut", link, 0.8}, {"silent", link, 0.5}, {"slow", link, 1}, {"down", link, 1}, {"lost", link, 0.6},
	{"moody", hop, 1}, {"moody", hop, 1}, {"full", box, 1},
	{"kme-lost", siteName, 0.6}, {"kme-error", siteName, 0.8}, {"kme-slow", siteName, 0.6}, {"lag", siteName, 1}, {"empty", siteName, 1},
	{"store-fail", siteName, 0.5}, {"store-unsure", siteName, 0.4}, {"store-slow", siteName, 0.5}, {"store-full", siteName, 1},
	{"wire", siteName, 0.9}, {"wire", siteName, 0.9},
}

func isTrouble(kind string) bool {
	for _, t := range troubles {
		if t.kind == kind {
			return true
		}
	}
	return false
}

// deeds are events that happen at one moment.
var deeds = []struct {
	kind  string
	where func(*scenario, *rand.Rand) string
}{
	{"kill", nodeName}, {"kill", nodeName}, {"kill", nodeName}, {"kill", nodeName}, {"stop", nodeName}, {"reload", siteName}, {"rotate", siteName}, {"certificate", siteName}, {"store-restore", siteName},
	{"kme-restart", siteName}, {"kme-restore", siteName},
	{"attack", attackKind}, {"attack", attackKind}, {"attack", attackKind},
}

func siteName(sc *scenario, r *rand.Rand) string { return siteNames[r.IntN(sc.Sites)] }
func nodeName(sc *scenario, r *rand.Rand) string {
	return fmt.Sprint(siteName(sc, r), 1+r.IntN(sc.Nodes))
}
func hop(sc *scenario, r *rand.Rand) string { return siteName(sc, r) + one(r, "-mta", "-box") }
func box(sc *scenario, r *rand.Rand) string { return siteName(sc, r) + "-box" }
func attackKind(_ *scenario, r *rand.Rand) string {
	return one(r, "flip", "truncate", "rubbish", "swap", "replay", "replay", "respell", "redirect", "redirect", "strip", "forge")
}

// link returns the link between two hosts, by their names. The MTA that connects to a
// relay is another site's.
func link(sc *scenario, r *rand.Rand) string {
	node := nodeName(sc, r)
	own := node[:1]
	other := siteNames[(slices.Index(siteNames, own)+1+r.IntN(sc.Sites-1))%sc.Sites]
	return one(r, own+"-queue>"+node, node+">"+own+"-mta", other+"-mta>"+node, other+"-mta>"+node, node+">"+own+"-box", node+">"+own+"-kme")
}

// newScenario makes the scenario of a seed. perDay is how many mails are sent per day.
func newScenario(seed uint64, days, perDay int) *scenario {
	r := dice(seed).about("scenario")
	sc := &scenario{
		Seed: seed, SQLite: seed%32 == 0, Days: days, Sites: one(r, 2, 2, 2, 3), Nodes: one(r, 1, 1, 2), LMTP: r.IntN(3) > 0, LMTPHop: r.IntN(3) == 0,
		Pool: r.IntN(3) > 0, Hybrid: r.IntN(3) == 0, Opportunistic: r.IntN(6) == 0, Close: one(r, "after:7d", "after:7d", "after:6d", soonClosed),
	}
	long := time.Duration(days) * 24 * time.Hour
	add := func(e event) {
		e.N = len(sc.Events) + 1
		sc.Events = append(sc.Events, e)
	}
	for range r.IntN(4 + 14*days) {
		t := troubles[r.IntN(len(troubles))]
		e := event{Kind: t.kind, Where: t.where(sc, r), At: between(r, 0, long), P: t.most * r.Float64()}
		e.For = min(time.Duration(float64(time.Minute)*float64(int(1)<<r.IntN(10))), long-e.At)
		add(e)
	}
	for range r.IntN(4 + 12*days) {
		d := deeds[r.IntN(len(deeds))]
		e := event{Kind: d.kind, Where: d.where(sc, r), At: between(r, 0, long), For: between(r, time.Second, 10*time.Minute)}
		if d.kind == "attack" && r.IntN(4) == 0 { // in forty days
			e.At += between(r, 0, 40*24*time.Hour)
		}
		add(e)
	}
	exciting := slices.Clone(sc.Events)
	for range days * perDay { // most of them while something happens
		at := between(r, 0, long)
		if len(exciting) > 0 && r.IntN(4) > 0 {
			e := exciting[r.IntN(len(exciting))]
			at = e.At%long + between(r, -time.Minute, max(e.For, time.Minute))
		}
		add(event{Kind: "mail", At: max(at, 0)})
	}
	addClocks(sc, add)
	addRepeats(sc, add)
	addDrains(sc, add)
	addReuses(sc, add)
	addLosses(sc, add)
	addUpgrades(sc, add)
	// A store and a key manager that are both set back could make a relay use a key
	// twice, as the manual says. Nothing here happens to a real file.
	unwanted := one(r, "store-restore", "store-restore", "store-restore", "kme-restore")
	sc.Events = slices.DeleteFunc(sc.Events, func(e event) bool {
		return e.Kind == unwanted || sc.SQLite && strings.HasPrefix(e.Kind, "store-")
	})
	slices.SortStableFunc(sc.Events, func(a, b event) int { return cmp.Compare(a.At, b.At) })
	return sc
}

// addClocks makes relays' clocks wrong for a while, in some scenarios, with mail that not
// everybody gets at once, and with restarts.
func addClocks(sc *scenario, add func(event)) {
	r := dice(sc.Seed).about("clocks")
	if r.IntN(3) > 0 {
		return
	}
	long := time.Duration(sc.Days) * 24 * time.Hour
	for range 1 + r.IntN(1+2*sc.Days) {
		e := event{Kind: "clock", Where: nodeName(sc, r), At: between(r, 0, long)}
		e.For = min(time.Duration(2<<r.IntN(5))*time.Hour, long-e.At)
		add(e)
		add(event{Kind: one(r, "moody", "full"), Where: e.Where[:1] + "-box", At: e.At, For: e.For, P: 0.5 + r.Float64()/2})
		for range 12 {
			add(event{Kind: "mail", At: e.At + between(r, 0, e.For)})
		}
		if r.IntN(4) == 0 {
			add(event{Kind: one(r, "kill", "stop"), Where: e.Where, At: e.At + between(r, 0, e.For), For: between(r, time.Second, 10*time.Minute)})
		}
	}
}

// wrongClock returns how far a clock is ahead: a time zone, a mistyped date, or an empty
// battery. By more than thirty days it stops all mail.
func wrongClock(r *rand.Rand) time.Duration {
	const day = 24 * time.Hour
	d := one(r, between(r, time.Minute, 3*time.Hour), between(r, 3*time.Hour, 2*day), between(r, 7*day, 30*day), between(r, 7*day, 30*day), between(r, 30*day, 400*day), 29*365*day)
	return one(r, d, d, -d)
}

// addRepeats makes a store fail for a while, in some scenarios, and adds mail that an
// attacker sends again.
func addRepeats(sc *scenario, add func(event)) {
	r := dice(sc.Seed).about("repeats")
	if r.IntN(4) > 0 {
		return
	}
	long := time.Duration(sc.Days) * 24 * time.Hour
	e := event{Kind: "store-fail", Where: siteName(sc, r), At: between(r, 0, long), P: 0.1 + 0.3*r.Float64()}
	e.For = min(between(r, time.Hour, 8*time.Hour), long-e.At)
	add(e)
	for range 10 {
		add(event{Kind: "mail", At: e.At + between(r, 0, e.For)})
		add(event{Kind: "attack", Where: "replay", At: e.At + between(r, 0, e.For)})
	}
}

// addDrains makes an attacker name very many keys, in some scenarios.
func addDrains(sc *scenario, add func(event)) {
	r := dice(sc.Seed).about("drains")
	if r.IntN(8) == 0 {
		add(event{Kind: "attack", Where: "drain", At: between(r, 0, time.Duration(sc.Days)*24*time.Hour)})
	}
}

// addReuses makes a site seal other messages under keys that it has used, in some
// scenarios.
func addReuses(sc *scenario, add func(event)) {
	r := dice(sc.Seed).about("reuses")
	if r.IntN(4) > 0 {
		return
	}
	for range 6 {
		add(event{Kind: "attack", Where: "reuse", At: between(r, 0, time.Duration(sc.Days+8)*24*time.Hour)})
	}
}

// addLosses makes a KME lose most of its answers for a while, in some scenarios.
func addLosses(sc *scenario, add func(event)) {
	r := dice(sc.Seed).about("losses")
	if r.IntN(4) > 0 {
		return
	}
	e := event{Kind: "kme-lost", Where: siteName(sc, r), At: between(r, 0, time.Duration(sc.Days)*24*time.Hour), For: between(r, time.Minute, 2*time.Hour), P: 0.5 + r.Float64()/2}
	add(e)
	for range 4 {
		add(event{Kind: "mail", At: e.At + between(r, 0, e.For)})
	}
}

// addUpgrades makes one site begin with X-Wing, in some scenarios, while mail is under way.
func addUpgrades(sc *scenario, add func(event)) {
	r := dice(sc.Seed).about("upgrades")
	if sc.Hybrid || r.IntN(3) > 0 {
		return
	}
	e := event{Kind: "upgrade", Where: siteName(sc, r), At: between(r, 0, time.Duration(sc.Days)*24*time.Hour), For: between(r, time.Second, 5*time.Minute)}
	add(e)
	for range 4 {
		add(event{Kind: "mail", At: max(e.At+between(r, -10*time.Minute, time.Hour), 0)})
	}
}

// has reports whether there is an event of a kind.
func (sc *scenario) has(kind string) bool {
	return slices.ContainsFunc(sc.Events, func(e event) bool { return e.Kind == kind })
}

// JSON returns the scenario as in a file of testdata/regressions.
func (sc *scenario) JSON() string {
	text, err := json.MarshalIndent(sc, "", " ")
	if err != nil {
		panic(err)
	}
	return string(text)
}
