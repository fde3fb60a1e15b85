package keystore

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
)

// What a sealed value looks like:
//
//	version(1) ‖ generation of the store key(u32 big-endian) ‖ state(1) ‖ salt(32) ‖ AES-256-GCM
//
// Its key is HKDF-SHA256 of the store key and the salt, so it seals one value
// only and the nonce is zero. The store's ID, the record's name and all that
// stands before the salt are associated data: a value can't be moved to another
// record, another store or another state. That a whole record, or the whole
// store, is an older one nobody can tell.
const (
	sealVersion = 1
	sealHead    = 1 + 4 + 1
	saltSize    = 32
	sealTag     = 16
	sealInfo    = "qkdmail keystore/1 record"
)

// storeKeySize is the size of a store key in octets.
const storeKeySize = 32

// A StoreKey seals the records of a store. It prints as nothing.
type StoreKey struct{ octets []byte }

// NewStoreKey returns a random one.
func NewStoreKey() StoreKey {
	k := StoreKey{make([]byte, storeKeySize)}
	_, _ = rand.Read(k.octets) // never fails
	return k
}

// Format prints no octet, whatever the verb.
func (StoreKey) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "store key") }

// aead returns what seals the one record with this salt.
func (k StoreKey) aead(salt []byte) (cipher.AEAD, error) {
	derived, err := hkdf.Key(sha256.New, k.octets, salt, sealInfo, 32)
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

// associated returns the associated data of a record; head is how its value
// begins.
func associated(store []byte, n Name, head []byte) []byte {
	data := append([]byte(sealInfo), store...)
	for _, part := range n.parts() {
		data = binary.BigEndian.AppendUint16(data, uint16(len(part)))
		data = append(data, part...)
	}
	return append(data, head...)
}

// seal returns the value of a record of this store.
func (k StoreKey) seal(store []byte, generation uint32, n Name, state byte, plain []byte) ([]byte, error) {
	value := make([]byte, sealHead+saltSize, sealHead+saltSize+len(plain)+sealTag)
	value[0] = sealVersion
	binary.BigEndian.PutUint32(value[1:], generation)
	value[5] = state
	_, _ = rand.Read(value[sealHead:]) // never fails
	a, err := k.aead(value[sealHead:])
	if err != nil {
		return nil, err
	}
	return a.Seal(value, make([]byte, a.NonceSize()), plain, associated(store, n, value[:sealHead])), nil
}

// generationOf returns which store key has sealed a value.
func generationOf(value []byte) (uint32, error) {
	if len(value) < sealHead+saltSize+sealTag || value[0] != sealVersion {
		return 0, errRecord
	}
	return binary.BigEndian.Uint32(value[1:]), nil
}

// unseal returns the content of a value that generationOf has let pass. The
// caller clears it.
func (k StoreKey) unseal(store []byte, n Name, value []byte) (state byte, plain []byte, err error) {
	a, err := k.aead(value[sealHead : sealHead+saltSize])
	if err != nil {
		return 0, nil, err
	}
	plain, err = a.Open(nil, make([]byte, a.NonceSize()), value[sealHead+saltSize:], associated(store, n, value[:sealHead]))
	if err != nil {
		return 0, nil, errRecord
	}
	return value[5], plain, nil
}
