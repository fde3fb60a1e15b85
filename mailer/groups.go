package mailer

import (
	"io"
	"log/slog"
	"slices"
	"sync"

	"github.com/emersion/go-smtp"
	"github.com/qkdmail/qkdmail/cipher"
	"github.com/qkdmail/qkdmail/mailer/internal/block"
	"github.com/qkdmail/qkdmail/mailer/internal/message"
	"github.com/qkdmail/qkdmail/mailer/internal/refusal"
)

// A group is the recipients of a transaction that get the same message, at most as many
// as one message can be sealed for.
type group struct {
	route  Route
	suite  cipher.Suite // the route's, or the one taken in its place
	next   smtp.Session
	keys   timedSource
	rcpts  []string
	done   outcome
	answer answer
}

// An outcome is what became of the message of a group, for the log.
type outcome struct {
	how   Outcome // if it is delivered
	suite cipher.Suite
	keyID string
	keys  int
	size  int64
}

func (o *outcome) attrs() []slog.Attr {
	attrs := append(make([]slog.Attr, 0, 10), slog.String("how", string(o.how)))
	if o.suite != "" {
		attrs = append(attrs, slog.String("suite", string(o.suite)), slog.String("key_id", o.keyID), slog.Int("keys", o.keys), slog.Int64("bytes", o.size))
	}
	return attrs
}

// report returns what became of the message of a group, if it was delivered.
func (g *group) report() Report {
	r := Report{
		Direction: DirectionEncrypt, Suite: g.done.suite, Outcome: g.done.how,
		Keys: g.done.keys, KeyWait: g.keys.waited, HopWait: g.answer.wait,
		Delivered: len(g.answer.delivered(g.rcpts)),
	}
	if g.route.Peer != nil {
		r.Peer = g.route.Peer.Name
	}
	return r
}

// groupOf returns the group of a recipient, a new one if need be. A group whose
// recipients were all refused does not count.
func (s *encryptSession) groupOf(route Route) (*group, error) {
	for _, g := range s.groups {
		if g.route.SameGroup(route) && (route.Mode == Never || len(g.rcpts) < cipher.MaxRecipients) {
			return g, nil
		}
	}
	if route.unencryptable() {
		return nil, unencryptable()
	}
	if route.Mode != Never && route.Peer == nil {
		return nil, refusal.New(451, smtp.EnhancedCode{4, 3, 5}, "no rule", "No rule says how this mail leaves, try again later")
	}
	if !s.step.LMTP {
		s.dropEmpty()
		if len(s.groups) > 0 {
			return nil, refusal.New(452, smtp.EnhancedCode{4, 5, 3}, "second group", "Another message for this recipient, please")
		}
	}
	return s.open(route)
}

// raise lets the triggers judge the header of a message. By then the next hop has
// accepted the recipients, so groups whose routes become the same stay apart.
func (s *encryptSession) raise(header []byte) {
	policy := s.step.Policy.Raised(s.from, header)
	for _, g := range s.groups {
		raised := policy.raise.of(g.route)
		if raised.Suite != g.route.Suite {
			g.suite = raised.Suite
		}
		g.route = raised
	}
}

// checkRaised refuses the message of a group that can't be protected as a trigger wants,
// before any of it leaves.
func (s *encryptSession) checkRaised(g *group) error {
	switch {
	case g.route.unencryptable():
		return unencryptable()
	case g.route.Trigger != "":
		return s.checkSize(g, len(g.rcpts))
	}
	return nil
}

// unencryptable reports whether a trigger wants mail encrypted, but there is no peer to
// encrypt it for.
func (r Route) unencryptable() bool { return r.Trigger != "" && r.Mode != Never && r.Peer == nil }

func unencryptable() *refusal.Refusal {
	return refusal.New(550, smtp.EnhancedCode{5, 7, 1}, "no peer", "This message must be sent encrypted, which is not possible for this recipient")
}

// triggerAttrs are the triggers that a message has pulled, for the log.
func (r Route) triggerAttrs() []slog.Attr {
	if r.Trigger == "" {
		return nil
	}
	return []slog.Attr{slog.String("trigger", r.Trigger)}
}

// dropEmpty ends the transactions that have no recipient.
func (s *encryptSession) dropEmpty() {
	s.groups = slices.DeleteFunc(s.groups, func(g *group) bool {
		if len(g.rcpts) == 0 {
			_ = g.next.Logout()
		}
		return len(g.rcpts) == 0
	})
}

// open begins a transaction with the next hop.
func (s *encryptSession) open(route Route) (*group, error) {
	next, err := s.begin()
	if err != nil {
		return nil, err
	}
	opts := s.opts
	if err := next.Mail(s.from, &opts); err != nil {
		_ = next.Logout()
		return nil, err
	}
	g := &group{route: route, suite: route.Suite, next: next, keys: timedSource{KeySource: s.o.Keys, take: s.take}}
	s.groups = append(s.groups, g)
	return g, nil
}

// runGroups encrypts and hands over for all groups at the same time, from one stream.
func (s *encryptSession) runGroups(h *message.Reader, mayBeEncrypted bool) {
	h.Pass()
	if len(s.groups) == 1 {
		s.run(s.groups[0], mayBeEncrypted, h)
		return
	}
	readers, feed := tee(h, len(s.groups))
	var wg sync.WaitGroup
	for i, g := range s.groups {
		wg.Go(func() {
			s.run(g, mayBeEncrypted, readers[i])
			_ = readers[i].CloseWithError(errNotRead)
		})
	}
	feed()
	wg.Wait()
}

func (s *encryptSession) run(g *group, mayBeEncrypted bool, src io.Reader) {
	g.answer = s.handOver(g.next, g.rcpts, func(dst io.Writer) error { return s.produce(g, mayBeEncrypted, src, dst) })
}

// tee returns n readers that get what run reads from src. A reader that is closed is
// left out; the others go on.
func tee(src io.Reader, n int) (readers []*io.PipeReader, run func()) {
	writers := make([]*io.PipeWriter, n)
	readers = make([]*io.PipeReader, n)
	for i := range n {
		readers[i], writers[i] = io.Pipe()
	}
	return readers, func() {
		b := block.Get()
		defer b.Free(len(b))
		buf := b[:]
		for {
			m, err := src.Read(buf)
			open := 0
			for i, w := range writers {
				if w == nil {
					continue
				}
				if m > 0 {
					if _, werr := w.Write(buf[:m]); werr != nil {
						writers[i] = nil
						continue
					}
				}
				open++
				if err != nil {
					_ = w.CloseWithError(err)
				}
			}
			if err != nil || open == 0 {
				return
			}
		}
	}
}
