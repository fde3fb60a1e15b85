package sim

import (
	"bytes"
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
	l.copiesAreNotRefused()
	l.lostKeysAreNotAskedForAgain()
}

// everyMailHasOneEnd: each accepted mail is delivered or bounced to its sender, for each
// recipient, and never both. Both together are excused if an answer was lost in between,
// since then nobody could know that the mail had been taken; by a wrong clock; by the
// refusal of the recipient at RCPT, where no relay knows that the message is one that they
// have; over SMTP by the refusal of another recipient; or by an attacker, who changed a
// message that came again, or sent a copy on, after the bounce or before the message itself
// was changed or refused.
func (l *ledger) everyMailHasOneEnd() {
	for p, o := range l.outcomes {
		m := l.mails[p.number]
		if m == nil {
			continue // not a mail of ours
		}
		excused := o.unanswered > 0
		for _, b := range o.bounces {
			excused = excused || l.clockAtFault(m, b) || l.wasChanged(p, b) || l.anothersRefusal(m, b) || o.refused && b.says(neverAtRcpt)
		}
		for _, t := range o.sealed {
			excused = excused || !t.seen() || t.odd
		}
		arrived := 0
		for _, a := range l.arrivals {
			if slices.Contains(a.rcpts, p.rcpt) && bytes.Contains(a.data, []byte(token(p.number))) {
				arrived++
				excused = excused || l.answerLost(a, p.rcpt) || l.copied[a.keyID()] && (o.bouncedBefore(a.at) || o.refused || l.tampered[p])
			}
		}
		switch {
		case arrived == 0 && len(o.bounces) == 0:
			l.w.violate("lost", "mail %d to %s was accepted, and neither delivered nor bounced", p.number, p.rcpt)
		case arrived > 0 && len(o.bounces) > 0 && !excused:
			l.w.violate("both", "mail %d to %s was delivered and bounced: %v", p.number, p.rcpt, o.bounces)
		}
	}
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
		mayBe := l.w.sc.Opportunistic && m != nil && areMaybe(c.rcpts)
		if !mayBe || !near(l.emptied[c.site], c.at.Add(-20*time.Minute), c.at) {
			l.w.violate("clear", "mail %d of site %s crosses the wire in clear", number, c.site.name)
		}
	}
}

// areMaybe reports whether the rule for all of the recipients is opportunistic.
func areMaybe(rcpts []string) bool {
	return !slices.ContainsFunc(rcpts, func(rcpt string) bool { return !strings.Contains(rcpt, "@maybe.") })
}

// longestSession is more than a session lasts. It keeps the configuration with which it
// began.
const longestSession = 30 * time.Minute

// nothingFellBack: if the other site's X-Wing key is known, everything encrypted for that
// site in new sessions is hybrid.
func (l *ledger) nothingFellBack() {
	for _, c := range l.crossing {
		to := l.siteOf(c.rcpts)
		if to == nil || c.suite == "" || c.hybrid() {
			continue
		}
		if known := to.known.Load(); known != nil && (l.w.sc.Hybrid || c.began.After(known.Add(longestSession))) {
			l.w.violate("fallback", "a message of site %s, under key %s, leaves under %s alone", c.site.name, c.ids[0], c.suite)
		}
	}
}

// siteOf returns the site of recipients, nil if they are nobody's.
func (l *ledger) siteOf(rcpts []string) *site {
	if m := l.mails[numberOf(rcpts[0])]; m != nil {
		return m.to
	}
	return nil
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
			if k := l.w.keyOf(id); k == nil || k.slave == c.site {
				l.w.violate("key reuse", "key %s, in a message of site %s, was not given to it to encrypt with", id, c.site.name)
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

// ownFields are what a relay writes above a message: a result if it was encrypted, and
// trace fields.
var ownFields = regexp.MustCompile(`^(Qkdmail-Result: (\w+)\d\.example;\r\n\tdecrypt=pass;\r\n\tsuite=[^;\r\n]+;\r\n\tpeer=(\w+);\r\n\tkey-id=[-0-9a-f]+\r\n)?` +
	`(Received: [^\r\n]*\r\n([ \t][^\r\n]*\r\n)*)*$`)

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
		fields := ownFields.FindSubmatch(above)
		switch {
		case !whole || fields == nil:
			l.w.violate("content", "%v arrives with other bytes than it was sent with", m)
		case len(fields[1]) == 0 && !(l.w.sc.Opportunistic && areMaybe(a.rcpts)):
			l.w.violate("content", "%v arrives without the relay's result", m)
		case len(fields[1]) > 0 && (string(fields[2]) != a.site.name || string(fields[3]) != m.from.name || !l.sealedUnder(m, a.keyID())):
			l.w.violate("content", "%v arrives with a wrong result: %s", m, fields[1])
		}
		for _, rcpt := range a.rcpts {
			if !slices.Contains(m.rcpts, rcpt) || m.to != a.site {
				l.w.violate("recipient", "%s gets %v, which was not for them", rcpt, m)
			}
		}
	}
}

