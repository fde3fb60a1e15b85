package sim

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// A queue is a mail system's queue: it tries again until each recipient has a final
// answer, as Postfix does.
type queue struct {
	w       *world
	host    *host
	targets []string // addresses, any of which will do
	lmtp    bool
	// onTheWire is called before each transaction, and may change it; may be nil.
	onTheWire func(e *entry, number int, d *delivery)

	work sync.WaitGroup
}

// Postfix's times: minimal_backoff_time, maximal_backoff_time, maximal_queue_lifetime.
const (
	firstBackoff = 300 * time.Second
	lastBackoff  = 4000 * time.Second
	lifetime     = 5 * 24 * time.Hour

	mostJitter = time.Minute // between the times at which it looks at its queue
)

// An entry is a message in a queue.
type entry struct {
	mail  *mail
	name  string // for dice and traces
	from  string
	data  []byte
	since time.Time
	left  []string // recipients
	tries int
	last  map[string]reply // answers, by recipient

	targets []string // nil: the queue's
}

// add puts a message into the queue, and begins to deliver it.
func (q *queue) add(e *entry) {
	e.since, e.last = time.Now(), map[string]reply{}
	q.work.Go(func() {
		for q.try(e); len(e.left) > 0; q.try(e) {
			age := time.Since(e.since)
			if age > lifetime {
				q.giveUp(e)
				return
			}
			pause := min(max(age, firstBackoff), lastBackoff)
			time.Sleep(pause + between(q.w.dice.about("backoff", e.name, e.tries), 0, mostJitter))
		}
		q.checkLeft(e)
	})
}

// giveUp tells the sender that a message has waited for too long.
func (q *queue) giveUp(e *entry) {
	q.checkLeft(e)
	for _, rcpt := range e.left {
		q.w.ledger.bounced(e, rcpt, reply{0, "expired after five days: " + e.last[rcpt].text})
	}
}

// drainsWithin is how long after the last trouble the last message may leave a queue: a
// relay waits two days for a key, and each of two queues may try in vain a few times.
const drainsWithin = 48*time.Hour + 6*(lastBackoff+mostJitter)

// checkLeft checks that a message has left the queue soon after the last trouble. While a
// clock is wrong a relay lets mail wait for as long as that, and so it may expire.
func (q *queue) checkLeft(e *entry) {
	after := time.Since(q.w.calm)
	if after > drainsWithin && !q.w.sc.has("clock") {
		q.w.violate("drain", "%s leaves the queue of %s only %v after the last trouble: %v", e.name, q.host.name, after, e.last)
	}
}

// try tries once to deliver to all recipients that are left, in one or two transactions.
func (q *queue) try(e *entry) {
	e.tries++
	dice := q.w.dice.about("try", e.name, e.tries)
	groups := [][]string{e.left}
	if n := len(e.left); n > 1 && dice.IntN(2) == 0 {
		at := 1 + dice.IntN(n-1)
		groups = [][]string{e.left[:at], e.left[at:]}
	}
	targets := e.targets
	if targets == nil {
		targets = q.targets
	}
	target := dice.IntN(len(targets))
	done := make([]*delivery, len(groups))
	var all sync.WaitGroup
	for i, rcpts := range groups {
		pause := time.Duration(i) * between(dice, 0, 3*time.Second)
		d := &delivery{from: e.from, rcpts: rcpts, data: e.data}
		done[i] = d
		all.Go(func() {
			time.Sleep(pause)
			to := targets[(target+i)%len(targets)]
			if q.onTheWire != nil {
				q.onTheWire(e, i, d)
			} else {
				defer q.w.ledger.handed(to, e.mail.to, len(d.rcpts))()
			}
			d.deliver(q.host, to, q.lmtp)
		})
	}
	all.Wait()
	for _, d := range done {
		q.settle(e, d)
	}
}

// settle takes the answers of a transaction into account.
func (q *queue) settle(e *entry, d *delivery) {
	q.w.tracef("%s: try %d of %s: %s", q.host.name, e.tries, e.name, d.summary())
	for _, rcpt := range d.rcpts {
		r := d.answers[rcpt]
		e.last[rcpt] = r
		if r.code == 0 && d.dot {
			q.w.ledger.unanswered(q, rcpt)
		}
		switch {
		case r.code/100 == 2:
			q.w.ledger.answered(q, e, rcpt)
		case r.code/100 == 5:
			q.w.ledger.bounced(e, rcpt, r)
		default:
			continue
		}
		e.left = slices.DeleteFunc(slices.Clone(e.left), func(left string) bool { return left == rcpt })
	}
}

func (d *delivery) summary() string {
	var parts []string
	for _, rcpt := range d.rcpts {
		parts = append(parts, fmt.Sprintf("%s %v", rcpt, d.answers[rcpt]))
	}
	return strings.Join(parts, "; ")
}
