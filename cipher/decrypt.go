package cipher

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"

	"github.com/qkdmail/qkdmail/cipher/internal/envelope"
	"github.com/qkdmail/qkdmail/cipher/internal/gcmstream"
	"github.com/qkdmail/qkdmail/cipher/internal/otp"
	"github.com/qkdmail/qkdmail/cipher/rawheader"
	"github.com/qkdmail/qkdmail/kmclient"
)

// A KeyFinder finds the keys that a message names. Every
// [kmclient.KeyManager] is one.
type KeyFinder interface {
	// KeysByID returns the keys with these IDs, in this order. peer is the
	// SAE ID of the sender, "" where the message has none.
	KeysByID(ctx context.Context, peer string, ids ...string) ([]*kmclient.Key, error)
}

// A KeyBinder remembers which message a key belongs to.
type KeyBinder interface {
	// BindKeys is called when a part of a message was verified under these
	// keys, before a byte of it is released: for each frame of OTP with its
	// number, for AES-256-GCM once, with frame 0. It returns an error if the
	// keys are bound to another message or frame; any error refuses the message.
	BindKeys(ctx context.Context, peer string, identity kmclient.Identity, frame uint64, ids ...string) error
}

// Unbound is a KeyBinder that remembers nothing: whoever can write to the mail's
// path may name a key again, in a message that its sender has made with it. It is
// for key managers that are themselves a test, and for archives that are read
// more than once.
var Unbound KeyBinder = unbound{}

type unbound struct{}

func (unbound) BindKeys(context.Context, string, kmclient.Identity, uint64, ...string) error {
	return nil
}

// DecryptOptions says which messages are accepted. With no more than a Binder it
// accepts those without SAEs.
type DecryptOptions struct {
	// Binder sees that a key opens one message only. It must be set:
	// a keystore.Store, or Unbound.
	Binder KeyBinder

	SAE   string   // own SAE ID, which the message must be addressed to; "": none
	Peers []string // SAE IDs of possible senders; empty: only messages without one

	// Accept is asked before the first key is, with all that the message says
	// of itself; nothing of it is authenticated yet. An error refuses the
	// message and is what Decrypt returns. nil accepts.
	Accept func(*Info) error
}

// A Reader reads the restored message. Every octet it releases is
// authenticated; but only when Read has returned io.EOF it is sure that they
// are all of the message, and that nothing was wrong with what came after.
type Reader struct {
	ctx    context.Context
	keys   KeyFinder
	binder KeyBinder
	peer   string // SAE ID of the sender
	suite  suiteReader
	plain  []byte // verified, not yet released
	info   Info
	err    error
}

// A suiteReader takes the payload apart.
type suiteReader interface {
	// Next returns verified plaintext, valid until the next call, and io.EOF
	// behind the last. An error is final.
	Next() ([]byte, error)
}

// Decrypt reads the encrypted message from src up to its payload, fetches the
// key that it names and returns a Reader for the restored message. The OTP
// suite fetches its keys while it is read, frame by frame.
//
// The error is ErrNotEncrypted for other mail, ErrDamaged, ErrVersion,
// ErrSuite, ErrSAE, ErrWrongKey or ErrAltered for a message that can't be
// decrypted, or what src, keys or the binder returned.
func Decrypt(ctx context.Context, src io.Reader, keys KeyFinder, opts *DecryptOptions) (_ *Reader, err error) {
	if opts == nil || opts.Binder == nil {
		return nil, fmt.Errorf("%w: cipher.DecryptOptions.Binder is not set", kmclient.ErrConfig)
	}
	outer, err := openEnvelope(src)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			outer.Free()
		}
	}()
	r := &Reader{ctx: ctx, keys: keys, binder: opts.Binder, info: outerInfo(outer)}
	outer.Header = nil
	if r.peer, err = checkSAEs(outer.Control, opts); err != nil {
		return nil, err
	}
	if opts.Accept != nil {
		if err := opts.Accept(&r.info); err != nil {
			return nil, err
		}
	}
	switch r.info.Suite {
	case SuiteAES256GCM:
		err = r.openGCM(outer)
	case SuiteOTP:
		r.openOTP(outer)
	default:
		err = fmt.Errorf("%w %.40q", ErrSuite, outer.Control.Suite)
	}
	if err != nil {
		return nil, fromReading(err)
	}
	return r, nil
}

// Info describes the message. Its key IDs and its size grow while an OTP
// message is read, and are complete after io.EOF.
func (r *Reader) Info() *Info { return &r.info }

// Read reads verified octets of the restored message. An error other than
// io.EOF is final: what was released before is authentic, but not all.
func (r *Reader) Read(p []byte) (int, error) {
	if err := r.next(); err != nil {
		return 0, err
	}
	n := copy(p, r.plain)
	r.release(n)
	return n, nil
}

// next provides plaintext that is verified and not yet released.
func (r *Reader) next() error {
	if r.err == nil {
		r.err = r.ctx.Err()
	}
	for len(r.plain) == 0 && r.err == nil {
		r.plain, r.err = r.suite.Next()
		if r.err != nil && r.err != io.EOF {
			r.err = fromReading(r.err)
		}
	}
	return r.err
}

func (r *Reader) release(n int) {
	r.plain = r.plain[n:]
	r.info.PlaintextSize += int64(n)
}

