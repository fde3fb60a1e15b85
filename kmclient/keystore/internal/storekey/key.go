// Package storekey is the key that seals the records of a store: how it seals one, and
// how a file holds it.
package storekey

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/qkdmail/qkdmail/kmclient"
)

// What a sealed value looks like:
//
//	version(1) ‖ generation of the store key(u32 big-endian) ‖ state(1) ‖ salt(32) ‖ AES-256-GCM
//
// Its key is HKDF-SHA256 of the store key and the salt, so it seals only one value and
// the nonce is zero. The store's ID, the record's name and everything before the salt
// are associated data: a value can't be moved to another record, store or state. But
// nobody notices if a whole record, or the whole store, is an older one.
const (
	version  = 1
	headSize = 1 + 4 + 1
	saltSize = 32
	tagSize  = 16
	info     = "qkdmail keystore/1 record"
)

// size is the size of a store key in bytes.
const size = 32

// A Key seals the records of a store. Printing it shows none of its bytes.
type Key struct{ bytes []byte }

// New returns a random key.
func New() Key {
	k := Key{make([]byte, size)}
	_, _ = rand.Read(k.bytes) // never fails
	return k
}

// Format prints no byte of the key, whatever the verb.
func (Key) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "store key") }

// Check refuses a key of the wrong size, such as the zero Key.
func (k Key) Check() error {
	if len(k.bytes) != size {
		return fmt.Errorf("%w: store key of %d bytes, must be %d", kmclient.ErrConfig, len(k.bytes), size)
	}
	return nil
}

// Equal reports whether two keys are the same.
func (k Key) Equal(o Key) bool { return bytes.Equal(k.bytes, o.bytes) }

// Clone returns a copy, which is wiped separately.
func (k Key) Clone() Key { return Key{bytes.Clone(k.bytes)} }

// Wipe clears the key.
func (k Key) Wipe() { clear(k.bytes) }

// A Place is where a sealed value belongs: it can't be opened for any other.
type Place struct {
	Store []byte // the store's ID
	Name  [4]string
}

// associated returns the associated data of a value; head is the value's beginning.
func (p Place) associated(head []byte) []byte {
	data := append([]byte(info), p.Store...)
	for _, part := range p.Name {
		data = binary.BigEndian.AppendUint16(data, uint16(len(part)))
		data = append(data, part...)
	}
	return append(data, head...)
}

// aead returns the cipher for the one value with this salt.
func (k Key) aead(salt []byte) (cipher.AEAD, error) {
	derived, err := hkdf.Key(sha256.New, k.bytes, salt, info, 32)
	if err != nil {
		return nil, err
	}
	defer clear(derived)
	block, err := aes.NewCipher(derived)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// Seal returns the sealed value for a place.
func (k Key) Seal(p Place, generation uint32, state byte, plain []byte) ([]byte, error) {
	value := make([]byte, headSize+saltSize, headSize+saltSize+len(plain)+tagSize)
	value[0] = version
	binary.BigEndian.PutUint32(value[1:], generation)
	value[5] = state
	_, _ = rand.Read(value[headSize:]) // never fails
	a, err := k.aead(value[headSize:])
	if err != nil {
		return nil, err
	}
	return a.Seal(value, make([]byte, a.NonceSize()), plain, p.associated(value[:headSize])), nil
}

// ErrValue: this is not a sealed value, or it belongs to another place or key.
var ErrValue = errors.New("bad sealed value")

// Generation returns which store key sealed a value.
func Generation(value []byte) (uint32, error) {
	if len(value) < headSize+saltSize+tagSize || value[0] != version {
		return 0, ErrValue
	}
	return binary.BigEndian.Uint32(value[1:]), nil
}

// Open returns the content of a sealed value. The caller clears it.
func (k Key) Open(p Place, value []byte) (state byte, plain []byte, err error) {
	if _, err := Generation(value); err != nil {
		return 0, nil, err
	}
	a, err := k.aead(value[headSize : headSize+saltSize])
	if err != nil {
		return 0, nil, err
	}
	plain, err = a.Open(nil, make([]byte, a.NonceSize()), value[headSize+saltSize:], p.associated(value[:headSize]))
	if err != nil {
		return 0, nil, ErrValue
	}
	return value[5], plain, nil
}
