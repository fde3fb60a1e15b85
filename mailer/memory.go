package mailer

import (
	"sync/atomic"

	"github.com/emersion/go-smtp"
	"github.com/qkdmail/qkdmail/mailer/internal/refusal"
)

// MessageMemory is the memory in bytes that a message under way takes for one group of
// recipients, however long the message is: buffers for input, output and the cipher
// between them. A header longer than a block takes more.
const MessageMemory = 320 << 10

// keyMemory is the memory in bytes that the ID of a key takes until its message is done.
// A long pad of short keys has very many IDs.
const keyMemory = 320

// A Memory bounds the memory of all messages under way, in one step or in several. The
// zero value sets no bound.
type Memory struct {
	limit atomic.Int64 // in bytes; 0: any
	taken atomic.Int64
}

// SetLimit sets the bound, in bytes, for messages that come from now on; 0: no bound.
func (m *Memory) SetLimit(n int64) { m.limit.Store(n) }

// take takes n bytes, or refuses. A 421 would also end the answers to other recipients,
// who may have the message.
func (m *Memory) take(n int64) error {
	if limit := m.limit.Load(); m.taken.Add(n) > limit && limit > 0 {
		m.taken.Add(-n)
		return refusal.New(451, smtp.EnhancedCode{4, 3, 2}, "memory", "Too many messages at one time, try again later")
	}
	return nil
}

// give gives n bytes back.
func (m *Memory) give(n int64) { m.taken.Add(-n) }

// beginData takes n bytes of memory for a message, if that is not done yet. Some servers
// call it before they answer DATA, so that a message that can't be accepted need not be
// sent.
func (s *session) beginData(n int64) error {
	if s.data {
		return nil
	}
	err := s.take(n)
	s.data = err == nil
	return err
}

// recipient passes a recipient on to a session of the next hop, if there is memory, which
// stays taken if the recipient is accepted. It is taken first: the next hop can't forget
// one recipient, and would deliver to one who was refused here.
func (s *session) recipient(next smtp.Session, to string, opts *smtp.RcptOptions) error {
	n := int64(4*len(to) + 512 + maxSaid) // it is in several lists, and what the next hop says to it
	if opts != nil {
		n += int64(len(opts.OriginalRecipient))
	}
	if err := s.take(n); err != nil {
		return err
	}
	err := next.Rcpt(to, opts)
	if err != nil {
		s.taken.Add(-n)
		s.step.Memory.give(n)
	}
	return err
}

// take takes n bytes of memory until the transaction ends.
func (s *session) take(n int64) error {
	err := s.step.Memory.take(n)
	if err == nil {
		s.taken.Add(n)
	}
	return err
}
