package cipher

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"

	"github.com/qkdmail/qkdmail/cipher/internal/asyncwrite"
	"github.com/qkdmail/qkdmail/cipher/internal/buffer"
	"github.com/qkdmail/qkdmail/cipher/internal/envelope"
	"github.com/qkdmail/qkdmail/cipher/internal/gcmstream"
	"github.com/qkdmail/qkdmail/cipher/internal/hybrid"
	"github.com/qkdmail/qkdmail/cipher/internal/otp"
	"github.com/qkdmail/qkdmail/cipher/rawheader"
	"github.com/qkdmail/qkdmail/kmclient"
)

// A KeySource gives fresh keys to encrypt with. Every [kmclient.KeyManager] is
// one.
type KeySource interface {
	// Status returns the limits of a request for keys. It is called once per message,
	// for OTP only.
	Status(ctx context.Context, peer string) (kmclient.Status, error)
	// GetKeys returns number fresh keys of size bits each, or fewer if there are no
	// more. number is within the limits of the status. The caller wipes the keys, even
	// those returned with an error.
	GetKeys(ctx context.Context, peer string, size, number int) ([]*kmclient.Key, error)
}

const (
	firstScan = 64 << 10  // bytes in which the header is first looked for
	maxScan   = 256 << 10 // fields beyond these bytes are not copied to the outer header
)

// A Writer encrypts the message that is written to it. Close completes the
// encrypted message; Abort leaves it incomplete, so that it can't be decrypted.
type Writer struct {
	ctx  context.Context
	dst  io.Writer
	keys KeySource
	opts EncryptOptions

	buf     *buffer.Buffer
	head    []byte // the beginning of the message, until the suite is open; in buf as long as it fits
	want    int    // bytes of head to wait for
	suite   suiteWriter
	secret  *hybrid.Secret // of a hybrid suite, once the envelope is open; nil: none
	begin   []byte         // of its payload: fingerprint and enc
	around  envelope.WriterOptions
	outer   *envelope.Writer
	async   *asyncwrite.Writer // to dst, while ReadFrom uses one
	info    Info
	err     error
	aborted bool
}

// A suiteWriter makes the payload.
type suiteWriter interface {
	io.WriteCloser
	Abort()
}

// Encrypt returns a Writer that encrypts a message to dst. It writes nothing
// and fetches no key before it has seen the beginning of the message. It uses
// keys and dst until Close or Abort. opts may be nil.
//
// Any bytes are accepted as a message. One without a header, even an empty one, is
// restored as it was; only its outer From is made up.
func Encrypt(ctx context.Context, dst io.Writer, keys KeySource, opts *EncryptOptions) (*Writer, error) {
	o, err := opts.withDefaults()
	if err != nil {
		return nil, err
	}
	w := &Writer{ctx: ctx, dst: dst, keys: keys, opts: o, want: firstScan}
	if o.Suite == SuiteAuto {
		w.want = max(w.want, o.PadLimit+1)
	}
	return w, nil
}

// Info describes the message. It is complete after Close.
func (w *Writer) Info() *Info { return &w.info }

// Write encrypts p. Its errors are final.
func (w *Writer) Write(p []byte) (n int, err error) {
	if w.err == nil {
		w.err = w.ctx.Err()
	}
	for w.suite == nil && w.err == nil {
		c := min(w.want-len(w.head), len(p))
		w.hold(p[:c])
		n, p = n+c, p[c:]
		if len(w.head) < w.want {
			w.info.PlaintextSize += int64(n)
			return n, nil
		}
		if _, done := rawheader.End(w.head, rawheader.Strict); !done && w.want < maxScan {
			w.want = min(2*w.want, maxScan)
			continue
		}
		w.start(false)
	}
	if w.err == nil {
		var m int
		m, w.err = w.suite.Write(p)
		n += m
	}
	w.info.PlaintextSize += int64(n)
	return n, w.fail()
}

// Close encrypts the rest and completes the message. It does not close the underlying
// writer. If the message could not be written to its end, call Abort instead: Close
// would make a part of it look complete.
func (w *Writer) Close() error {
	if w.err == nil {
		w.err = w.ctx.Err()
	}
	if w.err == nil && w.suite == nil {
		w.start(true)
	}
	if w.err == nil {
		w.err = w.suite.Close()
	}
	if w.err == nil {
		w.err = w.outer.Close()
	}
	if w.err != nil {
		return w.fail()
	}
	w.secret.Wipe()
	w.err = errClosed
	return nil
}

// Abort wipes what is buffered and leaves the encrypted message incomplete, so
// that it can't be decrypted. After Close it does nothing.
func (w *Writer) Abort() {
	if w.err == nil {
		w.err = errClosed
	}
	_ = w.fail()
}

var errClosed = errors.New("the message is closed")

// fail returns the error, if there is one, after it wipes what is buffered.
func (w *Writer) fail() error {
	if w.err != nil && !w.aborted {
		w.aborted = true
		w.err = fromSuite(w.err)
		w.wipeHead()
		w.secret.Wipe()
		if w.suite != nil {
			w.suite.Abort()
		}
		if w.outer != nil {
			w.outer.Free()
		}
	}
	return w.err
}