// checkSAEs refuses a message that is not from a configured peer to us, our
// own that comes back included, and returns the SAE ID of the sender.
func checkSAEs(c *envelope.Control, opts *DecryptOptions) (peer string, err error) {
	if c.RecipientSAE != controlSAE(opts.SAE) {
		return "", fmt.Errorf("%w: it is addressed to %q, this is %q", ErrSAE, c.RecipientSAE, controlSAE(opts.SAE))
	}
	peers := opts.Peers
	if len(peers) == 0 {
		peers = []string{""}
	}
	for _, p := range peers {
		if c.SenderSAE == controlSAE(p) && (p == "" || p != opts.SAE) {
			return p, nil
		}
	}
	return "", fmt.Errorf("%w: it comes from %q", ErrSAE, c.SenderSAE)
}

func (r *Reader) openGCM(outer *envelope.Reader) (err error) {
	s, err := gcmstream.NewReader(outer)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			s.Abort()
		}
	}()
	control := outer.Control.Octets()
	r.info.Identity = identityOf(control, s.Header())
	keys, err := r.keys.KeysByID(r.ctx, r.peer, outer.Control.KeyID)
	defer kmclient.WipeAll(keys) // also those that come with an error
	if err != nil {
		return fmt.Errorf("fetch the key: %w", err)
	}
	if err := kmclient.CheckKeys(keys, 0, 1); err != nil {
		return err
	}
	if err := checkGCMKey(keys[0], outer.Control.KeyID); err != nil {
		return err
	}
	r.info.KeyIDs = []string{outer.Control.KeyID}
	if err := s.Unlock(keys[0].Reveal(), control); err != nil {
		return err
	}
	// The first chunk is verified here, so that nobody binds a key with a
	// commitment and nothing behind it.
	if err := s.Prime(); err != nil {
		return err
	}
	r.suite = s
	return r.bind(0, outer.Control.KeyID)
}

// bind binds the keys of a frame to the message.
func (r *Reader) bind(frame uint64, ids ...string) error {
	if err := r.binder.BindKeys(r.ctx, r.peer, r.info.Identity, frame, ids...); err != nil {
		return fmt.Errorf("bind the key: %w", err)
	}
	return nil
}

// identityOf is SHA-256 over the control octets and the beginning of the decoded
// payload: salt and commitment of AES-256-GCM, the whole first frame of OTP.
func identityOf(control []byte, beginning ...[]byte) (id kmclient.Identity) {
	h := sha256.New()
	_, _ = h.Write(control)
	for _, b := range beginning {
		_, _ = h.Write(b)
	}
	h.Sum(id[:0])
	return id
}

// checkGCMKey reports a key that can't be the one the sender used. A key of
// another size is a wrong key, and nothing wrong with the key manager: a
// message can name any key, one made for a pad included.
func checkGCMKey(k *kmclient.Key, id string) error {
	if kmclient.CanonicalID(k.ID()) != kmclient.CanonicalID(id) {
		return fmt.Errorf("%w: asked for %s and got %s", kmclient.ErrBadKey, id, k.ID())
	}
	if k.Size() != 8*gcmstream.KeySize {
		return fmt.Errorf("%w: key %s has %d bits and AES-256-GCM takes %d", ErrWrongKey, id, k.Size(), 8*gcmstream.KeySize)
	}
	return nil
}

func (r *Reader) openOTP(outer *envelope.Reader) {
	control := outer.Control.Octets()
	r.suite = otp.NewReader(otp.NewFrameReader(outer), otp.ReaderOptions{
		Control: control,
		KeyID:   outer.Control.KeyID,
		Keys: func(f *otp.Frame) ([]*kmclient.Key, error) {
			if f.Number == 0 {
				r.info.Identity = identityOf(control, f.Raw()...)
			}
			return r.keys.KeysByID(r.ctx, r.peer, f.KeyIDs...)
		},
		Verified: func(f *otp.Frame) error {
			r.info.KeyIDs = append(r.info.KeyIDs, f.KeyIDs...)
			return r.bind(f.Number, f.KeyIDs...)
		},
	})
}

// outerInfo describes what the outer message says.
func outerInfo(outer *envelope.Reader) Info {
	info := Info{
		Suite:        Suite(outer.Control.Suite),
		KeyID:        outer.Control.KeyID,
		Time:         outer.Control.Time,
		SenderSAE:    readableSAE(outer.Control.SenderSAE),
		RecipientSAE: readableSAE(outer.Control.RecipientSAE),
	}
	info.Transit = transit(outer.Header)
	return info
}

// maxTransit is how much of the trace fields is kept, in bytes.
const maxTransit = 64 << 10

// transit returns copies of the trace fields above Qkdmail-Key-ID, as long as there
// is room.
func transit(header []byte) (fields [][]byte) {
	names := []string{"Received", "Return-Path", "Delivered-To", "Authentication-Results"}
	size := 0
	for f := range rawheader.Fields(header, rawheader.Lenient) {
		if f.Is(envelope.KeyIDField) {
			return fields
		}
		if isOne(f, names) && size+len(f.Raw) <= maxTransit {
			size += len(f.Raw)
			fields = append(fields, bytes.Clone(f.Raw))
		}
	}
	return nil
}
