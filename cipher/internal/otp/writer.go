package otp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/google/uuid"
	"github.com/qkdmail/qkdmail/kmclient"
)

// WriterOptions says where a Writer gets its keys and puts its frames.
type WriterOptions struct {
	Limits Limits

	// Keys fetches number fresh keys of size bits each. The Writer wipes
	// them.
	Keys func(size, number int) ([]*kmclient.Key, error)

	// Open is called once, with the ID of the first key, before the first
	// frame is written. It returns where the frames go and the control
	// octets.
	Open func(keyID string) (dst io.Writer, control []byte, err error)
}

// A Writer encrypts what is written to it, frame by frame. The message is
// complete, and can be decrypted, only after Close.
type Writer struct {
	opts    WriterOptions
	dst     io.Writer
	control []byte
	number  uint64
	ids     idSet
	plain   []byte // not yet sealed; its capacity is that of a frame
	frame   []byte
	err     error
}

// NewWriter returns a Writer, or an ErrShortKeys where no key that the limits
// allow is long enough for a pad.
func NewWriter(opts WriterOptions) (*Writer, error) {
	c, err := opts.Limits.capacity()
	if err != nil {
		return nil, err
	}
	return &Writer{opts: opts, ids: idSet{}, plain: make([]byte, 0, c)}, nil
}

// Write encrypts p. A full frame is written out once an octet follows it,
// since only then it is known not to be the last.
func (w *Writer) Write(p []byte) (n int, err error) {
	for len(p) > 0 && w.err == nil {
		if len(w.plain) == cap(w.plain) {
			w.err = w.seal(false)
			continue
		}
		c := copy(w.plain[len(w.plain):cap(w.plain)], p)
		w.plain = w.plain[:len(w.plain)+c]
		n, p = n+c, p[c:]
	}
	return n, w.err
}

// Close encrypts the last frame. It does not close the underlying writer.
func (w *Writer) Close() error {
	if w.err != nil {
		return w.err
	}
	err := w.seal(true)
	w.err = errClosed
	w.Abort()
	return err
}

// Abort wipes the plaintext held back and ends the Writer without a last
// frame: what was written does not decrypt.
func (w *Writer) Abort() {
	clear(w.plain[:cap(w.plain)])
	if w.err == nil {
		w.err = errClosed
	}
}

var errClosed = errors.New("write after close")

// seal fetches the keys for the plaintext collected and writes its frame.
func (w *Writer) seal(last bool) error {
	p := w.opts.Limits.plan(len(w.plain))
	keys, err := w.opts.Keys(p.size, p.number)
	if err != nil {
		return err
	}
	defer kmclient.WipeAll(keys)
	// A pad octet used twice gives both plaintexts away, so the answer is
	// checked here as well, whatever key manager is behind Keys.
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
	if err := w.build(keys, last); err != nil {
		return err
	}
	_, err = w.dst.Write(w.frame)
	w.number++
	clear(w.plain)
	w.plain = w.plain[:0]
	return err
}

// build makes the frame of the plaintext collected.
func (w *Writer) build(keys []*kmclient.Key, last bool) error {
	flags := byte(0)
	if last {
		flags = flagLast
	}
	w.frame = append(w.frame[:0], flags, byte(len(keys)))
	for _, k := range keys {
		w.frame = appendID(w.frame, k.ID())
	}
	w.frame = binary.BigEndian.AppendUint32(w.frame, uint32(len(w.plain)))
	header := len(w.frame)
	w.frame = append(w.frame, make([]byte, len(w.plain))...)
	ciphertext := w.frame[header:]
	if err := xor(ciphertext, w.plain, keys); err != nil {
		return fmt.Errorf("frame %d: %w", w.number, err)
	}
	mac, err := authenticator(keys[0], w.control, w.frame[:header], ciphertext, w.number)
	if err != nil {
		return fmt.Errorf("frame %d: %w", w.number, err)
	}
	w.frame = mac.Sum(w.frame)
	return nil
}

const flagLast = 1

// appendID appends a key ID as a frame has it: a UUID spelled in the canonical
// way as its 16 octets, all others as they are, since a key is asked for as
// the key manager spelled it.
func appendID(frame []byte, id string) []byte {
	if u, err := uuid.Parse(id); err == nil && u.String() == id {
		return append(append(frame, 0), u[:]...)
	}
	return append(append(frame, byte(len(id))), id...)
}
