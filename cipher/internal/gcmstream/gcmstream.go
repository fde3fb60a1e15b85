// Package gcmstream implements the suite AES-256-GCM: a plaintext of any length
// under one key of 256 bits, in chunks, each of which is authenticated before it
// is released. docs/format.md, section 5, defines it; sizes are bytes:
//
//	payload    = salt(32, random) ‖ commitment(32) ‖ chunk…
//	PRK        = HKDF-Extract(SHA-256, salt, secret ‖ key)
//	commitment = HKDF-Expand(PRK, "qkdmail/1 A256GCM commitment" ‖ 0x00 ‖ control octets, 32)
//	chunk key  = HKDF-Expand(PRK, "qkdmail/1 A256GCM chunks" ‖ 0x00 ‖ control octets, 32)
//	chunk      = AES-256-GCM(chunk key, nonce, ≤ 65,536 bytes of plaintext) ‖ tag(16)
//	nonce      = chunk number from 0 (11, big-endian) ‖ 1 on the last chunk, else 0
//
// The secret is empty, or the 32 bytes that hybrid suites add (section 10).
//
// Every chunk but the last has 65,536 bytes of plaintext, the last at least one. An
// empty plaintext is one empty chunk. This is the STREAM construction (Hoang,
// Reyhanitabar, Rogaway, Vizár 2015): the counter reveals reordered, repeated and
// dropped chunks; the flag reveals a stream that is cut between chunks or goes on after
// its last.
//
// The commitment binds key, salt and control octets: with GCM alone, one
// ciphertext can open under two keys. It also distinguishes a wrong key or an
// altered header from altered content. Since the chunk key depends on the control
// octets as well, chunks need no associated data.
package gcmstream

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/qkdmail/qkdmail/cipher/internal/buffer"
)

// Sizes in bytes.
const (
	KeySize    = 32
	ChunkSize  = 65536 // plaintext of every chunk but the last
	Overhead   = 16    // GCM tag of a chunk
	HeaderSize = saltSize + sha256.Size

	saltSize = 32
)

var (
	// ErrCommitment means that the commitment does not match: the key is the wrong one,
	// or the control octets or the salt were altered.
	ErrCommitment = errors.New("key and header do not fit this payload")
	// ErrChunk means that a chunk failed its authentication: it was altered,
	// moved, dropped, repeated, cut short, or something follows the last one.
	ErrChunk = errors.New("chunk failed its authentication")
	// ErrTruncated means that the payload ends before its first chunk.
	ErrTruncated = errors.New("payload cut short")
)

// derive returns the commitment and the cipher of the chunks.
func derive(secret, key, salt, control []byte) (commitment []byte, aead cipher.AEAD, err error) {
	if len(key) != KeySize {
		return nil, nil, fmt.Errorf("a key of %d bytes: AES-256 takes exactly %d", len(key), KeySize)
	}
	input := slices.Concat(secret, key)
	defer clear(input)
	prk, err := hkdf.Extract(sha256.New, input, salt)
	if err != nil {
		return nil, nil, err
	}
	defer clear(prk)
	commitment, err = hkdf.Expand(sha256.New, prk, "qkdmail/1 A256GCM commitment\x00"+string(control), sha256.Size)
	if err != nil {
		return nil, nil, err
	}
	chunkKey, err := hkdf.Expand(sha256.New, prk, "qkdmail/1 A256GCM chunks\x00"+string(control), KeySize)
	if err != nil {
		return nil, nil, err
	}
	defer clear(chunkKey)
	block, err := aes.NewCipher(chunkKey)
	if err != nil {
		return nil, nil, err
	}
	aead, err = cipher.NewGCM(block)
	return commitment, aead, err
}

// nonce is the STREAM nonce of a chunk.
type nonce [12]byte

// next goes to the next chunk. The counter can't wrap: no message has 2^88
// chunks.
func (n *nonce) next() {
	for i := len(n) - 2; i >= 0; i-- {
		n[i]++
		if n[i] != 0 {
			return
		}
	}
}

