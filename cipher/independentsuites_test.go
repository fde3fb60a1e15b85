package cipher_test

// The suites of the independent reader: see independent_test.go.

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"encoding/hex"
	"math/big"
	"slices"
	"testing"
)

// ---- §5 AES-256-GCM

func (r *indReader) openGCM(payload []byte, control map[string]string, secret []byte) ([]byte, error) {
	const full = indPiece + 16
	if len(payload) < 64+16 {
		return nil, indDamaged("payload of %d bytes", len(payload))
	}
	salt, commitment, chunks := payload[:32], payload[32:64], payload[64:]
	// The last chunk: whole, with a tag, and not empty after others.
	if last := len(chunks) % full; len(chunks) > full && last > 0 && last <= 16 {
		return nil, indDamaged("last chunk of %d bytes", last)
	}
	key, err := r.key(control["key-id"])
	if err != nil {
		return nil, err
	}
	if len(key) != 32 {
		return nil, indErr(errIndKey, "%d bytes", len(key))
	}
	prk := indMust(hkdf.Extract(sha256.New, slices.Concat(secret, key), salt)) // §10.4
	derive := func(label string) []byte {
		info := label + "\x00" + string(indControlOctets(control))
		return indMust(hkdf.Expand(sha256.New, prk, info, 32))
	}
	if subtle.ConstantTimeCompare(derive("qkdmail/1 A256GCM commitment"), commitment) != 1 {
		return nil, indErr(errIndKey, "commitment")
	}
	gcm := indMust(cipher.NewGCM(indMust(aes.NewCipher(derive("qkdmail/1 A256GCM chunks")))))
	var plaintext []byte
	for i := uint64(0); len(chunks) > 0; i++ {
		n := min(full, len(chunks))
		nonce := make([]byte, 12)
		binary.BigEndian.PutUint64(nonce[3:], i)
		if n == len(chunks) {
			nonce[11] = 1
		}
		if plaintext, err = gcm.Open(plaintext, nonce, chunks[:n], nil); err != nil {
			return nil, indErr(errIndAltered, "chunk %d", i)
		}
		chunks = chunks[n:]
	}
	return plaintext, nil
}

// ---- §6 OTP

// indFrame is one frame.
type indFrame struct {
	number             uint64
	last               bool
	ids                []string
	header, ciphertext []byte
	tag                []byte
}

// indTaker takes bytes off the front of a payload.
type indTaker struct{ rest []byte }

// take returns the next n bytes, or nil if fewer are left.
func (t *indTaker) take(n int) (taken []byte) {
	if n <= len(t.rest) {
		taken, t.rest = t.rest[:n:n], t.rest[n:]
	}
	return taken
}

func (r *indReader) openOTP(payload []byte, control map[string]string, secret []byte) ([]byte, error) {
	var plaintext []byte
	seen := map[string]bool{} // key IDs by value
	spelled := 0              // size of all IDs, in bytes
	t := &indTaker{payload}
	for number := uint64(0); ; number++ {
		f, err := indTakeFrame(t, number)
		if err != nil {
			return nil, err
		}
		for _, id := range f.ids {
			spelled += len(id)
			if seen[indIDValue(id)] || len(seen) == indMaxKeys || spelled > indMaxIDs {
				return nil, indDamaged("frame %d: key %q twice, or too many keys", number, id)
			}
			seen[indIDValue(id)] = true
		}
		if number == 0 && indIDValue(f.ids[0]) != indIDValue(control["key-id"]) {
			return nil, indDamaged("the first key is not the Key-ID")
		}
		// No key is asked for if the message is refused anyway (§6, §8).
		if f.last != (len(t.rest) == 0) {
			return nil, indDamaged("something follows the last frame, or no frame follows another")
		}
		piece, err := r.openFrame(f, control, secret)
		if err != nil {
			return nil, err
		}
		plaintext = append(plaintext, piece...)
		if f.last {
			return plaintext, nil
		}
	}
}

// indTakeFrame reads a frame.
func indTakeFrame(t *indTaker, number uint64) (*indFrame, error) {
	whole := t.rest
	head := t.take(2)
	if head == nil || head[0] > 1 || head[1] == 0 {
		return nil, indDamaged("frame %d: flags or number of keys", number)
	}
	f := &indFrame{number: number, last: head[0] == 1}
	for range head[1] {
		id, err := indTakeID(t)
		if err != nil {
			return nil, err
		}
		f.ids = append(f.ids, id)
	}
	size := t.take(4)
	if size == nil {
		return nil, indDamaged("frame %d ends in its header", number)
	}
	length := binary.BigEndian.Uint32(size)
	if length > indPiece || length == 0 && !(number == 0 && f.last) {
		return nil, indDamaged("frame %d: length %d", number, length)
	}
	f.header = whole[:len(whole)-len(t.rest)]
	f.ciphertext = t.take(int(length))
	f.tag = t.take(16)
	if f.ciphertext == nil || f.tag == nil {
		return nil, indDamaged("frame %d is cut short", number)
	}
	return f, nil
}

