package otp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/google/uuid"
	"github.com/qkdmail/qkdmail/cipher/internal/buffer"
	"github.com/qkdmail/qkdmail/kmclient"
)

// WriterOptions are the options of a Writer.
type WriterOptions struct {
	Limits Limits

	// Keys fetches number fresh keys of size bits each. The Writer wipes them, even
	// those returned with an error.
	Keys func(size, number int) ([]*kmclient.Key, error)

	// Open is called once, with the ID of the first key, before the first frame
	// is written. It returns a writer for the frames, and the control octets.
	Open func(keyID string) (dst io.Writer, control []byte, err error)

	// Layer, if not nil, is called for each frame, after Open.
	Layer func(number uint64) (Layer, error)
}

// A Writer encrypts what is written to it, frame by frame. The payload is
// complete, and can be decrypted, only after Close.
type Writer struct {
	opts    WriterOptions
	dst     io.Writer
	control []byte
	number  uint64
	ids     *idSet
	buf     *buffer.Buffer
	plain   []byte // in buf, not yet sealed; its capacity is that of a frame
	used    int    // bytes of buf that may hold plaintext
	header  []byte // of a frame
	err     error
}

// NewWriter returns a Writer, or ErrLimits if the limits rule out a pad.
func NewWriter(opts WriterOptions) (*Writer, error) {
	c, err := opts.Limits.capacity()
	if err != nil {
		return nil, err
	}
	buf := buffer.Get()
	return &Writer{opts: opts, ids: newIDSet(), buf: buf, plain: buf[:0:c]}, nil
}

// Write encrypts p. A full frame is written when a byte follows it: only then is
// it known not to be the last. Whole frames in p are encrypted without a copy.
func (w *Writer) Write(p []byte) (n int, err error) {
	for len(p) > 0 && w.err == nil {
		c := cap(w.plain)
		switch {
		case len(w.plain) == c:
			w.err = w.seal(w.plain, false)
			w.plain = w.plain[:0]
			continue
		case len(w.plain) == 0 && len(p) > c:
			w.err = w.seal(p[:c], false)
		default:
			c = copy(w.plain[len(w.plain):c], p)
			w.plain = w.plain[:len(w.plain)+c]
			w.used = max(w.used, len(w.plain))
		}
		n, p = n+c, p[c:]
	}
	return n, w.err
}

// Close encrypts the last frame. It does not close the underlying writer.
func (w *Writer) Close() error {
	if w.err != nil {
		return w.err
	}
	err := w.seal(w.plain, true)
	w.err = errClosed
	w.Abort()
	return err
}

// Abort wipes the buffered plaintext and ends the Writer without a last frame, so
// that what was written can't be decrypted.
func (w *Writer) Abort() {
	w.buf.Free(w.used)
	w.buf, w.plain = nil, nil
	if w.err == nil {
		w.err = errClosed
	}
}

var errClosed = errors.New("write after close")

// seal fetches the keys for the plaintext of a frame, which may be in buf, and
// writes the frame.
func (w *Writer) seal(plain []byte, last bool) error {
	p := w.opts.Limits.plan(len(plain))
	if len(w.ids.seen)+p.number > MaxIDs {
		return ErrTooManyKeys // before any key is used up
	}
	keys, err := w.opts.Keys(p.size, p.number)
	defer kmclient.WipeAll(keys) // also those that come with an error
	if err != nil {
		return err
	}
	// A pad byte that is used twice reveals both plaintexts, so the keys are checked
	// here, whichever key manager they come from.
	if err := kmclient.CheckKeys(keys, p.size, p.number); err != nil {
		return err
	}
	for _, k := range keys {
		if err := w.ids.add(k.ID()); err != nil {
			return err
		}
	}
	if w.dst == nil {
		if w.dst, w.control, err = w.opts.Open(keys[0].ID()); err != nil {
			return err
		}
	}
	return w.write(keys, plain, last)
}

// write encrypts a frame and writes it.
func (w *Writer) write(keys []*kmclient.Key, plain []byte, last bool) error {
	flags := byte(0)
	if last {
		flags = flagLast
	}
	w.header = append(w.header[:0], flags, byte(len(keys)))
	for _, k := range keys {
		w.header = appendID(w.header, k.ID())
	}
	w.header = binary.BigEndian.AppendUint32(w.header, uint32(len(plain)))
	s, err := newSealing(keys, w.opts.Layer, w.control, w.header, w.number)
	if err != nil {
		return fmt.Errorf("frame %d: %w", w.number, err)
	}
	defer s.wipe()
	ciphertext := w.buf[:len(plain)]
	w.used = max(w.used, len(plain))
	tag, err := s.encrypt(ciphertext, plain)
	if err != nil {
		return fmt.Errorf("frame %d: %w", w.number, err)
	}
	w.number++
	for _, part := range [][]byte{w.header, ciphertext, tag[:]} {
		if _, err := w.dst.Write(part); err != nil {
			return err
		}
	}
	return nil
}

const flagLast = 1

// appendID appends a key ID as a frame has it: a UUID in canonical spelling as 16
// bytes, any other ID as text, since the reader must ask for a key as the key manager
// spells it.
func appendID(frame []byte, id string) []byte {
	if u, err := uuid.Parse(id); err == nil && u.String() == id {
		return append(append(frame, 0), u[:]...)
	}
	return append(append(frame, byte(len(id))), id...)
}
