package sim

import (
	"bytes"
	"slices"
	"sync"
	"time"
)

// A ledger records what can be seen from outside the relays: what senders sent, what
// crossed the wire, what mailboxes got, and what may excuse that something happened twice
// or not at all.
type ledger struct {
	w *world

	mu       sync.Mutex
	mails    map[int]*mail
	outcomes map[person]*outcome
	crossing []*crossing
	arrivals []*arrival
	alarms   []alarm
	attacks  []*attack

	taken    map[message][]time.Time // when a relay answered 250 to the wire
	tampered map[person]bool         // mails that an attacker changed on the way
	emptied  map[*site][]time.Time   // when a KME had no keys
	failures map[*site][]time.Time   // when a store failed
	deaths   map[*site][]time.Time   // when a relay was killed or stopped
	copied   map[string]bool         // first keys of messages that an attacker has sent again
	gaps     map[*site][]gap         // what restored stores do not know
	named    map[string][]time.Time  // when an attacker began to name a key
	clocks   map[*site][]time.Time   // when a clock was set
	misled   map[*site][]time.Time   // when a relay started while its clock was wrong

	handings   map[string][]*handing // by the relay's IP address
	keyAnswers map[keyRequest][]keyAnswer
}

// A person is one recipient of one mail.
type person struct {
	number int
	rcpt   string
}

// An outcome is what became of a mail for a person.
type outcome struct {
	unanswered int // the sender's queue's attempts whose answer was lost
	sealed     []*taken
	refused    bool // by a next hop
	bounces    []bounce
}

// A bounce is what a queue told a sender, and when.
type bounce struct {
	reply
	at time.Time
}

// bouncedBefore reports whether the mail had bounced by then.
func (o *outcome) bouncedBefore(at time.Time) bool {
	return slices.ContainsFunc(o.bounces, func(b bounce) bool { return b.at.Before(at) })
}

// A message is an encrypted message for one recipient, by its first key.
type message struct{ keyID, rcpt string }

// A crossing is as much of a message as an MTA got from a relay: others may have seen it.
type crossing struct {
	*ciphertext
	site      *site
	rcpts     []string
	began     time.Time // when the relay began to send it
	at        time.Time // when the last of it came
	unclaimed []string  // its keys whose use was not on disk when they came
}

// An arrival is a message that a mailbox's mail system took.
type arrival struct {
	*taken
	site     *site
	unstored []string // its keys that were not on disk by then
}

// An alarm is an alarm= entry in a relay's log.
type alarm struct {
	kind string
	ids  []string
	site *site
	text string
	at   time.Time
}

func newLedger(w *world) *ledger {
	return &ledger{
		w: w, mails: map[int]*mail{}, copied: map[string]bool{}, gaps: map[*site][]gap{}, taken: map[message][]time.Time{}, outcomes: map[person]*outcome{}, tampered: map[person]bool{},
		emptied: map[*site][]time.Time{}, failures: map[*site][]time.Time{}, deaths: map[*site][]time.Time{}, named: map[string][]time.Time{},
		clocks: map[*site][]time.Time{}, misled: map[*site][]time.Time{}, handings: map[string][]*handing{}, keyAnswers: map[keyRequest][]keyAnswer{},
	}
}

// of returns the outcome for a person; l.mu must be held.
func (l *ledger) of(rcpt string) *outcome {
	p := person{numberOf(rcpt), rcpt}
	if l.outcomes[p] == nil {
		l.outcomes[p] = &outcome{}
	}
	return l.outcomes[p]
}

func (l *ledger) lock() func() {
	l.mu.Lock()
	return l.mu.Unlock
}

// sent notes a mail that a queue has taken from its sender.
func (l *ledger) sent(m *mail) {
	defer l.lock()()
	l.mails[m.number] = m
	for _, rcpt := range m.rcpts {
		l.of(rcpt)
	}
}

// mailOf returns the mail that has this recipient, nil if there is none.
func (l *ledger) mailOf(rcpt string) *mail {
	defer l.lock()()
	return l.mails[numberOf(rcpt)]
}

