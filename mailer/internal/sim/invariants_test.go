package sim

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// check checks, when a run is over, what must hold whatever happened. It judges only from
// outside: by what senders sent, what crossed the wire, what key managers gave out, and
// what mailboxes got.
func (l *ledger) check() {
	defer l.lock()()
	l.everyMailHasOneEnd()
	l.nothingWasInClear()
	l.nothingFellBack()
	l.noKeyServedTwice()
	l.keysWereOnDisk()
	l.whatArrivedIsWhatWasSent()
	l.nobodyGotMailTwice()
	l.noBounceWithoutCause()
	l.noAlarmWithoutCause()
	l.noAttackSucceeded()
	l.repeatsAreTakenForThat()
}

// everyMailHasOneEnd: each accepted mail is delivered or bounced to its sender, for each
// recipient, and never both. Both together are excused if an answer was lost in between,
// since then nobody could know that the mail had been taken, or if the mail bounced and
// an attacker sent a copy on later.
func (l *ledger) everyMailHasOneEnd() {
	for p, o := range l.outcomes {
		if l.mails[p.number] == nil {
			continue
		}
		arrived, excused := 0, o.unanswered > 0
		for _, a := range l.arrivals {
			if slices.Contains(a.rcpts, p.rcpt) && bytes.Contains(a.data, []byte(token(p.number))) {
				arrived++
				excused = excused || l.answerLost(a, p.rcpt) || l.copied[a.keyID()]
			}
		}
		for _, t := range o.sealed {
			excused = excused || !t.seen() || t.odd
		}
		excused = excused || l.clockAtFault(l.mails[p.number], o) || l.anothersRefusal(l.mails[p.number], o)
		switch {
		case arrived == 0 && len(o.bounces) == 0:
			l.w.violate("lost", "mail %d to %s was accepted, and neither delivered nor bounced", p.number, p.rcpt)
		case arrived > 0 && len(o.bounces) > 0 && !excused:
			l.w.violate("both", "mail %d to %s was delivered and bounced: %v", p.number, p.rcpt, o.bounces)
		}
	}
}

