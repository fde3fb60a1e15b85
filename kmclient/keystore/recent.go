package keystore

import (
	"errors"
	"github.com/qkdmail/qkdmail/kmclient"
	"sync"
	"time"
)

// A view says where records are taken from.
type view bool

const (
	asStored view = false // from the store
	asSeen   view = true  // from memory, if they are there; see [memory]
)

// errNotSeen: what is in memory is not enough, the store has to be read.
var errNotSeen = errors.New("record not seen lately")

// change makes a change of records as they were last seen. If that can't be, as
// they are.
func change(do func(from view) error) error {
	if err := do(asSeen); !errors.Is(err, errNotSeen) && !errors.Is(err, ErrConflict) {
		return err
	}
	return retry(func() error { return do(asStored) })
}

// Bounds of what is remembered: of each of two generations, and for how long.
const (
	recentRecords = 512
	recentOctets  = 2 << 20 // of values
	recentFor     = time.Minute
)

// A memory has the records that a process has read or written last, sealed as
// they are in the store, so that a message that is being worked on needs few
// reads. Others may have changed a record meanwhile. So what is remembered serves
// for three things only: as the Old of a change, which the store itself then
// compares with what it has; for what never changes again, that a key belongs to
// a message; and for the keys that a call itself has just stored. Whether a key
// is refused, or nothing has to be done, is decided by what has just been read.
type memory struct {
	mu         sync.Mutex
	young, old map[Name]seen // what does not fit into young any more makes it old
	octets     int           // of young
}

// seen is a record as it was at a time, nil if there was none.
type seen struct {
	record *Record
	at     time.Time
	bound  *kmclient.Identity // the message that the key belongs to; nil: see the record
}

// note remembers a record, nil if there is none of that name.
func (m *memory) note(name Name, r *Record) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.drop(name)
	octets := r.octets()
	if m.young == nil || len(m.young) == recentRecords || m.octets+octets > recentOctets {
		m.young, m.old, m.octets = map[Name]seen{}, m.young, 0
	}
	m.young[name] = seen{record: r, at: time.Now()}
	m.octets += octets
}

// octets is how much of a value there is in memory; the record may be nil.
func (r *Record) octets() int {
	if r == nil {
		return 0
	}
	return len(r.Value)
}

// drop takes a record out of young.
func (m *memory) drop(name Name) {
	m.octets -= m.young[name].record.octets()
	delete(m.young, name)
}

// forget is for a record of which it is not known what became of it.
func (m *memory) forget(name Name) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.drop(name)
	delete(m.old, name)
}

// recall returns a record as it was last seen, nil if there was none; ok says
// whether that was lately.
func (m *memory) recall(name Name) (r *Record, ok bool) {
	s, ok := m.recallSeen(name)
	return s.record, ok
}

func (m *memory) recallSeen(name Name) (s seen, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s, ok = m.young[name]
	if !ok {
		s, ok = m.old[name]
	}
	return s, ok && time.Since(s.at) < recentFor
}

// bind notes that the key whose record has just been noted belongs to a message,
// so that nobody has to unseal it for that.
func (m *memory) bind(name Name, identity kmclient.Identity) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if s, ok := m.young[name]; ok {
		s.bound = &identity
		m.young[name] = s
	}
}

// belongs reports whether a key is known to belong to a message.
func (m *memory) belongs(name Name, identity kmclient.Identity) bool {
	s, ok := m.recallSeen(name)
	return ok && s.bound != nil && *s.bound == identity
}

// clear forgets everything.
func (m *memory) clear() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.young, m.old, m.octets = nil, nil, 0
}