// sealedUnder reports whether a mail left its site under a key.
func (l *ledger) sealedUnder(m *mail, keyID string) bool {
	return slices.ContainsFunc(m.rcpts, func(rcpt string) bool {
		return slices.ContainsFunc(l.of(rcpt).sealed, func(t *taken) bool { return slices.Contains(readCiphertext(t.data).ids, keyID) })
	})
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

// nobodyGotMailTwice: unless an earlier answer was lost. Answers lost on the wire excuse
// nothing: the relay remembers who has received a message. If an attacker sends copies at
// the same moment, each of several relays may deliver one. Of mail in clear nothing is
// remembered.
func (l *ledger) nobodyGotMailTwice() {
	got, lost := map[message]int{}, map[message]int{}
	for _, a := range l.arrivals {
		for _, rcpt := range a.rcpts {
			m := message{a.keyID(), rcpt}
			if got[m]++; got[m] > 1+lost[m] {
				l.w.violate("twice", "%s gets the message under key %s %d times; lost answers explain %d", rcpt, m.keyID, got[m], 1+lost[m])
			}
			if m.keyID == "" || l.answerLost(a, rcpt) || l.copied[m.keyID] && l.elsewhere(a, rcpt) {
				lost[m]++
			}
		}
	}
	for p, o := range l.outcomes {
		lost := o.unanswered
		for i, t := range o.sealed {
			if i > lost {
				l.w.violate("twice", "mail %d is encrypted %d times for %s; lost answers explain %d", p.number, i+1, p.rcpt, 1+lost)
			}
			if !t.seen() || t.odd {
				lost++
			}
		}
	}
}

// noBounceWithoutCause: mail comes back only for a reason that is in the answer.
func (l *ledger) noBounceWithoutCause() {
	for p, o := range l.outcomes {
		m := l.mails[p.number]
		for _, b := range o.bounces {
			if m != nil && !l.explained(p, m, o, b) {
				l.w.violate("bounce", "mail %d to %s bounces without a cause: %v", p.number, p.rcpt, b)
			}
		}
	}
}

// noAlarmWithoutCause: each alarm is about a key that an attacker has named, that a key
// manager has given out again, or that was closed too soon. By a wrong clock its tombstone
// may be gone as well, and only the claim of its ID left.
func (l *ledger) noAlarmWithoutCause() {
	for _, a := range l.alarms {
		if len(a.ids) == 0 {
			l.w.violate("alarm", "an alarm names no key: %s", a.text)
		}
		for _, id := range a.ids {
			k := l.w.keyOf(id)
			early := a.kind == "closed" && l.w.sc.Close == soonClosed ||
				(a.kind == "closed" || a.kind == "reused") && before(l.misled[a.site], a.at)
			if !before(l.named[id], a.at) && (k == nil || !k.back) && !early {
				l.w.violate("alarm", "an alarm without a cause: %s", a.text)
			}
		}
	}
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
				l.w.violate("attack", "%s, for %s, is answered %v", a.kind, rcpt, r)
			}
		}
	}
}

// copiesAreNotRefused: a copy for someone who has received the message is not refused for
// good, as long as messages of its age are accepted: a mail system that did not see the
// first answer must not bounce it. SMTP has one answer for all recipients, so over SMTP
// each of them must have received the message. Another spelling of an address counts only
// while the key is open: the list in the message says who is meant.
func (l *ledger) copiesAreNotRefused() {
	for _, a := range l.attacks {
		if a.changed || a.kind == "respell" || !l.w.sc.LMTPHop && !l.allHave(a) {
			continue
		}
		for rcpt, r := range a.answers {
			if r.code/100 == 5 && l.has(rcpt, a) && l.recorded(rcpt, a) && !l.of(rcpt).refused && !l.aged(rcpt, a, r) {
				l.w.violate("repeat", "a copy of what %s has received, under key %s, is answered %v", rcpt, a.ids[0], r)
			}
		}
	}
}