func (n *nonce) isFirst() bool { return *n == nonce{} || *n == nonce{11: 1} }

// A Writer encrypts what is written to it. The payload is complete, and can be
// decrypted, only after Close.
type Writer struct {
	dst   io.Writer
	aead  cipher.AEAD
	nonce nonce
	buf   *buffer.Buffer
	plain []byte // in buf, not yet sealed, at most ChunkSize
	used  int    // bytes of buf that may hold plaintext
	err   error
}

// NewWriter derives the keys, writes salt and commitment to dst, and returns a
// Writer for the plaintext. It reads the salt from rand and keeps no reference to
// secret and key.
func NewWriter(dst io.Writer, secret, key, control []byte, rand io.Reader) (*Writer, error) {
	header := make([]byte, saltSize, HeaderSize)
	if _, err := io.ReadFull(rand, header); err != nil {
		return nil, fmt.Errorf("salt: %w", err)
	}
	commitment, aead, err := derive(secret, key, header, control)
	if err != nil {
		return nil, err
	}
	if _, err := dst.Write(append(header, commitment...)); err != nil {
		return nil, err
	}
	buf := buffer.Get()
	return &Writer{dst: dst, aead: aead, buf: buf, plain: buf[:0]}, nil
}

// Write encrypts p. A full chunk is written when a byte follows it: only then is
// it known not to be the last. Whole chunks in p are sealed without a copy.
func (w *Writer) Write(p []byte) (n int, err error) {
	for len(p) > 0 && w.err == nil {
		c := ChunkSize
		switch {
		case len(w.plain) == ChunkSize:
			w.seal(w.plain)
			w.plain = w.plain[:0]
			continue
		case len(w.plain) == 0 && len(p) > ChunkSize:
			w.seal(p[:ChunkSize])
		default:
			c = copy(w.plain[len(w.plain):ChunkSize], p)
			w.plain = w.plain[:len(w.plain)+c]
		}
		n, p = n+c, p[c:]
	}
	return n, w.err
}

// Close encrypts the last chunk. It does not close the underlying writer.
func (w *Writer) Close() error {
	if w.err != nil {
		return w.err
	}
	w.nonce[len(w.nonce)-1] = 1
	w.seal(w.plain)
	w.Abort()
	if w.err != errClosed {
		return w.err
	}
	return nil
}

// Abort wipes the buffered plaintext and ends the Writer without a last chunk, so
// that what was written can't be decrypted.
func (w *Writer) Abort() {
	w.buf.Free(max(w.used, len(w.plain)))
	w.buf, w.plain = nil, nil
	if w.err == nil {
		w.err = errClosed
	}
}

var errClosed = errors.New("write after close")

// seal encrypts a chunk into buf, where plain may already be, and writes it.
func (w *Writer) seal(plain []byte) {
	sealed := w.aead.Seal(w.buf[:0], w.nonce[:], plain, nil)
	w.used = max(w.used, len(sealed))
	w.nonce.next()
	_, w.err = w.dst.Write(sealed)
}

// A Reader decrypts a payload. It releases verified bytes only.
type Reader struct {
	src    io.Reader
	header [HeaderSize]byte
	aead   cipher.AEAD
	nonce  nonce
	whole  *buffer.Buffer
	buf    []byte // in whole: one sealed chunk and one byte of what follows
	used   int    // bytes of buf that may hold plaintext
	ahead  int    // bytes of buf already read: the look-ahead
	plain  []byte // verified plaintext of the chunk read last
	primed bool   // plain is not yet released
	last   bool
	err    error
}

