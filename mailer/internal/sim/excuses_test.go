package sim

import (
	"slices"
	"strings"
	"time"
)

// explained reports whether a mail may have bounced with such an answer.
func (l *ledger) explained(p person, m *mail, o *outcome, b bounce) bool {
	switch {
	case b.says("Never, at", notThisOne):
		return o.refused || l.anothersRefusal(m, b)
	case l.wasChanged(p, b):
		return true
	case b.says(keyIsClosed) && l.w.sc.Close == soonClosed && len(m.rcpts) > 1:
		return true // it was closed after the first of them had the message
	case b.says(keyIsLost, keyWasUsed) && slices.ContainsFunc(o.sealed, l.keyLost):
		return true
	}
	return l.clockAtFault(m, b)
}

// What relays say of the key of a message.
const (
	keyIsClosed = "key of this message is closed"
	keyIsLost   = "key of this message is lost"
	keyWasUsed  = "key of this message was used before"
)

func (b bounce) says(texts ...string) bool {
	return slices.ContainsFunc(texts, func(text string) bool { return strings.Contains(b.text, text) })
}

// wasChanged reports whether a mail bounced since an attacker had changed it on its way. If
// the key is closed, what they changed looks like another message.
func (l *ledger) wasChanged(p person, b bounce) bool {
	return b.says("was altered", "is damaged", "belongs to another message") &&
		slices.ContainsFunc(l.attacks, func(a *attack) bool { return a.kind == "tamper" && a.answers[p.rcpt] == b.reply })
}

// anothersRefusal reports whether a mail may have bounced because the next hop refused the
// message for another recipient: after DATA, SMTP has one answer for all of them.
func (l *ledger) anothersRefusal(m *mail, b bounce) bool {
	return !l.w.sc.LMTPHop && b.says(neverAtData, notThisOne) &&
		slices.ContainsFunc(m.rcpts, func(rcpt string) bool { return l.of(rcpt).refused })
}

// clockAtFault reports whether a mail may have bounced because of a clock: the message
// looked too old, or too new until it expired, or a relay had started while its clock was
// wrong, and closed keys too soon. The clock of the receiving relay is not slow for so
// long that a message expires.
func (l *ledger) clockAtFault(m *mail, b bounce) bool {
	switch {
	case b.says(tooOld):
		return before(l.clocks[m.from], b.at) || before(l.clocks[m.to], b.at)
	case b.says(tooNew):
		return b.code == 0 && before(l.clocks[m.from], b.at)
	}
	return b.says(keyIsClosed, keyIsLost, keyWasUsed) && before(l.misled[m.to], b.at)
}

const (
	tooOld = "encrypted too long ago"
	tooNew = "encrypted in the future"
)

// keyLost reports whether a key of a message may have been lost for good: at a key
// manager, or between it and the store.
func (l *ledger) keyLost(t *taken) bool {
	for _, id := range readCiphertext(t.data).ids {
		k := l.w.keyOf(id)
		if k == nil {
			continue
		}
		if k.lost || k.back {
			return true
		}
		for _, at := range k.fetched {
			from, to := at.Add(-2*time.Minute), at.Add(10*time.Minute)
			s := k.slave
			if l.inGap(s, at) {
				return true
			}
			waited := near(l.failures[s], from, to) && near(l.deaths[s], from, at.Add(12*time.Hour)) // kept in memory until the store works again
			// A fetch takes at most a minute, and a slow store some seconds more.
			if waited || near(l.deaths[s], at.Add(-time.Minute), at.Add(2*time.Minute)) || l.w.linkTroubled(s, from, to) {
				return true
			}
		}
	}
	return false
}

// answerLost reports whether the relay may not have seen, or not have been able to
// record, that a mailbox had received a message. If it answered 250, it must have
// recorded it.
func (l *ledger) answerLost(a *arrival, rcpt string) bool {
	soon := a.at.Add(20 * time.Minute)
	if !a.seen() || a.odd || l.inGap(a.site, a.at) {
		return true
	}
	return !l.answeredFor(a, rcpt) && (near(l.failures[a.site], a.at, soon) || near(l.deaths[a.site], a.at, soon))
}

// answeredFor reports whether a relay answered 250 to the wire soon after an arrival, and
// before the next one of the same message.
func (l *ledger) answeredFor(a *arrival, rcpt string) bool {
	until := a.at.Add(time.Minute)
	for _, b := range l.arrivals {
		if b.at.After(a.at) && b.at.Before(until) && b.keyID() == a.keyID() && slices.Contains(b.rcpts, rcpt) {
			until = b.at
		}
	}
	return near(l.taken[message{a.keyID(), rcpt}], a.at, until)
}

// elsewhere reports whether another relay delivered the same message soon after an
// arrival, for the first time.
func (l *ledger) elsewhere(a *arrival, rcpt string) bool {
	relays := map[string]bool{}
	for _, b := range l.arrivals {
		if b.keyID() != a.keyID() || !slices.Contains(b.rcpts, rcpt) {
			continue
		}
		if !b.at.Before(a.at) && b.at.Sub(a.at) < 15*time.Minute && b.relay() != a.relay() && !relays[b.relay()] {
			return true
		}
		relays[b.relay()] = true
	}
	return false
}

// has reports whether a recipient had received the message that an attack pretends to be,
// or a relay had answered that they had. It may have come while the attack was under way,
// but not by the attack itself.
func (l *ledger) has(rcpt string, a *attack) bool {
	if len(a.ids) == 0 {
		return false
	}
	return before(l.taken[message{a.ids[0], rcpt}], a.at) || slices.ContainsFunc(l.arrivals, func(b *arrival) bool {
		meanwhile := b.at.Before(a.at) && (!b.isAttackers() || l.copied[a.ids[0]])
		return b.keyID() == a.ids[0] && slices.Contains(b.rcpts, rcpt) && (b.at.Before(a.began) || meanwhile)
	})
}

// allHave reports whether each recipient of an attack had received the message that it
// pretends to be, as far as the relay knows.
func (l *ledger) allHave(a *attack) bool {
	for rcpt := range a.answers {
		if !l.has(rcpt, a) || !l.recorded(rcpt, a) {
			return false
		}
	}
	return true
}

// recorded reports whether a relay had answered 250 for the message of which an attack is
// a copy, and its store still knows that.
func (l *ledger) recorded(rcpt string, a *attack) bool {
	m := l.mails[numberOf(rcpt)]
	if m == nil || before(l.misled[m.to], a.at) {
		return false
	}
	return slices.ContainsFunc(l.taken[message{a.ids[0], rcpt}], func(at time.Time) bool {
		return at.Before(a.at.Add(-time.Minute)) && !l.inGap(m.to, at)
	})
}

// aged reports whether a copy is refused since it is old, or looks so by a wrong clock.
func (l *ledger) aged(rcpt string, a *attack, r reply) bool {
	m := l.mails[numberOf(rcpt)]
	old := !near(l.taken[message{a.ids[0], rcpt}], a.at.Add(-29*24*time.Hour), a.at)
	return strings.Contains(r.text, tooOld) && (old || before(l.clocks[m.from], a.at) || before(l.clocks[m.to], a.at))
}
