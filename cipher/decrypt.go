package cipher

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"

	"github.com/qkdmail/qkdmail/cipher/internal/envelope"
	"github.com/qkdmail/qkdmail/cipher/internal/gcmstream"
	"github.com/qkdmail/qkdmail/cipher/internal/hybrid"
	"github.com/qkdmail/qkdmail/cipher/internal/otp"
	"github.com/qkdmail/qkdmail/kmclient"
)

// A KeyFinder finds the keys that a message names. Every [kmclient.KeyManager] is one.
// If its DeletesOnDelivery returns true, use it through a keystore.Store: otherwise
// keys are lost when a call fails halfway.
type KeyFinder interface {
	// KeysByID returns the keys with these IDs, in this order. peer is the SAE ID of
	// the sender, "" if the message has none. The caller wipes the keys, even those
	// returned with an error.
	KeysByID(ctx context.Context, peer string, ids ...string) ([]*kmclient.Key, error)
}

// A KeyBinder remembers which message a key belongs to.
type KeyBinder interface {
	// BindKeys is called when these keys have verified a part of a message, before a
	// byte of it is released: for OTP with each frame and its number, for AES-256-GCM
	// once, with frame 0. It returns an error if the keys are bound to another message
	// or frame. On any error the message is refused.
	BindKeys(ctx context.Context, peer string, identity kmclient.Identity, frame uint64, ids ...string) error
}

// Unbound is a KeyBinder that remembers nothing. With it, a sender can use a key for a
// second message and anyone along the way can deliver a message again. It is for tests,
// and for archives that are read more than once.
var Unbound KeyBinder = unbound{}

type unbound struct{}

func (unbound) BindKeys(context.Context, string, kmclient.Identity, uint64, ...string) error {
	return nil
}

// A Reader reads the restored message. Every byte it releases is authenticated. Only
// io.EOF from Read means that they are the whole message and that nothing is wrong with
// what follows.
type Reader struct {
	ctx    context.Context
	keys   KeyFinder
	binder KeyBinder
	peer   string // SAE ID of the sender
	suite  suiteReader
	secret *hybrid.Secret // of a hybrid suite; nil: none
	plain  []byte         // verified, not yet released
	listed bool           // the recipient list is read, and plain is part of the message
	list   Recipients
	info   Info
	err    error
}

// A suiteReader decrypts the payload.
type suiteReader interface {
	// Next returns verified plaintext, valid until the next call, and io.EOF
	// after the last. Its errors are final.
	Next() ([]byte, error)
}

