package cipher

import (
	"bytes"
	"crypto/hpke"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"

	"github.com/qkdmail/qkdmail/cipher/internal/hybrid"
	"github.com/qkdmail/qkdmail/cipher/internal/otp"
)

// Types of the PEM blocks in key files.
const (
	pemHybridPublic  = "QKDMAIL X-WING PUBLIC KEY"
	pemHybridPrivate = "QKDMAIL X-WING PRIVATE KEY"
)

// A Fingerprint is the SHA-256 of an X-Wing public key. A message under a hybrid suite
// names its recipient's key by this. The zero value means no key.
type Fingerprint [sha256.Size]byte

// String returns the fingerprint in 64 hexadecimal digits.
func (f Fingerprint) String() string { return hex.EncodeToString(f[:]) }

// A HybridPublicKey is an X-Wing public key of 1,216 bytes (ML-KEM-768 with X25519,
// draft-connolly-cfrg-xwing-kem). A message encrypted with one is under a hybrid suite.
type HybridPublicKey struct {
	key         hpke.PublicKey
	fingerprint Fingerprint
}

// A HybridPrivateKey is an X-Wing private key, a seed of 32 bytes. It opens messages
// for its public key, together with the key manager's key. Printing or logging it shows
// the fingerprint; only RevealPEM shows the seed.
type HybridPrivateKey struct {
	key    hpke.PrivateKey
	public *HybridPublicKey
}

// GenerateHybridKey returns a new private key.
func GenerateHybridKey() (*HybridPrivateKey, error) {
	key, err := hybrid.KEM().GenerateKey()
	if err != nil {
		return nil, err
	}
	return newHybridPrivateKey(key), nil
}

func newHybridPrivateKey(key hpke.PrivateKey) *HybridPrivateKey {
	return &HybridPrivateKey{key, newHybridPublicKey(key.PublicKey())}
}

func newHybridPublicKey(key hpke.PublicKey) *HybridPublicKey {
	return &HybridPublicKey{key, sha256.Sum256(key.Bytes())}
}

// ParseHybridPublicKey reads a public key as PEM returns it. The error wraps
// ErrOptions, also if text is a private key.
func ParseHybridPublicKey(text []byte) (*HybridPublicKey, error) {
	data, err := decodeHybridPEM(text, pemHybridPublic)
	if err != nil {
		return nil, err
	}
	key, err := hybrid.KEM().NewPublicKey(data)
	if err != nil {
		return nil, fmt.Errorf("%w: no X-Wing public key in it: %w", ErrOptions, err)
	}
	if _, _, err := hybrid.Encapsulate(key, nil); err != nil { // X25519 accepts points that are not keys
		return nil, fmt.Errorf("%w: an unusable X-Wing public key: %w", ErrOptions, err)
	}
	return newHybridPublicKey(key), nil
}

// ParseHybridPrivateKey reads a private key as RevealPEM returns it. The error wraps
// ErrOptions and shows none of the text.
func ParseHybridPrivateKey(text []byte) (*HybridPrivateKey, error) {
	data, err := decodeHybridPEM(text, pemHybridPrivate)
	if err != nil {
		return nil, err
	}
	defer clear(data)
	key, err := hybrid.KEM().NewPrivateKey(data)
	if err != nil {
		return nil, fmt.Errorf("%w: no X-Wing private key in it: it has %d bytes, not 32", ErrOptions, len(data))
	}
	return newHybridPrivateKey(key), nil
}

// decodeHybridPEM returns the content of text, which must be one PEM block of this
// type.
func decodeHybridPEM(text []byte, want string) ([]byte, error) {
	begin := []byte("-----BEGIN ")
	block, rest := pem.Decode(text)
	switch {
	case len(bytes.TrimSpace(text)) == 0:
		return nil, fmt.Errorf("%w: it is empty, want a PEM block %q", ErrOptions, want)
	case block == nil:
		return nil, fmt.Errorf("%w: it is not PEM, want a PEM block %q", ErrOptions, want)
	case block.Type == pemHybridPrivate && want == pemHybridPublic:
		clear(block.Bytes)
		return nil, fmt.Errorf("%w: it is a private key: use the public key beside it", ErrOptions)
	case block.Type == pemHybridPublic && want == pemHybridPrivate:
		return nil, fmt.Errorf("%w: it is a public key: use the private key", ErrOptions)
	case block.Type != want:
		return nil, fmt.Errorf("%w: it is a PEM block %.60q, want %q", ErrOptions, block.Type, want)
	case len(block.Headers) > 0 || len(bytes.TrimSpace(rest)) > 0 || bytes.Count(text, begin) != 1 || !bytes.HasPrefix(bytes.TrimSpace(text), begin):
		// Decode skips broken blocks, and text before a block.
		clear(block.Bytes)
		return nil, fmt.Errorf("%w: it has more than one PEM block %q without headers", ErrOptions, want)
	}
	return block.Bytes, nil
}

