package cipher

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/qkdmail/qkdmail/cipher/internal/behind"
	"github.com/qkdmail/qkdmail/cipher/internal/buffer"
	"github.com/qkdmail/qkdmail/cipher/internal/envelope"
	"github.com/qkdmail/qkdmail/cipher/internal/gcmstream"
	"github.com/qkdmail/qkdmail/cipher/internal/otp"
	"github.com/qkdmail/qkdmail/cipher/rawheader"
	"github.com/qkdmail/qkdmail/kmclient"
)

// A KeySource hands out fresh keys to encrypt with. Every
// [kmclient.KeyManager] is one.
type KeySource interface {
	// Status is asked for the limits of a key request, by the OTP suite only.
	Status(ctx context.Context, peer string) (kmclient.Status, error)
	// GetKeys returns number fresh keys of size bits each, or fewer if there are no
	// more. It is not asked for more than the status says that a request may have.
	GetKeys(ctx context.Context, peer string, size, number int) ([]*kmclient.Key, error)
}

// LineEnd is the line end of the encrypted message.
type LineEnd int

const (
	LineEndAuto LineEnd = iota // CRLF where the first line of the message ends so, else LF
	LineEndLF
	LineEndCRLF // as SMTP has it
)

// The note that EncryptOptions.Note puts in place where it is nil.
const DefaultNote = `This message is encrypted with qkdmail, with a key from Quantum Key
Distribution. If you can read this, it has reached you without passing
through the qkdmail of your organisation: ask your mail administrator.
`

// Limits of what an encrypting Writer keeps in memory, in octets.
const (
	// DefaultPadLimit is the longest message that SuiteAuto gives a pad.
	DefaultPadLimit = 64 << 10
	// MaxPadLimit is the most that EncryptOptions.PadLimit can be, since a
	// message is held back until it is known to be longer.
	MaxPadLimit = 1 << 20

	firstScan = 64 << 10  // a header is first looked for in so much of a message
	maxScan   = 256 << 10 // fields further down are not copied outside
)

// EncryptOptions says how a message is encrypted. The zero value is good:
// AES-256-GCM, hidden subject, no SAEs.
type EncryptOptions struct {
	Suite    Suite // "": SuiteAES256GCM
	PadLimit int   // octets of message up to which SuiteAuto takes OTP; 0: DefaultPadLimit

	SAE  string // own SAE ID; "": none
	Peer string // SAE ID of the recipient; "": none

	Headers HeaderPolicy // "": HeadersBaseline
	// Note is shown by mail programs that can't decrypt. nil: DefaultNote;
	// empty: none.
	Note    *string
	LineEnd LineEnd
	// UTF8 allows raw UTF-8 in the address fields outside, as an SMTPUTF8
	// transaction does (RFC 6531). Without it such an address is left out.
	UTF8 bool
	// From is the address for the outer From where the message has none that
	// can be used. Where this can't be used either, or is "", it is one under
	// the reserved domain "invalid".
	From string
	// Time is the time of encryption, from 1970 to 9999; zero: now.
	Time time.Time
}

// withDefaults returns the options with their defaults filled in.
func (o *EncryptOptions) withDefaults() (EncryptOptions, error) {
	var opts EncryptOptions
	if o != nil {
		opts = *o
	}
	if opts.Suite == "" {
		opts.Suite = SuiteAES256GCM
	}
	if _, err := ParseSuite(string(opts.Suite)); err != nil {
		return opts, err
	}
	if opts.PadLimit == 0 {
		opts.PadLimit = DefaultPadLimit
	}
	if opts.PadLimit < 0 || opts.PadLimit > MaxPadLimit {
		return opts, fmt.Errorf("%w: pad limit of %d octets: must be 1 to %d", ErrOptions, opts.PadLimit, MaxPadLimit)
	}
	if opts.Headers == "" {
		opts.Headers = HeadersBaseline
	}
	if _, err := ParseHeaderPolicy(string(opts.Headers)); err != nil {
		return opts, err
	}
	if opts.Note == nil {
		note := DefaultNote
		opts.Note = &note
	}
	for _, sae := range []string{opts.SAE, opts.Peer} {
		if len(controlSAE(sae)) > envelope.MaxValue {
			return opts, fmt.Errorf("%w: an SAE ID of %d octets: %d at most, escaped", ErrOptions, len(sae), envelope.MaxValue)
		}
	}
	if opts.Time.IsZero() {
		opts.Time = time.Now()
	}
	if !isDate(opts.Time) {
		return opts, fmt.Errorf("%w: a time in the year %d", ErrOptions, opts.Time.UTC().Year())
	}
	opts.Time = opts.Time.Truncate(time.Second)
	return opts, nil
}

// A Writer encrypts the message that is written to it. Close completes it;
// Abort gives it up, so that it can't be decrypted.
type Writer struct {
	ctx  context.Context
	dst  io.Writer
	keys KeySource
	opts EncryptOptions

	buf     *buffer.Buffer
	head    []byte // the beginning of the message, until the suite is open; in buf as long as it fits
	want    int    // octets of head to wait for
	suite   suiteWriter
	around  envelope.WriterOptions
	outer   *envelope.Writer
	behind  *behind.Writer // to dst, while ReadFrom uses one
	info    Info
	err     error
	aborted bool
}

// A suiteWriter makes the payload.
type suiteWriter interface {
	io.WriteCloser
	Abort()
}