// Decrypt reads an encrypted message from src up to its payload, fetches the key it
// names, and returns a Reader of the restored message. With OTP, the Reader fetches the
// keys frame by frame.
//
// The error is ErrNotEncrypted for other mail; ErrDamaged, ErrVersion, ErrSuite,
// ErrSAE, ErrHybridKey, ErrWrongKey or ErrAltered for a message that can't be
// decrypted; ErrOptions without a Binder; or an error of src, keys, the binder or
// Accept.
func Decrypt(ctx context.Context, src io.Reader, keys KeyFinder, opts *DecryptOptions) (_ *Reader, err error) {
	if opts == nil || opts.Binder == nil {
		return nil, fmt.Errorf("%w: DecryptOptions.Binder must be set: to a keystore.Store, or to Unbound", ErrOptions)
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
	if err := r.open(outer, opts.Hybrid); err != nil {
		r.secret.Wipe()
		return nil, fromReading(err)
	}
	return r, nil
}

// open reads the beginning of the payload, and releases no plaintext. It looks up the
// X-Wing key before it asks for any other key.
func (r *Reader) open(outer *envelope.Reader, private []*HybridPrivateKey) error {
	suite := r.info.Suite
	if !suite.known() {
		return fmt.Errorf("%w %.40q", ErrSuite, suite)
	}
	control := outer.Control.Octets()
	var begin []byte
	if suite.Hybrid() {
		header, err := readHybridHeader(outer)
		if err != nil {
			return err
		}
		r.info.Fingerprint, begin = header.fingerprint(), header[:]
		if r.secret, err = header.decapsulate(private, control); err != nil {
			return err
		}
	}
	if suite.Plain() == SuiteOTP {
		r.openOTP(outer, control, begin)
		return nil
	}
	return r.openGCM(outer, control, begin)
}

// Info describes the message. KeyIDs and PlaintextSize grow as the message is
// read, and are complete after io.EOF.
func (r *Reader) Info() *Info { return &r.info }

// Read reads verified bytes of the restored message. Its errors are final. After
// an error other than io.EOF, what was read is authentic but incomplete.
func (r *Reader) Read(p []byte) (int, error) {
	if err := r.next(); err != nil {
		return 0, err
	}
	n := copy(p, r.plain)
	r.release(n)
	return n, nil
}

// next makes sure that r.plain has verified bytes of the message, or reports an error.
func (r *Reader) next() error {
	if err := r.readList(); err != nil {
		return err
	}
	return r.fill()
}

// fill makes sure that r.plain has verified plaintext, or reports an error.
func (r *Reader) fill() error {
	if r.err == nil {
		r.err = r.ctx.Err()
	}
	for len(r.plain) == 0 && r.err == nil {
		var err error
		if r.plain, err = r.suite.Next(); err != nil {
			return r.end(fromReading(err)) // io.EOF stays io.EOF
		}
	}
	return r.err
}

// end ends the Reader with an error.
func (r *Reader) end(err error) error {
	r.secret.Wipe()
	clear(r.plain)
	r.plain, r.err = nil, err
	return err
}

func (r *Reader) release(n int) {
	r.plain = r.plain[n:]
	r.info.PlaintextSize += int64(n)
}

// openGCM opens the payload of AES-256-GCM. begin is what a hybrid suite has already
// read of it.
func (r *Reader) openGCM(outer *envelope.Reader, control, begin []byte) (err error) {
	s, err := gcmstream.NewReader(outer)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			s.Abort()
		}
	}()
	r.info.Identity = identityOf(control, begin, s.Header())
	keys, err := r.keys.KeysByID(r.ctx, r.peer, outer.Control.KeyID)
	defer kmclient.WipeAll(keys)
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
	if err := s.Unlock(r.secret.Reveal(), keys[0].Reveal(), control); err != nil {
		return err
	}
	// The first chunk must verify before the key is bound: a commitment alone,
	// with no content after it, must not bind a key.
	if err := s.Prime(); err != nil {
		return err
	}
	r.secret.Wipe()
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

// identityOf returns the SHA-256 of the control octets and the beginning of the
// decoded payload: what X-Wing adds, then salt and commitment of AES-256-GCM or the
// first frame of OTP.
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
// another size is a wrong key, not a fault of the key manager: a message can
// name any key, such as one made for a pad.
func checkGCMKey(k *kmclient.Key, id string) error {
	if kmclient.CanonicalID(k.ID()) != kmclient.CanonicalID(id) {
		return fmt.Errorf("%w: asked for %s and got another", kmclient.ErrBadKey, id)
	}
	if k.Size() != 8*gcmstream.KeySize {
		return fmt.Errorf("%w: key %s has %d bits and AES-256-GCM takes %d", ErrWrongKey, id, k.Size(), 8*gcmstream.KeySize)
	}
	return nil
}

func (r *Reader) openOTP(outer *envelope.Reader, control, begin []byte) {
	opts := otp.ReaderOptions{
		Control: control,
		KeyID:   outer.Control.KeyID,
		Keys: func(f *otp.Frame) ([]*kmclient.Key, error) {
			if f.Number == 0 {
				r.info.Identity = identityOf(control, append([][]byte{begin}, f.Raw()...)...)
			}
			return r.keys.KeysByID(r.ctx, r.peer, f.KeyIDs...)
		},
		Verified: func(f *otp.Frame) error {
			r.info.KeyIDs = append(r.info.KeyIDs, f.KeyIDs...)
			return r.bind(f.Number, f.KeyIDs...)
		},
	}
	if r.secret != nil {
		opts.Layer = func(number uint64) (otp.Layer, error) { return layerOf(r.secret, begin, number) }
	}
	r.suite = otp.NewReader(otp.NewFrameReader(outer), opts)
}
