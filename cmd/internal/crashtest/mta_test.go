package crashtest

import (
	"errors"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
)

// An mta is a mail system that sends to relays: it keeps a message until they
// have answered, tries again after 4xx and after a lost connection, and gives up
// after 5xx. It has many connections open, and picks one of the relays for each
// try.
type mta struct {
	relays []*relay
	lmtp   bool
	order  *order

	// answered is called after each try, before the next try of the same job.
	answered func(*job, *try)
	// refused is called for recipients that will not get the message.
	refused func(j *job, rcpt, why string)

	calm    atomic.Bool  // nothing goes wrong any longer: a refusal now is final
	pending atomic.Int64 // unfinished jobs

	mu      sync.Mutex
	filled  *sync.Cond
	queue   []*job
	ended   bool
	replies map[string]int // temporary ones, by text
	random  *rand.Rand
}

// A job is a transaction to be made.
type job struct {
	letter *letter
	rcpts  []string
	kind   kind
	tries  int
	vain   map[*relay]bool // relays that had no key for it once all was calm
}

// A letter is a message with its envelope.
type letter struct {
	number int    // of the message
	key    string // the first key ID, of an encrypted one
	from   string
	data   []byte
}

// A kind is the reason for a transaction.
type kind int

const (
	ordinary kind = iota
	repeated      // sent again although it was answered with 250
	forged        // with one character changed
)

// A try is a transaction that was made.
type try struct {
	span
	relay   *relay
	dot     bool // the whole message was sent
	answers map[string]answer
}

// An answer is the reply for a recipient.
type answer struct {
	code int // 0: there was none
	text string
}

func newMTA(t testing.TB, o *order, seed uint64, relays []*relay, lmtp bool, workers int) *mta {
	t.Helper()
	m := &mta{relays: relays, lmtp: lmtp, order: o, random: rand.New(rand.NewPCG(seed, 1)), replies: map[string]int{}}
	m.filled = sync.NewCond(&m.mu)
	var all sync.WaitGroup
	for range workers {
		all.Go(m.work)
	}
	t.Cleanup(func() {
		m.mu.Lock()
		m.ended = true
		m.mu.Unlock()
		m.filled.Broadcast()
		for _, r := range relays {
			r.stop() // ends what is under way
		}
		all.Wait()
	})
	return m
}

// add puts a job into the queue.
func (m *mta) add(j *job) {
	m.pending.Add(1)
	m.push(j)
}

func (m *mta) push(j *job) {
	m.mu.Lock()
	m.queue = append(m.queue, j)
	m.mu.Unlock()
	m.filled.Signal()
}

// next takes a job and chooses a relay for it.
func (m *mta) next() (*job, *relay) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for len(m.queue) == 0 && !m.ended {
		m.filled.Wait()
	}
	if m.ended {
		return nil, nil
	}
	j := m.queue[0]
	m.queue = m.queue[1:]
	return j, m.relays[m.random.IntN(len(m.relays))]
}

// chance returns true with probability p.
func (m *mta) chance(p float64) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.random.Float64() < p
}

func (m *mta) pause(most time.Duration) time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	return time.Duration(m.random.Int64N(int64(most)))
}

func (m *mta) work() {
	conns := map[*relay]*smtp.Client{}
	defer func() {
		for _, c := range conns {
			_ = c.Close()
		}
	}()
	for {
		j, r := m.next()
		if j == nil {
			return
		}
		m.settle(j, m.transact(conns, r, j))
	}
}

// settle acts on the answers to a try.
func (m *mta) settle(j *job, t *try) {
	j.tries++
	m.answered(j, t)
	again := &job{letter: j.letter, kind: j.kind, tries: j.tries, vain: j.vain}
	notHere := false
	for rcpt, a := range t.answers {
		switch {
		case a.code/100 == 2:
		case a.code/100 == 5:
			m.refused(j, rcpt, a.text)
		default:
			m.note(a)
			again.rcpts = append(again.rcpts, rcpt)
			notHere = notHere || a.code == 451 && a.text == keyNotHere
		}
	}
	if len(again.rcpts) == 0 || j.kind == forged && j.tries > 3 {
		m.pending.Add(-1)
		return
	}
	if notHere && m.calm.Load() && m.inVain(again, t.relay) {
		for _, rcpt := range again.rcpts {
			m.refused(again, rcpt, keyNotHere)
		}
		m.pending.Add(-1)
		return
	}
	pause := 20*time.Millisecond + m.pause(100*time.Millisecond)
	if notHere {
		pause *= 5
	}
	time.AfterFunc(pause, func() { m.push(again) })
}

// note counts a temporary reply.
func (m *mta) note(a answer) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.replies[a.text]++
}

// replied returns how often relays have given a temporary reply.
func (m *mta) replied(text string) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.replies[text]
}

// keyNotHere is the reply of a relay that can't find a key.
const keyNotHere = "The key of this message is not here yet, try again later"

// inVain notes that a relay has no key for a job, and reports whether no relay
// has one: more time would not help.
func (m *mta) inVain(j *job, r *relay) bool {
	if j.vain == nil {
		j.vain = map[*relay]bool{}
	}
	j.vain[r] = true
	return len(j.vain) == len(m.relays)
}

// transact offers a message to a relay.
func (m *mta) transact(conns map[*relay]*smtp.Client, r *relay, j *job) *try {
	t := &try{relay: r, answers: map[string]answer{}}
	for _, rcpt := range j.rcpts {
		t.answers[rcpt] = answer{}
	}
	t.from = m.order.now()
	defer func() { t.to = m.order.now() }()
	c := conns[r]
	if c == nil {
		conn, err := net.Dial("tcp", r.addr)
		if err != nil {
			return t
		}
		if c = smtp.NewClient(conn); m.lmtp {
			c = smtp.NewClientLMTP(conn)
		}
	}
	delete(conns, r)
	if err := m.send(c, j, t); err != nil {
		_ = c.Close()
		return t
	}
	conns[r] = c // may be used again
	return t
}

// send makes a transaction; an error ends the connection.
func (m *mta) send(c *smtp.Client, j *job, t *try) error {
	if err := c.Mail(j.letter.from, nil); err != nil {
		t.all(err)
		return err
	}
	for _, rcpt := range j.rcpts {
		if err := c.Rcpt(rcpt, nil); err != nil {
			t.answer(rcpt, err)
			return err // the other recipients get another connection
		}
	}
	w, err := c.Data()
	if err != nil {
		t.all(err)
		return err
	}
	data := j.letter.data
	if j.kind == forged {
		data = forge(data)
	}
	if _, err := w.Write(data); err != nil {
		return err
	}
	t.dot = true
	if !m.lmtp {
		_, err := w.CloseWithResponse()
		t.all(err)
		return err
	}
	taken, err := w.CloseWithLMTPResponse()
	for rcpt := range taken {
		t.answer(rcpt, nil)
	}
	var some smtp.LMTPDataError
	if errors.As(err, &some) {
		for rcpt, refused := range some {
			t.answer(rcpt, refused)
		}
	}
	return err
}

func (t *try) all(err error) {
	for rcpt := range t.answers {
		t.answer(rcpt, err)
	}
}

// answer notes a recipient's reply, or that there was none.
func (t *try) answer(rcpt string, err error) {
	var reply *smtp.SMTPError
	switch {
	case err == nil:
		t.answers[rcpt] = answer{code: 250}
	case errors.As(err, &reply):
		t.answers[rcpt] = answer{reply.Code, strings.TrimPrefix(reply.Message, "<"+rcpt+"> ")} // as LMTP has it
	}
}
