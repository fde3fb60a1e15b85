package otp

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"slices"

	"github.com/google/uuid"
	"github.com/qkdmail/qkdmail/cipher/internal/buffer"
	"github.com/qkdmail/qkdmail/kmclient"
)

// A Frame is a frame as far as it can be read without keys.
type Frame struct {
	Number uint64
	Last   bool
	KeyIDs []string
	Length int // bytes of plaintext

	header     []byte // everything before the ciphertext
	ciphertext []byte
	tag        [TagSize]byte
}

// Raw returns the bytes of the frame, in pieces. Decrypting the frame overwrites them.
func (f *Frame) Raw() [][]byte { return [][]byte{f.header, f.ciphertext, f.tag[:]} }

// A FrameReader divides a payload into frames. It needs no key, and checks all that can
// be checked without one.
type FrameReader struct {
	src    *bufio.Reader
	frame  Frame
	ids    *idSet
	number uint64
	buf    *buffer.Buffer // the ciphertext
	used   int            // bytes of buf that may hold plaintext
}

// headerSize is the size of the read buffer, in bytes: more than most frame headers
// take. Most of the ciphertext is read past that buffer.
const headerSize = 1 << 10

// NewFrameReader returns a FrameReader for the payload src.
func NewFrameReader(src io.Reader) *FrameReader {
	return &FrameReader{src: bufio.NewReaderSize(src, headerSize), ids: newIDSet()}
}

// Free wipes the plaintext of decrypted frames and ends the FrameReader.
func (r *FrameReader) Free() {
	r.buf.Free(r.used)
	r.buf, r.frame = nil, Frame{Last: true}
}

// Next returns the next frame, and io.EOF after the last. The frame is valid until
// the next call.
func (r *FrameReader) Next() (*Frame, error) {
	if r.frame.Last {
		return nil, io.EOF
	}
	if err := r.readHeader(); err != nil {
		return nil, r.wrap(err)
	}
	if r.buf == nil {
		r.buf = buffer.Get()
	}
	r.frame.ciphertext = r.buf[:r.frame.Length]
	r.used = max(r.used, r.frame.Length)
	if err := readFull(r.src, r.frame.ciphertext); err != nil {
		return nil, r.wrap(err)
	}
	if err := readFull(r.src, r.frame.tag[:]); err != nil {
		return nil, r.wrap(err)
	}
	if r.frame.Last {
		if _, err := r.src.ReadByte(); err == nil {
			return nil, r.wrap(ErrTrailing)
		} else if err != io.EOF {
			return nil, r.wrap(err)
		}
	}
	// IDs are checked last, so that a frame that is cut short is reported as such.
	if err := r.ids.add(r.frame.KeyIDs...); err != nil {
		return nil, r.wrap(err)
	}
	r.frame.Number = r.number
	r.number++
	return &r.frame, nil
}

func (r *FrameReader) wrap(err error) error { return fmt.Errorf("frame %d: %w", r.number, err) }

// readFull fills buf, or returns ErrTruncated if src ends before. Unlike io.ReadFull,
// it makes no io.ErrUnexpectedEOF of its own: one from src means that the connection
// was cut, not the message.
func readFull(src io.Reader, buf []byte) error {
	for len(buf) > 0 {
		n, err := src.Read(buf)
		buf = buf[n:]
		if err == io.EOF && len(buf) > 0 {
			return ErrTruncated
		}
		if err != nil && len(buf) > 0 {
			return err
		}
	}
	return nil
}

// readHeader reads a frame up to its ciphertext.
func (r *FrameReader) readHeader() error {
	h := headerReader{src: r.src, header: r.frame.header[:0]}
	b, err := h.read(2)
	if err != nil {
		return err
	}
	flags, n := b[0], int(b[1])
	if flags&^flagLast != 0 {
		return fmt.Errorf("%w: flags %#02x", ErrFrame, flags)
	}
	if n == 0 {
		return fmt.Errorf("%w: no keys", ErrFrame)
	}
	ids := make([]string, 0, n)
	for range n {
		id, err := h.readID()
		if err != nil {
			return err
		}
		ids = append(ids, id)
	}
	if b, err = h.read(4); err != nil {
		return err
	}
	length := binary.BigEndian.Uint32(b)
	last := flags&flagLast != 0
	if length > MaxFrame || length == 0 && !(last && r.number == 0) {
		return fmt.Errorf("%w: %d bytes of ciphertext", ErrFrame, length)
	}
	r.frame = Frame{Last: last, KeyIDs: ids, Length: int(length), header: h.header}
	return nil
}

