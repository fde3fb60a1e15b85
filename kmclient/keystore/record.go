package keystore

import (
	"encoding/binary"
	"errors"
	"slices"
	"time"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/keystore/internal/engine"
	"github.com/qkdmail/qkdmail/kmclient/keystore/internal/sealed"
)

// maxKeySize is the largest key that can be stored, in bits.
const maxKeySize = 8 << 20

var errBadRecord = errors.New("bad record")

// A keyRecord is what is known about a receiving key.
type keyRecord struct {
	state    kmclient.State
	spelled  string // the ID as it was first asked for
	peer     string // SAE ID of the sender
	size     int    // bits; kept when the key is closed
	stored   time.Time
	inUse    time.Time
	used     time.Time // zero: bound to no message
	closed   time.Time
	identity kmclient.Identity // of the message that it is bound to
	frame    uint64
	atKM     bool // closed here, but not yet at the key manager
	bytes    []byte

	raw *engine.Record // the record it came from; nil: it is new
}

// states are the states of a stored key, by their numbers in a record.
func states() []kmclient.State {
	return []kmclient.State{"", kmclient.StateStored, kmclient.StateInUse, kmclient.StateUsed, kmclient.StateClosed}
}

// encode returns the plaintext of the record. The caller clears it.
func (k *keyRecord) encode() (state byte, plain []byte) {
	plain = make([]byte, 0, 128+len(k.spelled)+len(k.peer)+len(k.bytes))
	plain = append(plain, 1, bit(k.atKM))
	for _, t := range []time.Time{k.stored, k.inUse, k.used, k.closed} {
		plain = appendTime(plain, t)
	}
	plain = append(plain, k.identity[:]...)
	plain = binary.BigEndian.AppendUint64(plain, k.frame)
	plain = binary.BigEndian.AppendUint32(plain, uint32(k.size))
	plain = appendText(plain, k.spelled)
	plain = appendText(plain, k.peer)
	return byte(slices.Index(states(), k.state)), append(plain, k.bytes...)
}

// decodeKey is the reverse of encode. The record has its own copy of the bytes.
func decodeKey(state byte, plain []byte) (*keyRecord, error) {
	d := decoder{plain}
	version, atKM := d.uint8(), d.uint8()
	k := &keyRecord{atKM: atKM == 1}
	for _, t := range []*time.Time{&k.stored, &k.inUse, &k.used, &k.closed} {
		*t = d.time()
	}
	copy(k.identity[:], d.take(len(k.identity)))
	k.frame = d.uint64()
	k.size = int(d.uint32())
	k.spelled, k.peer = d.text(), d.text()
	if d.rest == nil || version != 1 || atKM > 1 || state < 1 || int(state) >= len(states()) {
		return nil, errBadRecord
	}
	k.state = states()[state]
	live := k.size/8 == len(d.rest) && len(d.rest) > 0
	if k.size%8 != 0 || k.size > maxKeySize || live == (k.state == kmclient.StateClosed) {
		return nil, errBadRecord
	}
	k.bytes = slices.Clone(d.rest)
	return k, nil
}

// key returns the key under the ID that it was asked for with.
func (k *keyRecord) key(id string) *kmclient.Key { return kmclient.NewKey(id, slices.Clone(k.bytes)) }

// bound reports whether a key belongs to a message; that never changes again.
func (k *keyRecord) bound() bool { return k != nil && !k.used.IsZero() }

// belongs reports whether a key belongs to the message with this identity.
func (k *keyRecord) belongs(identity kmclient.Identity) bool {
	return k.bound() && k.identity == identity
}

func (k *keyRecord) wipe() {
	if k != nil {
		clear(k.bytes)
	}
}

// A messageRecord records who has received a message.
type messageRecord struct {
	first, last time.Time // deliveries
	key         string    // ID in the name of the record of one of its keys; "": an old record names none
	rcpts       []sealed.Recipient

	raw *engine.Record // the record it came from; nil: it is new
}

func (m *messageRecord) encode() []byte {
	plain := make([]byte, 0, 64+sealed.RecipientSize*len(m.rcpts))
	plain = appendTime(appendTime(append(plain, 2), m.first), m.last)
	plain = appendText(plain, m.key)
	for _, r := range m.rcpts {
		plain = append(plain, r[:]...)
	}
	return plain
}

func decodeMessage(plain []byte) (*messageRecord, error) {
	d := decoder{plain}
	version := d.uint8()
	m := &messageRecord{first: d.time(), last: d.time()}
	if version > 1 {
		m.key = d.text()
	}
	if d.rest == nil || version < 1 || version > 2 || len(d.rest)%sealed.RecipientSize != 0 {
		return nil, errBadRecord
	}
	for r := range slices.Chunk(d.rest, sealed.RecipientSize) {
		m.rcpts = append(m.rcpts, sealed.Recipient(r))
	}
	return m, nil
}

func (m *messageRecord) has(rcpt sealed.Recipient) bool {
	return m != nil && slices.Contains(m.rcpts, rcpt)
}

func bit(b bool) byte {
	if b {
		return 1
	}
	return 0
}

func appendTime(b []byte, t time.Time) []byte {
	var micro int64
	if !t.IsZero() {
		micro = t.UnixMicro()
	}
	return binary.BigEndian.AppendUint64(b, uint64(micro))
}

func appendText(b []byte, s string) []byte {
	return append(append(b, byte(len(s))), s...) // at most 255 bytes: see KeysByID
}

// A decoder cuts parts off the beginning of rest, which becomes nil once there is not
// enough.
type decoder struct{ rest []byte }

func (d *decoder) take(n int) []byte {
	if d.rest == nil || len(d.rest) < n {
		d.rest = nil
		return make([]byte, min(n, 256))
	}
	part := d.rest[:n]
	d.rest = d.rest[n:]
	return part
}

func (d *decoder) uint8() byte    { return d.take(1)[0] }
func (d *decoder) uint32() uint32 { return binary.BigEndian.Uint32(d.take(4)) }
func (d *decoder) uint64() uint64 { return binary.BigEndian.Uint64(d.take(8)) }
func (d *decoder) text() string   { return string(d.take(int(d.uint8()))) }

func (d *decoder) time() time.Time {
	if micro := int64(d.uint64()); micro != 0 {
		return time.UnixMicro(micro)
	}
	return time.Time{}
}

// newKeyRecord returns the record of a key that has just arrived for peer.
func newKeyRecord(peer string, k *kmclient.Key, now time.Time) *keyRecord {
	return &keyRecord{
		state: kmclient.StateInUse, spelled: k.ID(), peer: peer, size: k.Size(),
		stored: now, inUse: now, bytes: slices.Clone(k.Reveal()),
	}
}
