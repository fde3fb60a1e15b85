package cipher_test

import (
	"bytes"
	"context"
	"crypto/aes"
	stdcipher "crypto/cipher"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/qkdmail/qkdmail/cipher"
	"github.com/qkdmail/qkdmail/kmclient"
	//lint:ignore SA1019 what the OTP suite is measured against
	"golang.org/x/crypto/poly1305"
)

// A derivedKM derives each key from its ID, so that it holds none and costs
// little. For measurements only.
type derivedKM struct {
	block stdcipher.Block
	next  uint64
}

func newDerivedKM() *derivedKM {
	block, err := aes.NewCipher(make([]byte, 16))
	if err != nil {
		panic(err)
	}
	return &derivedKM{block: block}
}

func (km *derivedKM) Status(context.Context, string) (kmclient.Status, error) {
	return kmclient.Status{MaxKeySize: derivedSize}, nil
}

// derivedSize is the only size of a key for the pad, in bits: a frame's.
const derivedSize = 8 * (65536 + 32)

func (km *derivedKM) key(id uuid.UUID, size int) *kmclient.Key {
	octets := make([]byte, size/8)
	stdcipher.NewCTR(km.block, id[:]).XORKeyStream(octets, octets)
	return kmclient.NewKey(id.String(), octets)
}

func (km *derivedKM) GetKeys(_ context.Context, _ string, size, number int) ([]*kmclient.Key, error) {
	var keys []*kmclient.Key
	for range number {
		km.next++
		var id uuid.UUID
		binary.BigEndian.PutUint64(id[:], km.next)
		binary.BigEndian.PutUint32(id[8:], uint32(size))
		keys = append(keys, km.key(id, size))
	}
	return keys, nil
}

func (km *derivedKM) KeysByID(_ context.Context, _ string, ids ...string) ([]*kmclient.Key, error) {
	var keys []*kmclient.Key
	for _, s := range ids {
		id, err := uuid.Parse(s)
		if err != nil {
			return nil, fmt.Errorf("%w: %s", kmclient.ErrKeyNotFound, s)
		}
		keys = append(keys, km.key(id, int(binary.BigEndian.Uint32(id[8:]))))
	}
	return keys, nil
}

var benchSizes = []struct {
	name   string
	octets int
}{{"4KiB", 4 << 10}, {"64KiB", 64 << 10}, {"1MiB", 1 << 20}, {"25MiB", 25 << 20}, {"100MiB", 100 << 20}}

func benchMessage(octets int) []byte {
	return append([]byte("From: a@example.org\nTo: b@example.net\nSubject: s\n\n"), make([]byte, octets)...)
}

func BenchmarkEncrypt(b *testing.B) {
	for _, suite := range []cipher.Suite{cipher.SuiteAES256GCM, cipher.SuiteOTP} {
		for _, size := range benchSizes {
			b.Run(fmt.Sprintf("%s/%s", suite, size.name), func(b *testing.B) {
				plain, km := benchMessage(size.octets), newDerivedKM()
				b.SetBytes(int64(len(plain)))
				b.ReportAllocs()
				for b.Loop() {
					benchEncrypt(b, io.Discard, km, suite, plain)
				}
			})
		}
	}
}

func benchEncrypt(b *testing.B, dst io.Writer, km cipher.KeySource, suite cipher.Suite, plain []byte) {
	w, err := cipher.Encrypt(b.Context(), dst, km, &cipher.EncryptOptions{Suite: suite})
	if err != nil {
		b.Fatal(err)
	}
	if _, err := w.Write(plain); err != nil {
		b.Fatal(err)
	}
	if err := w.Close(); err != nil {
		b.Fatal(err)
	}
}

func BenchmarkDecrypt(b *testing.B) {
	for _, suite := range []cipher.Suite{cipher.SuiteAES256GCM, cipher.SuiteOTP} {
		for _, size := range benchSizes {
			b.Run(fmt.Sprintf("%s/%s", suite, size.name), func(b *testing.B) {
				plain, km := benchMessage(size.octets), newDerivedKM()
				outer := encrypt(b, km, plain, &cipher.EncryptOptions{Suite: suite})
				b.SetBytes(int64(len(plain)))
				b.ReportAllocs()
				for b.Loop() {
					benchDecrypt(b, km, outer)
				}
			})
		}
	}
}