// Fingerprint returns the SHA-256 of the key.
func (k *HybridPublicKey) Fingerprint() Fingerprint { return k.fingerprint }

// PEM returns the key as a PEM block, which ParseHybridPublicKey reads.
func (k *HybridPublicKey) PEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: pemHybridPublic, Bytes: k.key.Bytes()})
}

// Public returns the public key, which senders need.
func (k *HybridPrivateKey) Public() *HybridPublicKey { return k.public }

// RevealPEM returns the seed as a PEM block, which ParseHybridPrivateKey reads. Write
// it only where no one else can read it.
func (k *HybridPrivateKey) RevealPEM() ([]byte, error) {
	seed, err := k.key.Bytes() // the key's own bytes, not a copy: don't wipe them
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: pemHybridPrivate, Bytes: seed}), nil
}

// String returns the fingerprint of the public key. Like Format and LogValue, it is a
// method of the value, so that a copy of the key does not show the seed either.
func (k HybridPrivateKey) String() string {
	return "X-Wing private key " + k.public.fingerprint.String()
}

// Format prints what String returns for every verb, including %#v and %x.
func (k HybridPrivateKey) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, k.String()) }

// LogValue logs the fingerprint of the public key.
func (k HybridPrivateKey) LogValue() slog.Value { return slog.StringValue(k.String()) }

// encapsulate returns what a payload begins with, fingerprint and enc, and the secret.
func (k *HybridPublicKey) encapsulate(control []byte) (begin []byte, s *hybrid.Secret, err error) {
	enc, s, err := hybrid.Encapsulate(k.key, control)
	if err != nil {
		return nil, nil, fmt.Errorf("X-Wing: %w", err)
	}
	return append(k.fingerprint[:], enc...), s, nil
}

// layerOf returns the layer that a hybrid suite puts over a frame of OTP.
func layerOf(s *hybrid.Secret, begin []byte, number uint64) (otp.Layer, error) {
	stream, err := s.Stream(number)
	return otp.Layer{Begin: begin, Stream: stream}, err
}

// A hybridHeader is the beginning of a payload under a hybrid suite.
type hybridHeader [hybrid.FingerprintSize + hybrid.EncSize]byte

func (h *hybridHeader) fingerprint() Fingerprint { return Fingerprint(h[:hybrid.FingerprintSize]) }

// readHybridHeader reads the beginning of a payload. Unlike io.ReadFull, it makes no
// io.ErrUnexpectedEOF of its own: one from payload means that the connection was cut,
// not the message.
func readHybridHeader(payload io.Reader) (*hybridHeader, error) {
	h := new(hybridHeader)
	for n := 0; n < len(h); {
		m, err := payload.Read(h[n:])
		if n += m; n < len(h) && err == io.EOF {
			return nil, fmt.Errorf("%w: it ends in its key encapsulation", ErrDamaged)
		} else if n < len(h) && err != nil {
			return nil, err
		}
	}
	return h, nil
}

// decapsulate returns the secret of a message, with the private key that its
// fingerprint names.
func (h *hybridHeader) decapsulate(keys []*HybridPrivateKey, control []byte) (*hybrid.Secret, error) {
	for _, k := range keys {
		if k.public.fingerprint != h.fingerprint() {
			continue
		}
		s, err := hybrid.Decapsulate(k.key, h[hybrid.FingerprintSize:], control)
		if err != nil {
			return nil, fmt.Errorf("%w: X-Wing: %w", ErrWrongKey, err)
		}
		return s, nil
	}
	return nil, fmt.Errorf("%w: its fingerprint is %s", ErrHybridKey, h.fingerprint())
}