// answered notes that a relay has answered 250 to a queue.
func (l *ledger) answered(q *queue, e *entry, rcpt string) {
	if c := readCiphertext(e.data); q.onTheWire != nil && len(c.ids) > 0 {
		defer l.lock()()
		m := message{c.ids[0], rcpt}
		l.taken[m] = append(l.taken[m], time.Now())
	}
}

// unanswered notes that a queue sent a message and got no answer.
func (l *ledger) unanswered(q *queue, rcpt string) {
	defer l.lock()()
	if q.onTheWire == nil {
		l.of(rcpt).unanswered++
	}
}

// bounced notes that a queue gave up, and told the sender why.
func (l *ledger) bounced(e *entry, rcpt string, why reply) {
	l.w.tracef("%s bounces for %s: %v", e.name, rcpt, why)
	defer l.lock()()
	l.of(rcpt).bounces = append(l.of(rcpt).bounces, bounce{why, time.Now()})
}

// refused notes that a next hop refuses a message for a recipient.
func (l *ledger) refused(rcpt string) {
	defer l.lock()()
	l.of(rcpt).refused = true
}

// begins notes that a relay begins to send a message to an MTA.
func (l *ledger) begins(s *site, rcpts []string) *crossing {
	now := time.Now()
	c := &crossing{ciphertext: &ciphertext{}, site: s, rcpts: rcpts, began: now, at: now}
	defer l.lock()()
	l.crossing = append(l.crossing, c)
	return c
}

// crossed notes how much an MTA has got of a message by now.
func (l *ledger) crossed(c *crossing, data []byte) {
	now := readCiphertext(data)
	defer l.lock()()
	for _, id := range now.ids[len(c.ids):] {
		if !c.site.has("claim", id) {
			c.unclaimed = append(c.unclaimed, id)
		}
	}
	c.ciphertext, c.at = now, time.Now()
}

// sealed notes that an MTA took a message from a relay, and returns how many times it has
// taken that mail for the first of these recipients.
func (l *ledger) sealed(s *site, m *mail, t *taken) (times int) {
	defer l.lock()()
	for _, rcpt := range t.rcpts {
		l.of(rcpt).sealed = append(l.of(rcpt).sealed, t)
	}
	l.w.tracef("%s-mta takes %v for %v", s.name, m, t.rcpts)
	return len(l.of(t.rcpts[0]).sealed)
}

// arrived notes that a message has reached mailboxes.
func (l *ledger) arrived(s *site, t *taken) {
	defer l.lock()()
	a := &arrival{taken: t, site: s}
	for _, id := range l.keysOf(t.keyID()) {
		if !s.has("receive", id) {
			a.unstored = append(a.unstored, id)
		}
	}
	l.arrivals = append(l.arrivals, a)
	l.w.tracef("%s-box takes %s for %v", s.name, t.keyID(), t.rcpts)
}

// isAttackers reports whether a message came from the attacker, by the relay's trace field.
func (t *taken) isAttackers() bool { return bytes.Contains(t.data, []byte("(["+attackerIP+"])")) }

// keysOf returns all keys of the message whose first key this is, "" for none; l.mu must
// be held.
func (l *ledger) keysOf(first string) []string {
	for _, c := range l.crossing {
		if len(c.ids) > 0 && c.ids[0] == first {
			return c.ids
		}
	}
	return nil
}

// relay returns the name of the relay that a message came from.
func (t *taken) relay() string {
	_, rest, _ := bytes.Cut(t.data, []byte("Qkdmail-Result: "))
	name, _, _ := bytes.Cut(rest, []byte(";"))
	return string(name)
}

// attacked notes an attack.
func (l *ledger) attacked(a *attack) {
	defer l.lock()()
	l.attacks = append(l.attacks, a)
	if !a.changed && len(a.ids) > 0 {
		l.copied[a.ids[0]] = true
	}
	for _, id := range a.ids {
		l.named[id] = append(l.named[id], a.began)
	}
}