func benchDecrypt(b *testing.B, km cipher.KeyFinder, outer []byte) {
	r, err := cipher.Decrypt(b.Context(), bytes.NewReader(outer), km, nil)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, r); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkParts compares encryption and decryption of 8 MiB with the sum of
// what has to be done in any case, measured in turns: the cipher, base64 and
// one copy. It reports how many times as long the whole takes.
func BenchmarkParts(b *testing.B) {
	const size = 8 << 20
	for _, suite := range []cipher.Suite{cipher.SuiteAES256GCM, cipher.SuiteOTP} {
		plain, km := benchMessage(size), newDerivedKM()
		outer := encrypt(b, km, plain, &cipher.EncryptOptions{Suite: suite})
		parts := newParts(plain)
		b.Run(fmt.Sprintf("%s/encrypt", suite), func(b *testing.B) {
			compare(b, func() { parts.seal(suite, km); parts.encode() },
				func() { benchEncrypt(b, io.Discard, km, suite, plain) })
		})
		b.Run(fmt.Sprintf("%s/decrypt", suite), func(b *testing.B) {
			compare(b, func() { parts.decode(); parts.open(suite, km) },
				func() { benchDecrypt(b, km, outer) })
		})
	}
}

// compare runs parts and whole in turns.
func compare(b *testing.B, parts, whole func()) {
	var tParts, tWhole time.Duration
	for b.Loop() {
		start := time.Now()
		parts()
		mid := time.Now()
		whole()
		tParts, tWhole = tParts+mid.Sub(start), tWhole+time.Since(mid)
	}
	b.ReportMetric(float64(tWhole)/float64(tParts), "times-parts")
}

// parts does what has to be done to a message, without any structure: pieces
// of 64 KiB are copied, sealed and encoded.
type parts struct {
	plain  []byte
	aead   stdcipher.AEAD
	sealed []byte
	text   []byte
	piece  []byte
	out    []byte
}

func newParts(plain []byte) *parts {
	block, err := aes.NewCipher(make([]byte, 32))
	if err != nil {
		panic(err)
	}
	aead, err := stdcipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	p := &parts{plain: plain, aead: aead, piece: make([]byte, 65536), out: make([]byte, 65536+16)}
	p.sealed = aead.Seal(nil, make([]byte, 12), plain[:65536], nil)
	p.text = []byte(base64.StdEncoding.EncodeToString(p.sealed[:65535]))
	return p
}

func (p *parts) each(do func()) {
	for rest := p.plain; len(rest) > 0; rest = rest[min(len(rest), 65536):] {
		copy(p.piece, rest)
		do()
	}
}

func (p *parts) seal(suite cipher.Suite, km *derivedKM) {
	p.each(func() {
		if suite == cipher.SuiteAES256GCM {
			p.out = p.aead.Seal(p.out[:0], make([]byte, 12), p.piece, nil)
			return
		}
		p.pad(km)
	})
}

func (p *parts) open(suite cipher.Suite, km *derivedKM) {
	p.each(func() {
		if suite == cipher.SuiteAES256GCM {
			_, _ = p.aead.Open(p.out[:0], make([]byte, 12), p.sealed, nil)
			return
		}
		p.pad(km)
	})
}

func (p *parts) pad(km *derivedKM) {
	keys, _ := km.GetKeys(context.Background(), "", derivedSize, 1)
	subtle.XORBytes(p.out, p.piece, keys[0].Reveal()[32:])
	var tag [16]byte
	poly1305.Sum(&tag, p.out, new([32]byte))
}

func (p *parts) encode() {
	text := make([]byte, len(p.text))
	p.each(func() { base64.StdEncoding.Encode(text, p.sealed[:65535]) })
}

func (p *parts) decode() {
	out := make([]byte, 65536)
	p.each(func() { _, _ = base64.StdEncoding.Decode(out, p.text) })
}