// answerLost reports whether the relay may not have seen, or not have been able to
// record, that a mailbox had received a message. If it answered 250, it must have
// recorded it.
func (l *ledger) answerLost(a *arrival, rcpt string) bool {
	soon := a.at.Add(20 * time.Minute)
	if !a.seen() || a.odd || l.inGap(a.site, a.at) {
		return true
	}
	return !l.answeredFor(a, rcpt) && near(l.failures[a.site], a.at, soon) || near(l.deaths[a.site], a.at, soon)
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

var tokens = regexp.MustCompile(`secret-(\d+)-`)

// nothingWasInClear: no content of a mail crosses the wire, unless its rule is
// opportunistic and the key manager has just said that it has no keys.
func (l *ledger) nothingWasInClear() {
	for _, c := range l.crossing {
		found := tokens.FindSubmatch(c.data)
		if found == nil {
			continue
		}
		number, _ := strconv.Atoi(string(found[1]))
		m := l.mails[number]
		mayBe := l.w.sc.Opportunistic && m != nil && slices.ContainsFunc(m.rcpts, isMaybe)
		if !mayBe || !near(l.emptied[c.site], c.at.Add(-20*time.Minute), c.at) {
			l.w.violate("clear", "mail %d of site %s crosses the wire in clear", number, c.site.name)
		}
	}
}

func isMaybe(rcpt string) bool { return bytes.Contains([]byte(rcpt), []byte("@maybe.")) }

// nothingFellBack: if the other site's X-Wing key is known, everything encrypted for that
// site is hybrid.
func (l *ledger) nothingFellBack() {
	for _, c := range l.crossing {
		if l.w.sc.Hybrid && c.suite != "" && !c.hybrid() {
			l.w.violate("fallback", "a message of site %s, under key %s, leaves under %s alone", c.site.name, c.ids[0], c.suite)
		}
	}
}

// noKeyServedTwice: no key, in any direction, is used for two messages, even if only a
// part of one came through; and each key is one that the site was given to encrypt with.
func (l *ledger) noKeyServedTwice() {
	users := map[string]*crossing{}
	for _, c := range l.crossing {
		for _, id := range c.ids {
			if other := users[id]; other != nil {
				l.w.violate("key reuse", "key %s is in a message of site %s and in another of site %s", id, other.site.name, c.site.name)
			}
			users[id] = c
			if k := l.w.keyOf(id); k == nil {
				l.w.violate("key reuse", "key %s, in a message of site %s, comes from no key manager", id, c.site.name)
			}
		}
	}
}

// keysWereOnDisk: when a message crosses the wire, the IDs of its keys are claimed, and
// when one reaches a mailbox, its keys are stored.
func (l *ledger) keysWereOnDisk() {
	for _, c := range l.crossing {
		if len(c.unclaimed) > 0 {
			l.w.violate("durable", "a message of site %s crosses the wire before its keys %v are claimed", c.site.name, c.unclaimed)
		}
	}
	for _, a := range l.arrivals {
		if len(a.unstored) > 0 {
			l.w.violate("durable", "a message reaches a mailbox of site %s before its keys %v are stored", a.site.name, a.unstored)
		}
	}
}

// ownFields are what a relay writes above a message.
var ownFields = regexp.MustCompile(`^((Qkdmail-Result|Received): [^\r\n]*\r\n([ \t][^\r\n]*\r\n)*)*$`)

// whatArrivedIsWhatWasSent: byte for byte, with nothing but the relay's fields above it;
// and nobody gets what was not for them.
func (l *ledger) whatArrivedIsWhatWasSent() {
	for _, a := range l.arrivals {
		found := tokens.FindSubmatch(a.data)
		if found == nil {
			l.forged(a)
			continue
		}
		number, _ := strconv.Atoi(string(found[1]))
		m := l.mails[number]
		if m == nil {
			l.w.violate("content", "a mailbox gets mail %d, which nobody sent", number)
			continue
		}
		above, whole := bytes.CutSuffix(a.data, m.data)
		if !whole || !ownFields.Match(above) {
			l.w.violate("content", "%v arrives with other bytes than it was sent with", m)
		}
		for _, rcpt := range a.rcpts {
			if !slices.Contains(m.rcpts, rcpt) || m.to != a.site {
				l.w.violate("recipient", "%s gets %v, which was not for them", rcpt, m)
			}
		}
	}
}

// forged judges an arrival that is not a user's mail: only plain mail may arrive, without
// the result that it claims, from an outsider or from a peer that need not encrypt.
func (l *ledger) forged(a *arrival) {
	stripped := l.w.sc.Opportunistic && bytes.Contains(a.data, []byte("Subject: not encrypted"))
	if !stripped && !bytes.Contains(a.data, []byte("Subject: forged")) {
		l.w.violate("content", "a mailbox of site %s gets what nobody sent", a.site.name)
	}
	if bytes.Contains(a.data, []byte("Qkdmail-Result")) {
		l.w.violate("content", "a mailbox of site %s gets a result that was forged", a.site.name)
	}
}

// nobodyGotMailTwice: unless an answer was lost, and no more often than that. Answers
// lost on the wire excuse nothing: the relay remembers who has received a message. If an
// attacker sends copies at the same moment, each of several relays may deliver one.
func (l *ledger) nobodyGotMailTwice() {
	got, excused := map[message]int{}, map[message]int{}
	for _, a := range l.arrivals {
		for _, rcpt := range a.rcpts {
			m := message{a.keyID(), rcpt}
			got[m]++
			if m.keyID == "" || l.answerLost(a, rcpt) || l.copied[m.keyID] && l.elsewhere(a, rcpt) {
				excused[m]++
			}
		}
	}
	for m, n := range got {
		if n > 1+excused[m] {
			l.w.violate("twice", "%s gets the message under key %s %d times; lost answers explain %d", m.rcpt, m.keyID, n, 1+excused[m])
		}
	}
	for p, o := range l.outcomes {
		lost := o.unanswered
		for _, t := range o.sealed {
			if !t.seen() || t.odd {
				lost++
			}
		}
		if len(o.sealed) > 1+lost {
			l.w.violate("twice", "mail %d is encrypted %d times for %s; lost answers explain %d", p.number, len(o.sealed), p.rcpt, 1+lost)
		}
	}
}

// elsewhere reports whether a relay other than an arrival's delivered the same message at
// about that time.
func (l *ledger) elsewhere(a *arrival, rcpt string) bool {
	return slices.ContainsFunc(l.arrivals, func(b *arrival) bool {
		return b != a && b.keyID() == a.keyID() && slices.Contains(b.rcpts, rcpt) && b.relay() != a.relay() && b.at.Sub(a.at).Abs() < 15*time.Minute
	})
}

// noBounceWithoutCause: mail comes back only if a next hop refuses it, if it was changed on
// the way, or if the only copy of its key was lost between a key manager and a store.
func (l *ledger) noBounceWithoutCause() {
	for p, o := range l.outcomes {
		m := l.mails[p.number]
		if m == nil {
			continue // never accepted
		}
		late := l.w.sc.Close == soonClosed && len(m.rcpts) > 1
		if len(o.bounces) == 0 || o.refused || late || l.tampered[p.number] || l.clockAtFault(m, o) || l.anothersRefusal(m, o) || slices.ContainsFunc(o.sealed, l.keyLost) {
			continue
		}
		l.w.violate("bounce", "mail %d to %s bounces without a cause: %v", p.number, p.rcpt, o.bounces)
	}
}

// anothersRefusal reports whether a mail may have bounced because the next hop refused the
// message for another recipient: after DATA, SMTP has one answer for all of them.
func (l *ledger) anothersRefusal(m *mail, o *outcome) bool {
	return !l.w.sc.LMTPHop && slices.ContainsFunc(m.rcpts, func(rcpt string) bool { return l.of(rcpt).refused }) &&
		slices.ContainsFunc(o.bounces, func(r reply) bool {
			return strings.Contains(r.text, neverAtData) || strings.Contains(r.text, notThisOne)
		})
}

// clockAtFault reports whether a mail may have bounced because of a clock: the message
// looks too old, or until it expires too new, or the relay started while its clock was
// wrong, and closed keys too soon. The clock of the receiving relay is not slow for so
// long that a message expires.
func (l *ledger) clockAtFault(m *mail, o *outcome) bool {
	return l.misled[m.to] || slices.ContainsFunc(o.bounces, func(r reply) bool {
		return tooOld(r) && (l.clocks[m.from] || l.clocks[m.to]) || r.code == 0 && tooNew(r) && l.clocks[m.from]
	})
}

func tooOld(r reply) bool { return strings.Contains(r.text, "too long ago") }
func tooNew(r reply) bool { return strings.Contains(r.text, "in the future") }

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

// noAlarmWithoutCause: each alarm is about a key that an attacker has named, that a key
// manager has given out again, or that was closed too soon, perhaps because of a wrong
// clock.
func (l *ledger) noAlarmWithoutCause() {
	for _, a := range l.alarms {
		for _, id := range a.ids {
			k := l.w.keyOf(id)
			if l.named[id] == nil && (k == nil || !k.back) && (a.kind != "closed" || l.w.sc.Close != soonClosed && !l.misled[a.site]) {
				l.w.violate("alarm", "an alarm without a cause: %s", a.text)
			}
		}
	}
}

// has reports whether a recipient had received the message that an attack pretends to be.
func (l *ledger) has(rcpt string, a *attack) bool {
	rcpt = strings.ToLower(rcpt)
	return slices.ContainsFunc(l.arrivals, func(b *arrival) bool {
		return len(a.ids) > 0 && b.keyID() == a.ids[0] && slices.Contains(b.rcpts, rcpt) && b.at.Before(a.at)
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

// noAttackSucceeded: changed messages are refused. An exact copy, and an outsider's plain
// mail, may be answered 250: the other invariants say what may come of it. So may a
// message whose recipient has received the original: it is dropped.
func (l *ledger) noAttackSucceeded() {
	for _, a := range l.attacks {
		if !a.changed || a.kind == "forge" || a.kind == "strip" && l.w.sc.Opportunistic {
			continue
		}
		for rcpt, r := range a.answers {
			if r.code/100 == 2 && !l.has(rcpt, a) {
				l.w.violate("attack", "%s, for %s, is answered %v", a.kind, rcpt, fmt.Sprint(r))
			}
		}
	}
}

// repeatsAreTakenForThat: a copy for someone who has received the message is answered 250
// and dropped, as long as messages of its age are accepted: a mail system that did not
// see the first answer must not bounce it. SMTP has one answer for all recipients, so
// over SMTP each of them must have received the message.
func (l *ledger) repeatsAreTakenForThat() {
	for _, a := range l.attacks {
		if !l.w.sc.LMTPHop && !l.allHave(a) {
			continue
		}
		for rcpt, r := range a.answers {
			if !a.changed && a.kind != "respell" && r.code/100 == 5 && l.has(rcpt, a) && l.recorded(rcpt, a) && !l.of(strings.ToLower(rcpt)).refused && !tooOld(r) {
				l.w.violate("repeat", "a copy of what %s has received, under key %s, is answered %v", rcpt, a.ids[0], r)
			}
		}
	}
}

// recorded reports whether a relay had answered 250 for the message of which an attack is
// a copy.
func (l *ledger) recorded(rcpt string, a *attack) bool {
	rcpt = strings.ToLower(rcpt)
	for _, m := range l.mails {
		if slices.Contains(m.rcpts, rcpt) && (len(l.gaps[m.to]) > 0 || l.misled[m.to]) {
			return false
		}
	}
	return near(l.taken[message{a.ids[0], rcpt}], time.Time{}, a.at.Add(-time.Minute))
}
