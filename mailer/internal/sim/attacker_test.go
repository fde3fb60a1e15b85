package sim

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"time"
)

// An attacker controls the whole wire between the sites: reads everything, and changes
// and sends anything.
type attacker struct {
	w    *world
	host *host

	mu   sync.Mutex
	seen []*delivery // what was sent for the first time
	to   []*site
}

func newAttacker(w *world) *attacker {
	return &attacker{w: w, host: w.net.host("attacker", attackerIP)}
}

// An attack is a message that the attacker sent or changed.
type attack struct {
	*delivery // once it is over
	kind      string
	ids       []string // keys that it names
	began, at time.Time
	changed   bool // it is not an exact copy of what was sent
}

// onTheWire sees what a site sends to another. The attacker may change it, or send
// another message before or beside it.
func (a *attacker) onTheWire(e *entry, number int, d *delivery) {
	if !bytes.Contains(d.data, []byte(payloadField)) {
		return // mail in clear could be changed at will
	}
	original := *d
	a.mu.Lock()
	if e.tries == 1 {
		a.seen = append(a.seen, &original)
		a.to = append(a.to, e.mail.to)
	}
	a.mu.Unlock()
	dice := a.w.dice.about("wire", e.name, e.tries, number)
	if dice.Float64() >= a.w.trouble("wire", e.mail.from.name) {
		return
	}
	kind := one(dice, "flip", "truncate", "rubbish", "swap", "replay", "replay", "respell", "redirect", "tamper", "tamper")
	switch {
	case kind == "tamper":
	case dice.IntN(2) == 0: // at the same time, and a replay several times
		n := 1
		if kind == "replay" {
			n += dice.IntN(4)
		}
		for i := range n {
			a.w.tasks.Go(func() { a.send(kind, &original, e.mail.to, fmt.Sprint(e.name, " ", i)) })
		}
		return
	default:
		a.send(kind, &original, e.mail.to, e.name)
		return
	}
	d.data = flipped(d.data, dice)
	now := time.Now()
	a.w.ledger.attacked(&attack{delivery: d, kind: kind, ids: readCiphertext(d.data).ids, began: now, at: now, changed: true})
	a.w.ledger.spoiled(d.rcpts)
	a.w.count("attack: " + kind)
}

// strike is a separate attack, on something that was sent before.
func (a *attacker) strike(kind string, event int) {
	dice := a.w.dice.about("strike", event)
	a.mu.Lock()
	if len(a.seen) == 0 {
		a.mu.Unlock()
		return
	}
	i := len(a.seen) - 1 - min(dice.IntN(len(a.seen)), dice.IntN(len(a.seen)))
	d, to := a.seen[i], a.to[i]
	a.mu.Unlock()
	name := fmt.Sprint("event ", event)
	if kind == "reuse" && !a.w.ledger.isBound(to, readCiphertext(d.data).ids[0]) {
		return // the store does not know yet, or no more, whose key it is
	}
	if kind != "drain" {
		a.send(kind, d, to, name)
		return
	}
	for i := range 20 << dice.IntN(5) {
		a.send(kind, d, to, fmt.Sprint(name, " ", i))
	}
}

// send turns something that was sent into an attack of a kind.
func (a *attacker) send(kind string, seen *delivery, to *site, name string) {
	dice := a.w.dice.about("attack", kind, name)
	d := &delivery{from: seen.from, rcpts: seen.rcpts, data: seen.data}
	changed := true
	switch kind {
	case "flip":
		d.data = flipped(d.data, dice)
	case "truncate":
		d.data = truncated(d.data, dice)
	case "rubbish":
		d.data = rubbish(d.data, dice)
	case "drain":
		d.data = renamed(rubbish(d.data, dice), dice)
	case "swap":
		a.mu.Lock()
		other := a.seen[dice.IntN(len(a.seen))]
		a.mu.Unlock()
		d.data = swapped(d.data, other.data)
		changed = string(d.data) != string(seen.data)
	case "redirect":
		d.rcpts = []string{"mallory@" + to.name + ".example"}
	case "respell": // most mail systems ignore case in names of mailboxes
		d.rcpts = respelled(d.rcpts)
		changed = false
	case "replay":
		changed = false
	case "reuse": // with the help of the site that sent the first one
		d.rcpts = []string{"mallory@" + to.name + ".example"}
		sent := readCiphertext(seen.data)
		keys := a.w.usedKeys(sent)
		if len(keys) == 0 {
			return
		}
		_, domain, _ := strings.Cut(seen.from, "@")
		d.data = a.w.second(a.w.site(domain), sent, one(dice, keys...), d.rcpts)
	case "strip":
		d.data = []byte("From: <" + d.from + ">\r\nSubject: not encrypted\r\n\r\nsend money\r\n")
	case "forge":
		d.from = "mallory@elsewhere.example"
		d.data = []byte("Qkdmail-Result: b1.example; decrypt=pass; peer=a\r\nFrom: <" + d.from + ">\r\nSubject: forged\r\n\r\nQKD-signed\r\n")
	default:
		panic("no such kind of attack: " + kind)
	}
	began := time.Now()
	d.deliver(a.host, one(dice, to.addresses(decryptPort)...), a.w.sc.LMTPHop)
	a.w.tracef("attack %s, %s: %s", kind, name, d.summary())
	a.w.count("attack: " + kind)
	a.w.ledger.attacked(&attack{delivery: d, kind: kind, ids: readCiphertext(d.data).ids, began: began, at: time.Now(), changed: changed})
}
