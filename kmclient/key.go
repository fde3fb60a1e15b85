package kmclient

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/qkdmail/qkdmail/kmclient/internal/redact"
)

// MaxIDLength is the longest key ID, in octets, that a message can carry.
const MaxIDLength = 255

// State is where a key stands in its life.
type State string

// The states of a key, in the order in which it goes through them. Who tells
// a state tells what it knows: a key store sees messages, a key manager only
// who has fetched a key.
const (
	StateGenerated State = "generated" // made by the key manager
	StateStored    State = "stored"    // kept until it is asked for
	StateInUse     State = "in_use"    // handed out to encrypt or decrypt a message
	StateUsed      State = "used"      // has served: in a key store it has opened its message; at a mock somebody has fetched it by its ID
	StateClosed    State = "closed"    // deleted; its ID must not come back
)

// KeyInfo describes a key without its bytes.
type KeyInfo struct {
	ID    string    `json:"key_id"`
	Size  int       `json:"key_size"` // bits
	Time  time.Time `json:"timestamp"`
	State State     `json:"state"`
}

// A Key is a key with its ID. Printing, logging or marshalling one shows its
// ID and size, never its bytes: [Key.Reveal] and [Key.RevealJSON] are the only
// ways to them. A Key belongs to one goroutine at a time.
type Key struct {
	info   KeyInfo
	octets []byte
}

// NewKey returns a key handed out now. It takes over octets, which
// [Key.Wipe] will clear.
func NewKey(id string, octets []byte) *Key {
	return &Key{
		info:   KeyInfo{ID: id, Size: len(octets) * 8, Time: time.Now(), State: StateInUse},
		octets: octets,
	}
}

// ID returns the key ID as the key manager spelled it.
func (k *Key) ID() string { return k.info.ID }

// Size returns the size of the key in bits.
func (k *Key) Size() int { return k.info.Size }

// Info describes the key without its bytes.
func (k *Key) Info() KeyInfo { return k.info }

// SetState notes where the key stands in its life. It tells nobody.
func (k *Key) SetState(s State) { k.info.State = s }

// Reveal returns the bytes of the key, nil once it is wiped. They are the
// key's own, not a copy: the caller neither changes nor keeps them.
func (k *Key) Reveal() []byte { return k.octets }

// RevealJSON returns the key with its bytes, as the reference system writes
// it: {"key_id", "key" (base64), "key_size" (bits), "timestamp"}.
func (k *Key) RevealJSON() ([]byte, error) {
	return json.Marshal(struct {
		ID   string    `json:"key_id"`
		Key  string    `json:"key"`
		Size int       `json:"key_size"`
		Time time.Time `json:"timestamp"`
	}{k.info.ID, base64.StdEncoding.EncodeToString(k.octets), k.info.Size, k.info.Time})
}

// Wipe clears the bytes of the key; wiping twice does no harm.
func (k *Key) Wipe() {
	clear(k.octets)
	k.octets = nil
}

// WipeAll wipes every key of keys.
func WipeAll(keys []*Key) {
	for _, k := range keys {
		k.Wipe()
	}
}

// String returns the key's ID and size.
func (k *Key) String() string { return fmt.Sprintf("key %s (%d bits)", k.info.ID, k.info.Size) }

// Format prints the same as String for every verb, %#v and %x included.
func (k *Key) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, k.String()) }

// LogValue logs the key's ID and size.
func (k *Key) LogValue() slog.Value {
	return slog.GroupValue(slog.String("key_id", k.info.ID), slog.Int("key_size", k.info.Size))
}

// MarshalJSON writes the key without its bytes.
func (k *Key) MarshalJSON() ([]byte, error) { return json.Marshal(k.info) }

// CanonicalID returns the form of a key ID that is compared and indexed: lower
// case for an ID that is a UUID in any of its usual spellings (in braces, behind
// "urn:uuid:", without hyphens, in upper case), else the ID itself. Otherwise one key could be named twice by spelling its ID in two
// ways.
func CanonicalID(id string) string {
	// Parse alone takes any two octets for braces.
	if uuid.Validate(id) != nil {
		return id
	}
	u, err := uuid.Parse(id)
	if err != nil {
		return id
	}
	return u.String()
}

// CheckID reports whether id can name a key in a message: 1 to MaxIDLength
// octets of printable US-ASCII without blanks. The error is an ErrBadKey.
func CheckID(id string) error {
	if len(id) == 0 || len(id) > MaxIDLength {
		return fmt.Errorf("%w: a key ID of %d octets: must be 1 to %d", ErrBadKey, len(id), MaxIDLength)
	}
	if strings.ContainsFunc(id, func(r rune) bool { return r < 0x21 || r > 0x7E }) {
		return fmt.Errorf("%w: key ID %q: must be printable US-ASCII without blanks", ErrBadKey, redact.ID(id))
	}
	return nil
}
