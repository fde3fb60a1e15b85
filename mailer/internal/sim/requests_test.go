package sim

import (
	"cmp"
	"net"
	"slices"
	"time"
)

// A keyRequest is what a relay asks its KME for: new keys of a size, for an SAE.
type keyRequest struct {
	relay string // IP address
	sae   string
	size  int // bits
}

// A keyAnswer is what became of the answer to a keyRequest, by the time of the request: a
// slow KME answers when the relay has given up and asked anew.
type keyAnswer struct {
	lost bool
	at   time.Time
}

// A handing is a transaction in which a queue gives a relay mail to encrypt.
type handing struct {
	sae         string // of the recipients' site
	rcpts       int
	from, until time.Time // until is zero while it goes on
}

// handed notes that a queue begins to give a relay mail to encrypt. Call ended when the
// transaction is over.
func (l *ledger) handed(address string, to *site, rcpts int) (ended func()) {
	relay, _, _ := net.SplitHostPort(address)
	h := &handing{sae: to.sae, rcpts: rcpts, from: time.Now()}
	defer l.lock()()
	l.handings[relay] = append(l.handings[relay], h)
	return func() {
		defer l.lock()()
		h.until = time.Now()
	}
}

// gaveKeys notes that a KME has answered a request for new keys, or that the answer was
// lost.
func (l *ledger) gaveKeys(q keyRequest, a keyAnswer) {
	defer l.lock()()
	l.keyAnswers[q] = append(l.keyAnswers[q], a)
}

// mostLost is how many answers in a row a relay may lose for one recipient: one, and that
// to the request for other keys which follows.
const mostLost = 2

// lostKeysAreNotAskedForAgain: the keys of a lost answer may be used up, so a relay that
// asked again and again would empty a key manager in trouble. A KME does not see which
// mail a request is for, so what counts is how much mail the relay had.
func (l *ledger) lostKeysAreNotAskedForAgain() {
	for q, answers := range l.keyAnswers {
		slices.SortStableFunc(answers, func(a, b keyAnswer) int { return a.at.Compare(b.at) })
		first := 0 // where the row of lost answers begins
		for i, a := range answers {
			if !a.lost {
				first = i + 1
				continue
			}
			for n := mostLost + 1; n <= i+1-first; n++ { // the last n of the row
				since := answers[i+1-n].at
				if most := mostLost * l.recipients(q, since, a.at); n > most {
					l.w.violate("keys lost", "relay %s asks %s %d times within %v for keys of %d bits, and loses the answers; its mail explains %d", q.relay, q.sae, n, a.at.Sub(since), q.size, most)
					return
				}
			}
		}
	}
}

// alone is how long a relay may go on with mail after the queue has given up: it waits for
// the next hop's answer about some recipients before it asks for the keys of others.
const alone = 10 * time.Minute

// recipients returns for how many recipients a relay may have asked for keys in a span of
// time.
func (l *ledger) recipients(q keyRequest, from, to time.Time) (n int) {
	for _, h := range l.handings[q.relay] {
		until := cmp.Or(h.until, to).Add(alone)
		if h.sae == q.sae && !h.from.After(to) && !until.Before(from) {
			n += h.rcpts
		}
	}
	return n
}
