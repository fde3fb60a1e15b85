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

// A Frame is the readable part of a frame.
type Frame struct {
	Number uint64
	Last   bool
	KeyIDs []string
	Length int // octets of plaintext

	header     []byte // all before the ciphertext, as it came
	ciphertext []byte
	tag        [TagSize]byte
}

// Raw returns the octets of the frame as they came, in pieces, until it is
// decrypted.
func (f *Frame) Raw() [][]byte { return [][]byte{f.header, f.ciphertext, f.tag[:]} }

// A FrameReader takes a payload apart into frames. It needs no key, and checks
// all that can be checked without one.
type FrameReader struct {
	src    *bufio.Reader
	frame  Frame
	ids    *idSet
	number uint64
	buf    *buffer.Buffer // the ciphertext
	used   int            // octets of buf, at most
}

// headerSize is more than the header of a frame has as a rule, in octets. Most
// of the ciphertext is read past a buffer of this size.
const headerSize = 1 << 10

// NewFrameReader returns a FrameReader for the payload src.
func NewFrameReader(src io.Reader) *FrameReader {
	return &FrameReader{src: bufio.NewReaderSize(src, headerSize), ids: newIDSet()}
}

// Free wipes what the last frames have become, if they were decrypted, and ends
// the FrameReader.
func (r *FrameReader) Free() {
	r.buf.Free(r.used)
	r.buf, r.frame = nil, Frame{Last: true}
}

// Next reads the next frame, io.EOF after the last. The frame is valid until
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
	// The IDs are entered last: a frame that is cut short is told as such.
	if err := r.ids.add(r.frame.KeyIDs...); err != nil {
		return nil, r.wrap(err)
	}
	r.frame.Number = r.number
	r.number++
	return &r.frame, nil
}

func (r *FrameReader) wrap(err error) error { return fmt.Errorf("frame %d: %w", r.number, err) }

// readFull fills buf; ErrTruncated if src ends before. Unlike io.ReadFull it
// leaves an io.ErrUnexpectedEOF of src what it is: a connection that was cut,
// and no message that was.
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
		return fmt.Errorf("%w: %d octets of ciphertext", ErrFrame, length)
	}
	r.frame = Frame{Last: last, KeyIDs: ids, Length: int(length), header: h.header}
	return nil
}

// A headerReader keeps what it reads.
type headerReader struct {
	src    io.Reader
	header []byte
}

// read returns the next n octets, until the next call.
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

// ReaderOptions says where a Reader gets its keys.
type ReaderOptions struct {
	Control []byte // the control octets
	KeyID   string // the key ID in them, which frame 0 must name first

	// Keys fetches the keys that a frame names, in their order. The Reader wipes
	// them. It is called for a whole frame, after all before it are verified.
	Keys func(*Frame) ([]*kmclient.Key, error)

	// Verified is told of each frame whose tag was right, before it is
	// decrypted and released. An error ends the message.
	Verified func(*Frame) error
}

// A Reader decrypts a payload. Next releases verified octets only.
type Reader struct {
	frames *FrameReader
	opts   ReaderOptions
	err    error
}

// NewReader returns a Reader for the payload frames.
func NewReader(frames *FrameReader, opts ReaderOptions) *Reader {
	return &Reader{frames: frames, opts: opts}
}

// Next returns the plaintext of the next frame, which is verified, and io.EOF
// after the last. It is valid until the next call. An error is final.
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
		// Wrapped, since an io.EOF of the key manager must not end the message.
		return nil, fmt.Errorf("frame %d: %w", f.Number, err)
	}
	return f.ciphertext, nil
}

// decrypt verifies the frame and replaces its ciphertext by the plaintext.
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
	mac, err := authenticator(keys[0], r.opts.Control, f.header, f.ciphertext, f.Number)
	if err != nil {
		return err
	}
	if !mac.Verify(f.tag[:]) {
		return ErrTag
	}
	if r.opts.Verified != nil {
		if err := r.opts.Verified(f); err != nil {
			return err
		}
	}
	return xor(f.ciphertext, f.ciphertext, keys)
}

// checkKeys reports keys that no key manager may return for these IDs.
func checkKeys(keys []*kmclient.Key, ids []string) error {
	if err := kmclient.CheckKeys(keys, 0, len(ids)); err != nil {
		return err
	}
	for i, k := range keys {
		if kmclient.CanonicalID(k.ID()) != kmclient.CanonicalID(ids[i]) {
			return fmt.Errorf("%w: asked for %s and got %s", kmclient.ErrBadKey, ids[i], k.ID())
		}
	}
	return nil
}