// NewReader reads salt, commitment and first chunk, so that no key is fetched for a
// payload that is cut short before that.
func NewReader(src io.Reader) (*Reader, error) {
	r := &Reader{src: src}
	if n, err := readAtLeast(src, r.header[:], HeaderSize); n < HeaderSize {
		return nil, truncated(err)
	}
	r.whole = buffer.Get()
	r.buf = r.whole[:ChunkSize+Overhead+1]
	n, err := readAtLeast(src, r.buf, Overhead)
	r.used = n
	if n < Overhead {
		r.Abort()
		return nil, truncated(err)
	}
	r.ahead = n
	return r, nil
}

// Abort wipes the buffer and ends the Reader.
func (r *Reader) Abort() {
	r.whole.Free(r.used)
	r.whole, r.buf, r.plain = nil, nil, nil
	if r.err == nil {
		r.err = errAborted
	}
}

var errAborted = errors.New("read after abort")

func truncated(err error) error {
	if err == io.EOF {
		return ErrTruncated
	}
	return err
}

// readAtLeast reads at least least bytes into buf, or fewer with an error. Unlike
// io.ReadAtLeast, it makes no io.ErrUnexpectedEOF of its own: one from src means that
// the connection was cut, not the message.
func readAtLeast(src io.Reader, buf []byte, least int) (n int, err error) {
	for n < least && err == nil {
		var m int
		m, err = src.Read(buf[n:])
		n += m
	}
	if n >= least {
		err = nil // the next Read returns it again
	}
	return n, err
}

// Unlock checks the commitment and derives the key of the chunks. It keeps no
// reference to secret and key.
func (r *Reader) Unlock(secret, key, control []byte) error {
	commitment, aead, err := derive(secret, key, r.header[:saltSize], control)
	if err != nil {
		return err
	}
	if subtle.ConstantTimeCompare(commitment, r.header[saltSize:]) != 1 {
		return ErrCommitment
	}
	r.aead = aead
	return nil
}

// Header returns the salt and the commitment.
func (r *Reader) Header() []byte { return r.header[:] }

// Prime verifies the chunk that Next will return.
func (r *Reader) Prime() error {
	if r.err == nil {
		r.primed, r.err = true, r.open()
		if r.err != nil {
			r.Abort()
		}
	}
	return r.err
}

// Next returns the verified plaintext of the next chunk, and io.EOF after the
// last. The plaintext is valid until the next call. An error is final.
func (r *Reader) Next() ([]byte, error) {
	if !r.primed {
		_ = r.Prime()
	}
	r.primed = false
	return r.plain, r.err
}

// open reads and verifies the next chunk. Its plaintext replaces it in buf. The
// byte that was read ahead stays after it.
func (r *Reader) open() error {
	if r.last {
		return io.EOF
	}
	if !r.nonce.isFirst() {
		r.buf[0] = r.buf[ChunkSize+Overhead]
	}
	n, err := readAtLeast(r.src, r.buf[r.ahead:], len(r.buf)-r.ahead)
	n += r.ahead
	r.used = max(r.used, n)
	switch err {
	case nil:
		n-- // the last byte shows that another chunk follows
	case io.EOF:
		r.last = true
		r.nonce[len(r.nonce)-1] = 1
	default:
		return err
	}
	plain, err := r.aead.Open(r.buf[:0], r.nonce[:], r.buf[:n], nil)
	if err != nil {
		return ErrChunk
	}
	if len(plain) == 0 && !r.nonce.isFirst() {
		return ErrChunk // an empty last chunk after others, which no writer makes
	}
	r.plain = plain
	r.ahead = 1
	r.nonce.next()
	return nil
}

// PlaintextSize returns the size of the plaintext in a payload of this size, in bytes,
// or -1 if no payload can have this size.
func PlaintextSize(payload int64) int64 {
	sealed := payload - HeaderSize
	if sealed < Overhead {
		return -1
	}
	chunks := (sealed + ChunkSize + Overhead - 1) / (ChunkSize + Overhead)
	plain := sealed - chunks*Overhead
	// The last chunk has at least one byte, unless it is the only one.
	if chunks > 1 && plain <= (chunks-1)*ChunkSize {
		return -1
	}
	return plain
}