// frameKeys returns the keys of a frame.
func (r *indReader) frameKeys(f *indFrame) ([][]byte, error) {
	var keys [][]byte
	answer := map[string]bool{}
	for i, id := range f.ids {
		key, err := r.key(id)
		if err != nil {
			return nil, err
		}
		if len(key) < 16 || i == 0 && len(key) < 32 || answer[string(key)] {
			return nil, indErr(errIndKey, "%q is too short or comes twice", id)
		}
		answer[string(key)] = true
		keys = append(keys, key)
	}
	return keys, nil
}

// openFrame verifies and decrypts a frame.
func (r *indReader) openFrame(f *indFrame, control map[string]string, secret []byte) ([]byte, error) {
	keys, err := r.frameKeys(f)
	if err != nil {
		return nil, err
	}
	first, pad := keys[0], slices.Clone(keys[0][32:])
	for _, key := range keys[1:] {
		pad = append(pad, key[16:]...)
	}
	if len(pad) < len(f.ciphertext) {
		return nil, indErr(errIndKey, "frame %d: too little pad", f.number)
	}
	plaintext := make([]byte, len(f.ciphertext))
	for i, c := range f.ciphertext {
		plaintext[i] = c ^ pad[i]
	}
	if secret == nil {
		data := f.data(control, f.ciphertext)
		if subtle.ConstantTimeCompare(indPoly1305(first[16:32], first[:16], data), f.tag) != 1 {
			return nil, indErr(errIndAltered, "frame %d", f.number)
		}
		return plaintext, nil
	}
	stream, second := indStream(secret, f.number), make([]byte, 32) // §10.5
	stream.XORKeyStream(second, second)
	stream.XORKeyStream(plaintext, plaintext)
	tag := indPoly1305(first[16:32], first[:16], slices.Concat(r.begin, f.data(control, f.ciphertext)))
	subtle.XORBytes(tag, tag, indPoly1305(second[16:], second[:16], slices.Concat(r.begin, f.data(control, plaintext))))
	if subtle.ConstantTimeCompare(tag, f.tag) != 1 {
		return nil, indErr(errIndAltered, "frame %d", f.number)
	}
	return plaintext, nil
}

// data returns what the tag of a frame covers.
func (f *indFrame) data(control map[string]string, text []byte) []byte {
	var data, lengths []byte
	for _, x := range [][]byte{indControlOctets(control), f.header, text} {
		data = append(append(data, x...), make([]byte, (16-len(x)%16)%16)...)
		lengths = binary.LittleEndian.AppendUint64(lengths, uint64(len(x)))
	}
	return binary.LittleEndian.AppendUint64(append(data, lengths...), f.number)
}

// indTakeID reads one key ID of a frame header.
func indTakeID(t *indTaker) (string, error) {
	size := t.take(1)
	if size == nil {
		return "", indDamaged("cut short before a key ID")
	}
	if size[0] == 0 {
		value := t.take(16)
		if value == nil {
			return "", indDamaged("cut short in a UUID")
		}
		return indSpellUUID(hex.EncodeToString(value)), nil
	}
	id := string(t.take(int(size[0])))
	if !indVisible(id) {
		return "", indDamaged("key ID %q", id)
	}
	return id, nil
}

// indPoly1305 computes the tag of RFC 8439 §2.5, with big integers.
func indPoly1305(r, s, data []byte) []byte {
	number := func(littleEndian []byte) *big.Int {
		b := slices.Clone(littleEndian)
		slices.Reverse(b)
		return new(big.Int).SetBytes(b)
	}
	clamp, _ := new(big.Int).SetString("0ffffffc0ffffffc0ffffffc0fffffff", 16)
	p, _ := new(big.Int).SetString("3fffffffffffffffffffffffffffffffb", 16) // 2^130-5
	rr := number(r)
	rr.And(rr, clamp)
	acc := new(big.Int)
	for block := range slices.Chunk(data, 16) {
		acc.Add(acc, number(append(slices.Clone(block), 1)))
		acc.Mul(acc, rr).Mod(acc, p)
	}
	acc.Add(acc, number(s))
	tag := acc.FillBytes(make([]byte, 17))[1:] // modulo 2^128; acc is below 2^131
	slices.Reverse(tag)
	return tag
}

// TestIndependentPoly1305 checks the vector of RFC 8439 §2.5.2.
func TestIndependentPoly1305(t *testing.T) {
	key, _ := hex.DecodeString("85d6be7857556d337f4452fe42d506a80103808afb0db2fd4abff6af4149f51b")
	tag := indPoly1305(key[:16], key[16:], []byte("Cryptographic Forum Research Group"))
	if got := hex.EncodeToString(tag); got != "a8061dc1305136c6c22b8baf0c0127a9" {
		t.Error("tag", got)
	}
}
