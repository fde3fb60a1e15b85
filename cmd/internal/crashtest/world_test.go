package crashtest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
	"github.com/qkdmail/qkdmail/cipher"
	"github.com/qkdmail/qkdmail/cmd/internal/relaytest"
)

// A world is two sites with their relays, mail systems and key managers, and what
// is known about all messages and keys.
type world struct {
	seed   uint64
	order  order
	link   *link
	sender *mta     // before the encrypting relays
	wire   *mta     // before the decrypting ones
	relays []*relay // the encrypting ones first
	harsh  bool     // its chaos kills relays or cuts connections
	stores stores

	mu       sync.Mutex
	messages map[int]*message
	used     map[string][sha256.Size]byte // ciphertexts by key ID
	letters  map[string]*passed           // by first key ID
	count    counts
	wrong    []string
}

// A message is one of the sender's messages.
type message struct {
	rcpts    []string
	answered map[string]int // 250 to the sender, by recipient
	lost     map[string]int // transfers of the whole message without an answer
	taken    map[string]int // ciphertexts that the wire accepted
	arrived  map[string]int
}

// passed is an encrypted message that the wire accepted.
type passed struct {
	number int
	ids    []string
	tries  []try
	rcpts  map[string]*delivery
}

// A delivery is the fate of an encrypted message for one recipient.
type delivery struct {
	excuses int // transfers that got no answer, or were refused because the store failed: they may have been delivered
	arrived int
	refused bool
}

type counts struct {
	messages, recipients int
	transmissions, cut   int            // on the wire, and how many of them were cut off
	again                int            // bounced, and sent again
	gone                 map[string]int // ciphertexts given up because their key was lost on its way, by reason
	twiceEncrypted       int            // messages encrypted twice because the sender got no answer
	twiceDelivered       int            // ciphertexts that a recipient got twice because the wire got no answer
	vanished             int            // repeats that a decrypting relay answered but did not deliver
	forged               int            // forged ones that were refused
	noStore              int            // recipients refused by a decrypting relay that could not use its store
	bytes                int            // on the wire
}

// stores say where the relays keep their keys.
type stores struct{ encrypt, decrypt storeOf }

func newWorld(t testing.TB, seed uint64, fail string, encrypters, decrypters int, s stores) *world {
	t.Helper()
	w := &world{
		seed: seed, stores: s, link: newLink(t, fail), messages: map[int]*message{},
		used: map[string][sha256.Size]byte{}, letters: map[string]*passed{}, count: counts{gone: map[string]int{}},
	}
	sinkAddr := relaytest.MailServer{Take: w.atSink}.Start(t)
	var before, after []*relay
	for i := range decrypters {
		after = append(after, newRelay(t, &w.order, w.link, decrypt, fmt.Sprintf("decrypt%d", i), s.decrypt, sinkAddr))
	}
	wireAddr := relaytest.MailServer{Take: w.atWire}.Start(t)
	for i := range encrypters {
		before = append(before, newRelay(t, &w.order, w.link, encrypt, fmt.Sprintf("encrypt%d", i), s.encrypt, wireAddr))
	}
	w.wire = newMTA(t, &w.order, seed+1, after, false, 16)
	w.wire.answered, w.wire.refused = w.wireAnswered, w.wireRefused
	w.relays = append(before, after...)
	w.sender = newMTA(t, &w.order, seed+2, before, true, 16)
	w.sender.answered, w.sender.refused = w.senderAnswered, w.senderRefused
	startAll(t, w.relays)
	return w
}

// wrongf notes something that must not happen.
func (w *world) wrongf(format string, args ...any) {
	w.wrong = append(w.wrong, fmt.Sprintf(format, args...))
}

// content returns the message with a number, always the same one.
func (w *world) content(number int) []byte {
	random := rand.New(rand.NewPCG(w.seed, uint64(number)))
	size := 100
	switch p := random.IntN(100); {
	case p < 60:
		size += random.IntN(500)
	case p < 90:
		size += random.IntN(6 << 10)
	case p < 97:
		size += random.IntN(60 << 10)
	case p < 99:
		size += random.IntN(200 << 10) // several frames of a pad
	default:
		size += 260<<10 + random.IntN(100<<10)
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "From: alice@a.example\r\nTo: bob@b.example\r\nSubject: secret %d\r\nX-Number: %[1]d\r\n\r\n", number)
	for size += b.Len(); b.Len() < size; {
		line := min(2+random.IntN(74), max(size-b.Len(), 1))
		for range line {
			b.WriteByte(byte('.' + random.IntN('z'-'.')))
		}
		b.WriteString("\r\n")
	}
	return b.Bytes()
}