// Encrypt returns a Writer that encrypts a message to dst. Nothing is written,
// and no key is fetched, before the beginning of the message has been seen.
// The key source and dst are used until Close or Abort; opts may be nil.
//
// Any octets are taken for a message: what has no header, or no octets at all,
// comes back as it was, under a From that is made up.
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

// Info describes the message, completely so after Close.
func (w *Writer) Info() *Info { return &w.info }

// Write encrypts p. An error is final.
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

// Close encrypts what is left and completes the message. It does not close the
// underlying writer. Where the whole message could not be written, call Abort
// instead: Close would complete the part that was.
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
	w.err = errClosed
	return nil
}

// Abort wipes what is held back and gives the message up: what has been
// written of it can't be decrypted. After Close it does nothing.
func (w *Writer) Abort() {
	if w.err == nil {
		w.err = errClosed
	}
	_ = w.fail()
}

var errClosed = errors.New("the message is closed")

// fail wipes what is held back after an error, and returns the error.
func (w *Writer) fail() error {
	if w.err != nil && !w.aborted {
		w.aborted = true
		w.err = fromSuite(w.err)
		w.wipeHead()
		if w.suite != nil {
			w.suite.Abort()
		}
		if w.outer != nil {
			w.outer.Free()
		}
	}
	return w.err
}

// start opens the suite and hands it the beginning of the message; whole says
// that this is all of it.
func (w *Writer) start(whole bool) {
	w.info.Suite = w.opts.Suite
	if w.info.Suite == SuiteAuto {
		w.info.Suite = SuiteAES256GCM
		if whole && len(w.head) <= w.opts.PadLimit {
			w.info.Suite = SuiteOTP
		}
	}
	if w.info.Suite == SuiteOTP {
		w.suite, w.err = w.openOTP()
		switch ruledOut := errors.Is(w.err, otp.ErrLimits); { // before any key was asked for
		case ruledOut && w.opts.Suite == SuiteAuto:
			w.info.Suite, w.info.NoPad, w.err = SuiteAES256GCM, fromSuite(w.err), nil
		case ruledOut:
			w.err = fmt.Errorf("%w; use %s", w.err, SuiteAES256GCM)
		}
	}
	w.info.Time = w.opts.Time.UTC()
	w.info.SenderSAE, w.info.RecipientSAE = w.opts.SAE, w.opts.Peer
	w.scan(whole)
	if w.info.Suite == SuiteAES256GCM {
		w.suite, w.err = w.openGCM()
	}
	if w.err == nil {
		_, w.err = w.suite.Write(w.head)
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
	w.buf.Free(len(w.head)) // where the head began, if it has outgrown it
	w.buf, w.head = nil, nil
}

func (w *Writer) openGCM() (suiteWriter, error) {
	keys, err := w.keys.GetKeys(w.ctx, w.opts.Peer, 8*gcmstream.KeySize, 1)
	defer kmclient.WipeAll(keys) // also those that come with an error
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
	return gcmWriter(dst, keys[0].Reveal(), control)
}

// gcmWriter keeps a nil *gcmstream.Writer from becoming a suiteWriter.
func gcmWriter(dst io.Writer, key, control []byte) (suiteWriter, error) {
	s, err := gcmstream.NewWriter(dst, key, control, rand.Reader)
	if err != nil {
		return nil, err
	}
	return s, nil
}

func (w *Writer) openOTP() (suiteWriter, error) {
	status, err := w.keys.Status(w.ctx, w.opts.Peer)
	if err != nil {
		return nil, err
	}
	s, err := otp.NewWriter(otp.WriterOptions{
		Limits: padLimits(status),
		Keys: func(size, number int) ([]*kmclient.Key, error) {
			return w.padKeys(size, number, status.MaxKeyPerRequest)
		},
		Open: w.openEnvelope,
	})
	if err != nil {
		return nil, err
	}
	return s, nil
}

// scan prepares the outer message from the beginning of the message, which is
// not kept until the first key is there.
func (w *Writer) scan(whole bool) {
	_, done := rawheader.End(w.head, rawheader.Strict)
	outer := newOuterBuilder(&w.opts)
	w.info.NoHeader = true
	for f := range rawheader.Fields(w.head, rawheader.Strict) {
		if !done && !whole && f.Offset+len(f.Raw) == len(w.head) {
			break // it goes on where the head ends
		}
		w.info.NoHeader = false
		w.info.Bcc = w.info.Bcc || f.Is("Bcc") || f.Is("Resent-Bcc")
		outer.take(f)
	}
	w.around = envelope.WriterOptions{
		Outer: outer.fields(),
		Control: envelope.Control{
			Suite:        string(w.info.Suite),
			Time:         w.opts.Time,
			SenderSAE:    controlSAE(w.opts.SAE),
			RecipientSAE: controlSAE(w.opts.Peer),
		},
		Note: *w.opts.Note,
		CRLF: w.opts.LineEnd == LineEndCRLF || w.opts.LineEnd == LineEndAuto && rawheader.UsesCRLF(w.head),
	}
}

// openEnvelope writes the outer message up to the payload, and returns where
// the payload goes and the control octets.
func (w *Writer) openEnvelope(keyID string) (_ io.Writer, control []byte, err error) {
	w.around.Control.KeyID, w.info.KeyID = keyID, keyID
	if w.outer, err = envelope.NewWriter(sink{w}, w.around); err != nil {
		return nil, nil, err
	}
	return w.outer, w.around.Control.Octets(), nil
}