// A headerReader keeps what it reads.
type headerReader struct {
	src    io.Reader
	header []byte
}

// read returns the next n bytes, which are valid until the next call.
func (h *headerReader) read(n int) ([]byte, error) {
	start := len(h.header)
	h.header = slices.Grow(h.header, n)[:start+n]
	return h.header[start:], readFull(h.src, h.header[start:])
}

func (h *headerReader) readID() (string, error) {
	b, err := h.read(1)
	if err != nil {
		return "", err
	}
	size := int(b[0])
	if size == 0 {
		if b, err = h.read(16); err != nil {
			return "", err
		}
		return uuid.UUID(b).String(), nil
	}
	if b, err = h.read(size); err != nil {
		return "", err
	}
	id := string(b)
	if err := kmclient.CheckID(id); err != nil {
		return "", fmt.Errorf("%w: %v", ErrFrame, err)
	}
	return id, nil
}

// ReaderOptions are the options of a Reader.
type ReaderOptions struct {
	Control []byte // the control octets
	KeyID   string // the key ID in Control, which must be frame 0's first

	// Keys fetches the keys that a frame names, in order. It is called after the whole
	// frame is read and all frames before it are verified. The Reader wipes the keys,
	// even those returned with an error.
	Keys func(*Frame) ([]*kmclient.Key, error)

	// Layer, if not nil, is called for each frame.
	Layer func(number uint64) (Layer, error)

	// Verified, if not nil, is called with each frame whose tag is right, before its
	// plaintext is released. Its error is final.
	Verified func(*Frame) error
}

// A Reader decrypts a payload. It releases verified bytes only.
type Reader struct {
	frames *FrameReader
	opts   ReaderOptions
	err    error
}

// NewReader returns a Reader for the payload frames.
func NewReader(frames *FrameReader, opts ReaderOptions) *Reader {
	return &Reader{frames: frames, opts: opts}
}

// Next returns the verified plaintext of the next frame, and io.EOF after the
// last. The plaintext is valid until the next call. An error is final.
func (r *Reader) Next() (plain []byte, err error) {
	if r.err != nil {
		return nil, r.err
	}
	if plain, r.err = r.open(); r.err != nil {
		r.frames.Free()
	}
	return plain, r.err
}

// open reads, verifies and decrypts the next frame in its own buffer.
func (r *Reader) open() ([]byte, error) {
	f, err := r.frames.Next()
	if err != nil {
		return nil, err
	}
	if err := r.decrypt(f); err != nil {
		// Wrapped, since an io.EOF from the key manager must not look like the end of
		// the message.
		return nil, fmt.Errorf("frame %d: %w", f.Number, err)
	}
	return f.ciphertext, nil
}

// decrypt verifies the frame and replaces its ciphertext with the plaintext.
func (r *Reader) decrypt(f *Frame) error {
	if f.Number == 0 && kmclient.CanonicalID(f.KeyIDs[0]) != kmclient.CanonicalID(r.opts.KeyID) {
		return ErrKeyID
	}
	keys, err := r.opts.Keys(f)
	defer kmclient.WipeAll(keys)
	if err != nil {
		return err
	}
	if err := checkKeys(keys, f.KeyIDs); err != nil {
		return err
	}
	s, err := newSealing(keys, r.opts.Layer, r.opts.Control, f.header, f.Number)
	if err != nil {
		return err
	}
	defer s.wipe()
	return s.decrypt(f.ciphertext, f.tag, func() error {
		if r.opts.Verified == nil {
			return nil
		}
		return r.opts.Verified(f)
	})
}

// checkKeys reports keys that a key manager must not return for these IDs.
func checkKeys(keys []*kmclient.Key, ids []string) error {
	if err := kmclient.CheckKeys(keys, 0, len(ids)); err != nil {
		return err
	}
	for i, k := range keys {
		if kmclient.CanonicalID(k.ID()) != kmclient.CanonicalID(ids[i]) {
			return fmt.Errorf("%w: asked for %s and got another", kmclient.ErrBadKey, ids[i])
		}
	}
	return nil
}