// recipients returns the recipients of a message.
func recipients(number int) (rcpts []string) {
	for i := range 1 + number%3 {
		domain := "b.example"
		if number%4 == 3-i {
			domain = "aes.b.example"
		}
		rcpts = append(rcpts, fmt.Sprintf("n%d.%d@%s", number, i, domain))
	}
	return rcpts
}

// numberOf returns the number in a recipient's address; -1: there is none.
func numberOf(rcpt string) int {
	text, _, _ := strings.Cut(strings.TrimPrefix(rcpt, "n"), ".")
	n, err := strconv.Atoi(text)
	if err != nil {
		return -1
	}
	return n
}

// submit gives a new message to the sender's mail system.
func (w *world) submit(number int) {
	m := &message{
		rcpts: recipients(number), answered: map[string]int{}, lost: map[string]int{},
		taken: map[string]int{}, arrived: map[string]int{},
	}
	w.mu.Lock()
	w.messages[number] = m
	w.count.messages++
	w.count.recipients += len(m.rcpts)
	w.mu.Unlock()
	w.send(number, m.rcpts)
}

func (w *world) send(number int, rcpts []string) {
	w.sender.add(&job{letter: &letter{number: number, from: "alice@a.example", data: w.content(number)}, rcpts: rcpts})
}

// senderAnswered notes the outcome of a try at an encrypting relay.
func (w *world) senderAnswered(j *job, t *try) {
	w.mu.Lock()
	defer w.mu.Unlock()
	m := w.messages[j.letter.number]
	for rcpt, a := range t.answers {
		switch {
		case a.code == 250:
			m.answered[rcpt]++
		case a.code == 0 && t.dot:
			m.lost[rcpt]++
		}
	}
}

func (w *world) senderRefused(j *job, rcpt, why string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.wrongf("an encrypting relay refuses message %d for %s: %s", j.letter.number, rcpt, why)
}

// atWire takes an encrypted message, or a part of it.
func (w *world) atWire(from string, to []string, r io.Reader) error {
	data, err := io.ReadAll(r)
	p := w.seen(data, to, err == nil)
	if err != nil || p == nil {
		return err
	}
	linger(10 * time.Millisecond)
	if w.wire.chance(0.01) {
		return busy
	}
	w.mu.Lock()
	w.letters[p.ids[0]] = p
	for _, rcpt := range to {
		p.rcpts[rcpt] = &delivery{}
		w.messages[p.number].taken[rcpt]++
	}
	w.mu.Unlock()
	l := &letter{number: p.number, key: p.ids[0], from: from, data: data}
	if w.wire.chance(0.05) {
		w.wire.add(&job{letter: l, rcpts: to, kind: forged})
	}
	if len(to) > 1 && w.wire.chance(0.5) { // two transactions, at the same time
		w.wire.add(&job{letter: l, rcpts: to[:1]})
		to = to[1:]
	}
	w.wire.add(&job{letter: l, rcpts: to})
	return nil
}

