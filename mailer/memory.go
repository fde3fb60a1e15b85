package mailer

import (
	"cmp"
	"sync/atomic"

	"github.com/emersion/go-smtp"
)

// messageMemory is what a message under way takes for one recipient group, in bytes:
// buffers for what comes, for what goes out and for the cipher between, however long
// it is. A header of more than a block takes more.
const messageMemory = 320 << 10

// keyMemory is what the ID of a key takes until its message is done, in bytes. A long
// pad of short keys has very many.
const keyMemory = 320

// A memory bounds what all messages under way take, in bytes.
type memory struct {
	limit atomic.Int64 // 0: any
	taken atomic.Int64
}

func newMemory(limit int64) *memory {
	m := new(memory)
	m.limit.Store(limit)
	return m
}

// take takes n bytes, or refuses.
func (m *memory) take(n int64) error {
	if limit := m.limit.Load(); m.taken.Add(n) > limit && limit > 0 {
		m.taken.Add(-n)
		return refuse(421, smtp.EnhancedCode{4, 3, 2}, "memory", "Too many messages at one time, try again later")
	}
	return nil
}

// give gives n bytes back.
func (m *memory) give(n int64) { m.taken.Add(-n) }

// MemoryBytes is Memory, or the default: messages with headers of usual size from all
// clients, and some with long ones.
func (l *LimitsConfig) MemoryBytes() int64 {
	return cmp.Or(l.Memory, int64(l.Connections)*messageMemory+32<<20)
}

// beginData takes n bytes of memory for a message, if that is not done: before DATA
// is answered where the server asks then, so that a message that can't be taken need
// not be sent.
func (s *session) beginData(n int64) error {
	if s.data {
		return nil
	}
	err := s.take(n)
	s.data = err == nil
	return err
}

// recipient takes the memory for a recipient who was accepted.
func (s *session) recipient(to string, opts *smtp.RcptOptions) error {
	n := 4*len(to) + 512 // he is in several lists
	if opts != nil {
		n += len(opts.OriginalRecipient)
	}
	return s.take(int64(n))
}

// take takes n bytes of memory until the transaction ends.
func (s *session) take(n int64) error {
	err := s.step.memory.take(n)
	if err == nil {
		s.taken.Add(n)
	}
	return err
}
