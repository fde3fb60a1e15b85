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

// MaxIDLength is the length in bytes of the longest key ID that a message can carry.
const MaxIDLength = 255

// A State is a stage in the life of a key.
type State string

// The states of a key, in order. A key store knows which message a key has opened; a
// key manager knows only that the key was fetched.
const (
	StateGenerated State = "generated" // made by the key manager
	StateStored    State = "stored"    // kept until it is asked for
	StateInUse     State = "in_use"    // given out to encrypt or decrypt a message
	StateUsed      State = "used"      // in a key store: has opened its message; at the mock: was fetched by its ID
	StateClosed    State = "closed"    // deleted; its ID must not come back
)

// KeyInfo describes a key without its bytes.
type KeyInfo struct {
	ID    string    `json:"key_id"`
	Size  int       `json:"key_size"` // bits
	Time  time.Time `json:"timestamp"`
	State State     `json:"state"`
}

// A Key is a key with its ID. Printing, logging or marshaling it shows its ID and
// size; only [Key.Reveal] and [Key.RevealJSON] show its bytes. A Key must not be
// used by several goroutines at the same time.
type Key struct {
	info   KeyInfo
	secret []byte
}

// NewKey returns a key that is being given out now, in StateInUse. It takes ownership
// of secret, the bytes of the key, which [Key.Wipe] clears.
func NewKey(id string, secret []byte) *Key {
	return &Key{
		info:   KeyInfo{ID: id, Size: len(secret) * 8, Time: time.Now(), State: StateInUse},
		secret: secret,
	}
}

// ID returns the key ID as the key manager spells it.
func (k *Key) ID() string { return k.info.ID }

// Size returns the size of the key in bits.
func (k *Key) Size() int { return k.info.Size }

// Info describes the key without its bytes.
func (k *Key) Info() KeyInfo { return k.info }

// SetState sets the state of this Key; it does not tell the key manager.
func (k *Key) SetState(s State) { k.info.State = s }

// Reveal returns the bytes of the key, or nil after [Key.Wipe]. They are not a
// copy: the caller must neither change nor keep them.
func (k *Key) Reveal() []byte { return k.secret }

// RevealJSON returns the key and its bytes as the reference system writes them, with
// the members "key_id", "key" (base64), "key_size" (bits) and "timestamp".
func (k *Key) RevealJSON() ([]byte, error) {
	return json.Marshal(struct {
		ID   string    `json:"key_id"`
		Key  string    `json:"key"`
		Size int       `json:"key_size"`
		Time time.Time `json:"timestamp"`
	}{k.info.ID, base64.StdEncoding.EncodeToString(k.secret), k.info.Size, k.info.Time})
}

// Wipe clears the bytes of the key. It may be called more than once.
func (k *Key) Wipe() {
	clear(k.secret)
	k.secret = nil
}

// WipeAll wipes all keys.
func WipeAll(keys []*Key) {
	for _, k := range keys {
		k.Wipe()
	}
}

// String returns the key's ID and size.
func (k *Key) String() string { return fmt.Sprintf("key %s (%d bits)", k.info.ID, k.info.Size) }

// Format prints what String returns for every verb, including %#v and %x.
func (k *Key) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, k.String()) }

// LogValue logs the key's ID and size.
func (k *Key) LogValue() slog.Value {
	return slog.GroupValue(slog.String("key_id", k.info.ID), slog.Int("key_size", k.info.Size))
}

// MarshalJSON writes the key without its bytes.
func (k *Key) MarshalJSON() ([]byte, error) { return json.Marshal(k.info) }

// CanonicalID returns the form in which a key ID is compared and indexed. For a UUID in
// any usual spelling (upper case, in braces, after "urn:uuid:", without hyphens), this
// is the UUID in lower case, so that two spellings don't name two keys. Any other ID is
// returned as it is.
func CanonicalID(id string) string {
	// Parse alone accepts any two bytes as braces.
	if uuid.Validate(id) != nil {
		return id
	}
	u, err := uuid.Parse(id)
	if err != nil {
		return id
	}
	return u.String()
}

// CheckID reports whether id can name a key in a message: 1 to MaxIDLength bytes of
// printable US-ASCII without spaces. The error wraps ErrBadKey.
func CheckID(id string) error {
	if len(id) == 0 || len(id) > MaxIDLength {
		return fmt.Errorf("%w: a key ID of %d bytes: must be 1 to %d", ErrBadKey, len(id), MaxIDLength)
	}
	if strings.ContainsFunc(id, func(r rune) bool { return r < 0x21 || r > 0x7E }) {
		return fmt.Errorf("%w: key ID %q: must be printable US-ASCII without spaces", ErrBadKey, redact.ID(id))
	}
	return nil
}
