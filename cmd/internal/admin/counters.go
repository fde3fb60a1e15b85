package admin

import (
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/qkdmail/qkdmail/cipher"
	"github.com/qkdmail/qkdmail/mailer"
	"github.com/qkdmail/qkdmail/mailer/relay/config"
)

// none is the value of a label where there is no peer, suite or TLS. It is not a valid
// name of a peer.
const none = "(none)"

// noKeyLeft is the reason for a refusal when there are too few keys for a message.
const noKeyLeft = "no key left"

// counters count messages. Counting takes no lock.
type counters struct {
	messages, refusals, keysUsed      *prometheus.CounterVec
	size, total, keyWait, nextHopWait *prometheus.HistogramVec

	byKind   *cache[kind, prometheus.Counter]
	byReason *cache[refusedFor, prometheus.Counter]
	byPeer   *cache[peerWay, *peerCounts]
	byWay    *cache[mailer.Direction, *wayCounts]

	delivered, deferred, refused atomic.Int64 // for the charts; they include refused commands
	redirected                   atomic.Int64 // messages for a recipient that they are not sealed for
	latest                       latest
}

// Messages of each kind are counted separately.
type kind struct {
	direction mailer.Direction
	peer      string
	suite     cipher.Suite
	outcome   mailer.Outcome
}

type refusedFor struct {
	direction    mailer.Direction
	peer, reason string
}

type peerWay struct {
	direction mailer.Direction
	peer      string
}

// peerCounts are what the page shows for a peer and a direction.
type peerCounts struct {
	keys      prometheus.Counter
	keysUsed  atomic.Int64
	delivered atomic.Int64
	lackedAt  atomic.Int64 // when a message was last refused for noKeyLeft, in Unix nanoseconds; 0: never
}

// wayCounts are the distributions of a direction.
type wayCounts struct{ size, total, keyWait, nextHopWait prometheus.Observer }

func newCounters(reg *prometheus.Registry) *counters {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
		reg.MustRegister(v)
		return v
	}
	histogram := func(name, help string, buckets []float64) *prometheus.HistogramVec {
		v := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, []string{"direction"})
		reg.MustRegister(v)
		return v
	}
	seconds := []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300}
	c := &counters{
		messages: counter("qkdmail_messages_total", "Messages answered; each group of recipients with the same rule counts as one.", "direction", "peer", "suite", "outcome"),
		refusals: counter("qkdmail_refusals_total", "Messages, senders and recipients that were refused or deferred.", "direction", "peer", "reason"),
		keysUsed: counter("qkdmail_keys_used_total", "Keys that messages were encrypted or decrypted with.", "direction", "peer"),
		size:     histogram("qkdmail_message_size_bytes", "Size of messages as received.", prometheus.ExponentialBuckets(1<<10, 4, 11)),
		total:    histogram("qkdmail_message_duration_seconds", "Time from MAIL to the reply to the message, including the client's own time.", seconds),
		keyWait:  histogram("qkdmail_key_fetch_duration_seconds", "How long a message waited for the key manager and the store.", seconds),
		nextHopWait: histogram("qkdmail_next_hop_duration_seconds",
			"How long a message waited for the next hop's reply after the final dot.", seconds),
	}
	c.byKind = newCache(func(k kind) prometheus.Counter {
		return c.messages.WithLabelValues(string(k.direction), k.peer, string(k.suite), string(k.outcome))
	})
	c.byReason = newCache(func(r refusedFor) prometheus.Counter {
		return c.refusals.WithLabelValues(string(r.direction), r.peer, r.reason)
	})
	c.byPeer = newCache(func(p peerWay) *peerCounts {
		return &peerCounts{keys: c.keysUsed.WithLabelValues(string(p.direction), p.peer)}
	})
	c.byWay = newCache(func(d mailer.Direction) *wayCounts {
		return &wayCounts{
			size: c.size.WithLabelValues(string(d)), total: c.total.WithLabelValues(string(d)),
			keyWait: c.keyWait.WithLabelValues(string(d)), nextHopWait: c.nextHopWait.WithLabelValues(string(d)),
		}
	})
	return c
}