// seen checks a message on the wire against all those seen before and, if it is
// whole, against the message that it should contain.
func (w *world) seen(data []byte, to []string, whole bool) *passed {
	c, err := parseCiphertext(data)
	sum := sha256.Sum256(c.payload)
	number := numberOf(to[0])
	var good error
	if whole && err == nil && len(c.ids) > 0 {
		good = w.decrypts(data, number)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.count.transmissions++
	w.count.bytes += len(data)
	if !whole {
		w.count.cut++
	}
	if err != nil {
		w.wrongf("a message on the wire for %v: %v", to, err)
	}
	if whole && len(c.ids) == 0 {
		w.wrongf("a message on the wire for %v is not encrypted:\n%.1000s", to, data)
		return nil
	}
	for _, id := range c.ids {
		if before, twice := w.used[id]; twice && (!whole || before != sum) {
			w.wrongf("key %s is in two ciphertexts", id)
		}
		w.used[id] = sum
	}
	if !whole {
		return nil
	}
	if good != nil {
		w.wrongf("the ciphertext of message %d is not the message encrypted with its keys: %v", number, good)
	}
	return &passed{number: number, ids: c.ids, rcpts: map[string]*delivery{}}
}

// decrypts decrypts a ciphertext with the keys that the key manager gave out and
// compares it with the message.
func (w *world) decrypts(data []byte, number int) error {
	r, err := cipher.Decrypt(context.Background(), bytes.NewReader(data), w.link, &cipher.DecryptOptions{Binder: cipher.Unbound, SAE: "SAE_B", Peers: []string{"SAE_A"}})
	if err != nil {
		return err
	}
	plain, err := io.ReadAll(r)
	if err == nil && !bytes.Equal(plain, w.content(number)) {
		err = errors.New("it is another message")
	}
	return err
}

// storeFails is the reply of a relay that can't use its store. A decrypting one
// may have delivered the message nevertheless.
const storeFails = "The key store fails, try again later"

// wireAnswered notes the outcome of a try at a decrypting relay.
func (w *world) wireAnswered(j *job, t *try) {
	w.mu.Lock()
	p := w.letters[j.letter.key]
	p.tries = append(p.tries, try{span: t.span, relay: t.relay, answers: t.answers})
	var once []string
	for rcpt, a := range t.answers {
		d := p.rcpts[rcpt]
		switch {
		case j.kind == forged:
			if a.code == 250 {
				w.wrongf("a forged ciphertext of message %d was taken", p.number)
			} else if a.code/100 == 5 {
				w.count.forged++
			}
		case j.kind == repeated:
			if a.code == 250 {
				w.count.vanished++
			}
		case a.code == 250:
			once = append(once, rcpt)
		case t.dot && a.code == 0:
			d.excuses++
		case t.dot && a.code == 451 && a.text == storeFails:
			d.excuses++
			w.count.noStore++
		}
	}
	w.mu.Unlock()
	if len(once) > 0 && w.wire.chance(0.1) {
		again := &job{letter: j.letter, rcpts: once, kind: repeated}
		w.wire.pending.Add(1)
		time.AfterFunc(w.wire.pause(time.Second), func() { w.wire.push(again) })
	}
}

// wireRefused notes that an encrypted message is given up, and sends the original
// again, as its sender would after a bounce.
func (w *world) wireRefused(j *job, rcpt, why string) {
	if j.kind == forged {
		return
	}
	w.mu.Lock()
	p := w.letters[j.letter.key]
	p.rcpts[rcpt].refused = true
	if j.kind == repeated || why != keyNotHere {
		w.wrongf("a decrypting relay refuses message %d for %s: %s", p.number, rcpt, why)
	}
	w.count.again++
	w.mu.Unlock()
	w.send(p.number, []string{rcpt})
}

var keyID = regexp.MustCompile(`\tkey-id=([^;\s]+)`)

// atSink takes a restored message.
func (w *world) atSink(_ string, to []string, r io.Reader) error {
	data, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	if w.wire.chance(0.01) {
		return busy
	}
	w.arrived(data, to)
	linger(10 * time.Millisecond)
	return nil
}

func (w *world) arrived(data []byte, to []string) {
	number := numberOf(to[0])
	same := bytes.HasSuffix(data, append([]byte("\r\n"), w.content(number)...))
	id := keyID.FindSubmatch(data)
	w.mu.Lock()
	defer w.mu.Unlock()
	if id == nil || w.letters[string(id[1])] == nil {
		w.wrongf("a message for %v arrived under an unknown key", to)
		return
	}
	p := w.letters[string(id[1])]
	if p.number != number || !same {
		w.wrongf("message %d is not what was sent", number)
	}
	for _, rcpt := range to {
		d, m := p.rcpts[rcpt], w.messages[number]
		if d == nil || numberOf(rcpt) != number {
			w.wrongf("message %d arrived at %s", number, rcpt)
			continue
		}
		d.arrived++
		m.arrived[rcpt]++
	}
}

// done reports whether no message is on its way.
func (w *world) done() bool {
	return w.sender.pending.Load() == 0 && w.wire.pending.Load() == 0
}

// busy is an answer that a mail server gives now and then after it has seen a
// whole message.
var busy = &smtp.SMTPError{Code: 451, EnhancedCode: smtp.EnhancedCode{4, 3, 2}, Message: "Busy, try again later"}

// linger waits a little, so that something can happen in the meantime.
func linger(most time.Duration) { time.Sleep(rand.N(most)) }
