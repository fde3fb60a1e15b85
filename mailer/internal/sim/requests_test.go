package sim

import (
	"net"
	"time"
)

// A keyRequest is what a relay asks its KME for: new keys of a size, for an SAE.
type keyRequest struct {
	relay string // IP address
	sae   string
	size  int // bits
}

// A keyAnswer is what became of the answer to a keyRequest, and when.
type keyAnswer struct {
	lost bool
	at   time.Time
}

// A handing is a transaction in which a queue gives a relay mail to encrypt.
type handing struct {
	rcpts int
	at    time.Time
}

// handed notes that a queue gives a relay mail to encrypt.
func (l *ledger) handed(address string, rcpts int) {
	relay, _, _ := net.SplitHostPort(address)
	defer l.lock()()
	l.handings[relay] = append(l.handings[relay], handing{rcpts, time.Now()})
}

// gaveKeys notes that a KME has answered a request for new keys, or that the answer was
// lost.
func (l *ledger) gaveKeys(q keyRequest, lost bool) {
	defer l.lock()()
	l.keyAnswers[q] = append(l.keyAnswers[q], keyAnswer{lost, time.Now()})
}

// mostAnew is how many answers to the same request a relay may lose for one recipient: it
// asks for other keys once.
const mostAnew = 2

// longestHanding is how long after the beginning of a transaction a relay may lose an
// answer for it.
const longestHanding = 10 * time.Minute

// lostKeysAreNotAskedForAgain: the keys of a lost answer may be used up, so a relay that
// asked again and again would empty a key manager in trouble.
func (l *ledger) lostKeysAreNotAskedForAgain() {
	for q, answers := range l.keyAnswers {
		first := 0 // of a row of lost answers
		for i, a := range answers {
			if !a.lost {
				first = i + 1
				continue
			}
			for n := mostAnew + 1; n <= i+1-first; n++ { // the last n of them
				since := answers[i+1-n].at
				if most := mostAnew * l.recipients(q.relay, since.Add(-longestHanding), a.at); n > most {
					l.w.violate("keys lost", "a relay, %s, asks %d times within %v for keys of %d bits for %s, and the answers are lost; it had mail that explains %d", q.relay, n, a.at.Sub(since), q.size, q.sae, most)
					return
				}
			}
		}
	}
}

// recipients returns for how many recipients a relay was given mail in a span of time.
func (l *ledger) recipients(relay string, from, to time.Time) (n int) {
	for _, h := range l.handings[relay] {
		if !h.at.Before(from) && !h.at.After(to) {
			n += h.rcpts
		}
	}
	return n
}