// suiteOf returns the suite if it is known, otherwise none.
func suiteOf(s cipher.Suite) cipher.Suite {
	if slices.Contains(cipher.Suites(), s) {
		return s
	}
	return none
}

// expect creates the counters that will be needed sooner or later: a rate has to begin
// at zero.
func (c *counters) expect(cfg *config.Config) {
	for _, l := range cfg.Listeners {
		d := l.Direction
		c.byWay.get(d)
		done := mailer.OutcomeEncrypted
		if d == mailer.DirectionDecrypt {
			done = mailer.OutcomeDecrypted
		}
		for _, p := range cfg.Peers {
			c.byPeer.get(peerWay{d, p.Name})
			if d == mailer.DirectionEncrypt {
				c.byKind.get(kind{d, p.Name, none, mailer.OutcomeInClear})
				c.byReason.get(refusedFor{d, p.Name, noKeyLeft})
			}
			for _, suite := range cipher.Suites() {
				c.byKind.get(kind{d, p.Name, suite, done})
			}
		}
		for _, r := range mailer.Reasons() {
			c.byReason.get(refusedFor{d, none, r.Name})
		}
	}
}

// count counts a message.
func (c *counters) count(r mailer.Report, now time.Time) {
	peer := r.Peer
	if peer == "" {
		peer = none
	}
	if r.Command == "" {
		c.byKind.get(kind{r.Direction, peer, suiteOf(r.Suite), r.Outcome}).Inc()
		c.distribute(r)
	}
	switch r.Outcome {
	case mailer.OutcomeDeferred:
		c.deferred.Add(1)
	case mailer.OutcomeRefused:
		c.refused.Add(1)
	case mailer.OutcomeBefore:
		return // it was counted when it was delivered
	default:
		c.delivered.Add(1)
		p := c.byPeer.get(peerWay{r.Direction, peer})
		p.delivered.Add(1)
		c.use(p, r.Keys)
		return
	}
	c.byReason.get(refusedFor{r.Direction, peer, r.Reason}).Inc()
	if r.Reason == redirected {
		c.redirected.Add(1)
	}
	if r.Direction == mailer.DirectionEncrypt { // its keys are used up all the same
		p := c.byPeer.get(peerWay{r.Direction, peer})
		c.use(p, r.Keys)
		if r.Reason == noKeyLeft {
			p.lackedAt.Store(now.UnixNano())
		}
	}
	c.latest.add(refusal{At: now, Direction: r.Direction, Peer: peer, Reason: r.Reason, Final: r.Outcome == mailer.OutcomeRefused})
}

func (c *counters) use(p *peerCounts, keys int) {
	p.keysUsed.Add(int64(keys))
	p.keys.Add(float64(keys))
}

func (c *counters) distribute(r mailer.Report) {
	w := c.byWay.get(r.Direction)
	w.size.Observe(float64(r.Size))
	w.total.Observe(r.Total.Seconds())
	if r.KeyWait > 0 {
		w.keyWait.Observe(r.KeyWait.Seconds())
	}
	if r.HopWait > 0 {
		w.nextHopWait.Observe(r.HopWait.Seconds())
	}
}

// A refusal is one of the latest.
type refusal struct {
	At        time.Time
	Direction mailer.Direction
	Peer      string
	Reason    string
	Final     bool // 5xx
}

// latest holds the last refusals. Adding takes no lock.
type latest struct {
	next  atomic.Uint64
	slots [latestKept]atomic.Pointer[refusal]
}

const latestKept = 100

func (l *latest) add(r refusal) { l.slots[(l.next.Add(1)-1)%latestKept].Store(&r) }

// list returns the refusals, newest first.
func (l *latest) list() []refusal {
	var all []refusal
	next := l.next.Load()
	for i := range uint64(latestKept) {
		if i >= next {
			break
		}
		if r := l.slots[(next-1-i)%latestKept].Load(); r != nil {
			all = append(all, *r)
		}
	}
	return all
}