// start opens the suite and gives it the beginning of the message, which is the
// whole message if whole is set.
func (w *Writer) start(whole bool) {
	suite := w.opts.Suite.Plain()
	if suite == SuiteAuto {
		suite = SuiteAES256GCM
		if whole && len(w.head) <= w.opts.PadLimit {
			suite = SuiteOTP
		}
	}
	if suite == SuiteOTP {
		w.suite, w.err = w.openOTP()
		switch ruledOut := errors.Is(w.err, otp.ErrLimits); { // before any key was asked for
		case ruledOut && w.opts.Suite == SuiteAuto:
			suite, w.info.NoPad, w.err = SuiteAES256GCM, fromSuite(w.err), nil
		case ruledOut:
			w.err = fmt.Errorf("%w; use %s", w.err, SuiteAES256GCM)
		}
	}
	w.info.Suite = suite
	if w.opts.Hybrid != nil {
		w.info.Suite, w.info.Fingerprint = suite.hybrid(), w.opts.Hybrid.fingerprint
	}
	w.info.Time = w.opts.Time.UTC()
	w.info.SenderSAE, w.info.RecipientSAE = w.opts.SAE, w.opts.Peer
	w.scan(whole)
	if suite == SuiteAES256GCM {
		w.suite, w.err = w.openGCM()
	}
	for _, part := range [][]byte{recipientList(w.opts.Recipients), w.head} {
		if w.err == nil {
			_, w.err = w.suite.Write(part)
		}
	}
	w.wipeHead()
}

// hold adds p to the beginning of the message.
func (w *Writer) hold(p []byte) {
	if w.buf == nil && len(p) > 0 {
		w.buf = buffer.Get()
		w.head = w.buf[:0]
	}
	if need := len(w.head) + len(p); need > cap(w.head) {
		longer := append(make([]byte, 0, min(max(need, 2*cap(w.head)), w.want)), w.head...)
		clear(w.head)
		w.head = longer
	}
	w.head = append(w.head, p...)
}

func (w *Writer) wipeHead() {
	clear(w.head)
	w.buf.Free(len(w.head)) // the beginning of head, even if head outgrew it
	w.buf, w.head = nil, nil
}

func (w *Writer) openGCM() (suiteWriter, error) {
	keys, err := w.keys.GetKeys(w.ctx, w.opts.Peer, 8*gcmstream.KeySize, 1)
	defer kmclient.WipeAll(keys)
	if err != nil {
		return nil, err
	}
	if err := kmclient.CheckKeys(keys, 8*gcmstream.KeySize, 1); err != nil {
		return nil, err
	}
	dst, control, err := w.openEnvelope(keys[0].ID())
	if err != nil {
		return nil, err
	}
	w.info.KeyIDs = []string{keys[0].ID()}
	s, err := gcmstream.NewWriter(dst, w.secret.Reveal(), keys[0].Reveal(), control, rand.Reader)
	w.secret.Wipe()
	if err != nil {
		return nil, err // and not a suiteWriter that holds a nil *gcmstream.Writer
	}
	return s, nil
}

func (w *Writer) openOTP() (suiteWriter, error) {
	status, err := w.keys.Status(w.ctx, w.opts.Peer)
	if err != nil {
		return nil, err
	}
	opts := otp.WriterOptions{
		Limits: padLimits(status),
		Keys: func(size, number int) ([]*kmclient.Key, error) {
			return w.padKeys(size, number, status.MaxKeyPerRequest)
		},
		Open: w.openEnvelope,
	}
	if w.opts.Hybrid != nil {
		opts.Layer = func(number uint64) (otp.Layer, error) { return layerOf(w.secret, w.begin, number) }
	}
	s, err := otp.NewWriter(opts)
	if err != nil {
		return nil, err
	}
	return s, nil
}

// scan prepares the outer message from the beginning of the message, which may
// be wiped before the first key arrives.
func (w *Writer) scan(whole bool) {
	_, done := rawheader.End(w.head, rawheader.Strict)
	outer := newOuterHeader(&w.opts)
	w.info.NoHeader = true
	for f := range rawheader.Fields(w.head, rawheader.Strict) {
		if !done && !whole && f.Offset+len(f.Raw) == len(w.head) {
			break // the field may continue after the end of head
		}
		w.info.NoHeader = false
		w.info.Bcc = w.info.Bcc || f.Is("Bcc") || f.Is("Resent-Bcc")
		outer.take(f)
	}
	w.around = envelope.WriterOptions{
		Outer: outer.build(),
		Control: envelope.Control{
			Suite:        string(w.info.Suite),
			Time:         w.opts.Time,
			SenderSAE:    controlSAE(w.opts.SAE),
			RecipientSAE: controlSAE(w.opts.Peer),
		},
		Note: *w.opts.Note,
		CRLF: w.opts.CRLF || usesCRLF(w.head),
	}
}

// openEnvelope writes the outer message up to the payload of the plain suite. It
// returns a writer for that payload, and the control octets.
func (w *Writer) openEnvelope(keyID string) (_ io.Writer, control []byte, err error) {
	w.around.Control.KeyID, w.info.KeyID = keyID, keyID
	if w.outer, err = envelope.NewWriter(sink{w}, w.around); err != nil {
		return nil, nil, err
	}
	control = w.around.Control.Octets()
	if w.opts.Hybrid == nil {
		return w.outer, control, nil
	}
	if w.begin, w.secret, err = w.opts.Hybrid.encapsulate(control); err != nil {
		return nil, nil, err
	}
	_, err = w.outer.Write(w.begin)
	return w.outer, control, err
}