// spoiled notes a mail that an attacker changed on its way.
func (l *ledger) spoiled(rcpts []string) {
	defer l.lock()()
	for _, rcpt := range rcpts {
		l.tampered[person{numberOf(rcpt), rcpt}] = true
	}
}

// opened returns the IDs of the keys of all messages that have reached mailboxes of a site.
func (l *ledger) opened(s *site) map[string]bool {
	defer l.lock()()
	first, ids := map[string]bool{}, map[string]bool{}
	for _, a := range l.arrivals {
		if a.site == s {
			first[a.keyID()] = true
		}
	}
	for _, c := range l.crossing {
		if len(c.ids) > 0 && first[c.ids[0]] {
			for _, id := range c.ids {
				ids[id] = true
			}
		}
	}
	return ids
}

// keyID returns the key ID that a relay has written above a message, "" for none.
func (t *taken) keyID() string {
	header, _, _ := bytes.Cut(t.data, []byte("Received:"))
	_, rest, found := bytes.Cut(header, []byte("key-id="))
	if !found {
		return ""
	}
	id, _, _ := bytes.Cut(rest, []byte("\r\n"))
	id, _, _ = bytes.Cut(id, []byte(";"))
	return string(id)
}

func (l *ledger) exhausted(s *site)   { l.note(l.emptied, s) }
func (l *ledger) storeFailed(s *site) { l.note(l.failures, s) }
func (l *ledger) ended(s *site)       { l.note(l.deaths, s) }
func (l *ledger) clockSet(s *site)    { l.note(l.clocks, s) }

// startedWrong notes that a relay started while its clock was wrong, and so believes it.
func (l *ledger) startedWrong(s *site) { l.note(l.misled, s) }

func (l *ledger) note(where map[*site][]time.Time, s *site) {
	defer l.lock()()
	where[s] = append(where[s], time.Now())
}

// A gap is a time that a store knows nothing about.
type gap struct{ from, to time.Time }

// setBack notes that a site's store has been set back to an earlier moment.
func (l *ledger) setBack(s *site, since time.Time) {
	l.w.tracef("the store of site %s is that of %v ago", s.name, time.Since(since))
	defer l.lock()()
	l.gaps[s] = append(l.gaps[s], gap{since, time.Now()})
}

// inGap reports whether a site's store knows nothing about a moment; l.mu must be held.
func (l *ledger) inGap(s *site, at time.Time) bool {
	return slices.ContainsFunc(l.gaps[s], func(g gap) bool { return !at.Before(g.from) && !at.After(g.to) })
}

// isBound reports whether a message has reached a mailbox of a site under this first key,
// and the site's store knows that and will not be set back.
func (l *ledger) isBound(to *site, id string) bool {
	if to.hasBackups() {
		return false
	}
	defer l.lock()()
	return slices.ContainsFunc(l.arrivals, func(a *arrival) bool {
		forgotten := func(g gap) bool { // a message may arrive when the relay that sent it has been stopped
			return !a.at.Before(g.from) && a.at.Before(g.to.Add(20*time.Minute))
		}
		return a.site == to && a.keyID() == id && !slices.ContainsFunc(l.gaps[to], forgotten)
	})
}

// near reports whether any of the moments is in a span of time; l.mu must be held.
func near(moments []time.Time, from, to time.Time) bool {
	for _, at := range moments {
		if !at.Before(from) && !at.After(to) {
			return true
		}
	}
	return false
}

// before reports whether any of the moments was by then; l.mu must be held.
func before(moments []time.Time, at time.Time) bool { return near(moments, time.Time{}, at) }

// alarmed notes an alarm of a relay.
func (l *ledger) alarmed(a alarm) {
	l.w.tracef("alarm at site %s: %s", a.site.name, a.text)
	l.w.count("alarm: " + a.kind)
	defer l.lock()()
	a.at = time.Now()
	l.alarms = append(l.alarms, a)
}
