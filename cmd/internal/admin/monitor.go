package admin

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/etsi014"
	"github.com/qkdmail/qkdmail/kmclient/keypool"
	"github.com/qkdmail/qkdmail/kmclient/keystore"
	"github.com/qkdmail/qkdmail/mailer"
	"github.com/qkdmail/qkdmail/mailer/relay/config"
)

// A KeyManager has a status for the link to each peer.
type KeyManager interface {
	Status(ctx context.Context, peer string) (kmclient.Status, error)
}

// NextHops checks which next hops can be reached, as [relay.Relay.CheckNextHops]
// does.
type NextHops interface {
	CheckNextHops(ctx context.Context) map[string]error
}

// A Store keeps keys; a [keystore.Store] is one.
type Store interface {
	Stats() keystore.Stats
	CheckStore(ctx context.Context) error
}

// Sources are what a Monitor watches.
type Sources struct {
	Config   *config.Config
	Keys     KeyManager
	NextHops NextHops
	Store    Store // nil: there is none
	// StoreWarnings returns warnings for people about the server that the store is
	// on; nil: there is no server.
	StoreWarnings func() []string

	Pool    func() keypool.Stats // nil: there is none
	KMEs    func() etsi014.Stats // nil: the key manager is another one
	Version string               // of the program
	Logger  *slog.Logger         // for checks that begin to fail, or pass again; may be nil
	Now     func() time.Time     // the clock; nil: time.Now
}

// A Monitor knows the state of a running relay. It is a [mailer.Observer].
type Monitor struct {
	s        Sources
	started  time.Time
	stopping atomic.Bool
	config   atomic.Pointer[config.Config]
	hybrid   atomic.Pointer[hybrid]
	notNew   atomic.Bool // there is a newer configuration, which can't be used
	reg      *prometheus.Registry
	count    *counters
	history  *history
	alarms   alarms
	doubts   chan struct{} // requests for checks, because the last ones may no longer hold

	mu       sync.Mutex
	found    findings
	forecast map[string]*forecast // by the peer's name
	failing  map[string]bool      // which checks were logged as failing, by what they are about
}

// New returns a Monitor, which knows nothing until Run is called.
func New(s Sources) *Monitor {
	if s.Logger == nil {
		s.Logger = slog.New(slog.DiscardHandler)
	}
	if s.Now == nil {
		s.Now = time.Now
	}
	reg := prometheus.NewRegistry()
	m := &Monitor{
		s: s, started: s.Now(), reg: reg, count: newCounters(reg), history: newHistory(),
		forecast: map[string]*forecast{}, failing: map[string]bool{}, doubts: make(chan struct{}, 1),
	}
	m.hybrid.Store(new(hybrid))
	m.registerFigures()
	m.Reload(s.Config)
	return m
}

// Reload gives the monitor the relay's new configuration, and reads its X-Wing keys.
func (m *Monitor) Reload(cfg *config.Config) {
	m.config.Store(cfg)
	m.count.expect(cfg)
	m.notNew.Store(false)
	if h, err := hybridOf(cfg); err != nil { // a file has changed since the relay read it, and the relay will try again
		m.s.Logger.Warn("the status page does not have the X-Wing keys in force", "cause", err.Error())
	} else {
		m.hybrid.Store(h)
	}
}

// NotReloaded tells the monitor that the relay has found a new configuration, or new
// files for it, that it can't use.
func (m *Monitor) NotReloaded() { m.notNew.Store(true) }

// Message counts a message, and learns from one that was refused.
func (m *Monitor) Message(r mailer.Report) {
	m.count.count(r, m.s.Now())
	m.doubt(r)
}

const (
	checkEvery   = 30 * time.Second
	checkTimeout = 10 * time.Second // of a round of checks
	noteEvery    = 5 * time.Second
)

// Run makes the checks until ctx ends. After that the relay is not ready.
func (m *Monitor) Run(ctx context.Context) {
	check, note := time.NewTicker(checkEvery), time.NewTicker(noteEvery)
	defer check.Stop()
	defer note.Stop()
	m.check(ctx)
	doubts := m.doubts
	for {
		select {
		case <-ctx.Done():
			m.stopping.Store(true)
			return
		case <-check.C:
			m.check(ctx)
		case <-doubts:
			m.check(ctx)
			doubts = nil // until the next note: a key manager may have a status and no keys
		case <-note.C:
			m.note()
			doubts = m.doubts
		}
	}
}

// note adds what was counted to the history.
func (m *Monitor) note() {
	now := m.s.Now()
	m.history.note(now, totals{m.count.delivered.Load(), m.count.deferred.Load(), m.count.refused.Load()})
	m.alarms.note(now, m.alarmsOf(m.storeStats()))
}
