// Package hybrid makes the secret that a suite with X-Wing adds to the keys of a
// message. Whoever breaks or runs a key manager still has to break X-Wing (ML-KEM-768
// with X25519), and vice versa. docs/format.md, section 10, defines it; sizes are
// bytes:
//
//	payload     = fingerprint(32) ‖ enc(1,120) ‖ payload of the plain suite
//	fingerprint = SHA-256 of the recipient's public key
//	secret      = 32 bytes of HPKE Export (RFC 9180 §5.3), context "qkdmail/1 secret", with
//	              mode base, KEM X-Wing, KDF HKDF-SHA256, AEAD export-only,
//	              info "qkdmail/1 X-WING" ‖ 0x00 ‖ control octets
//	key stream  = AES-256-CTR from block 0, one key per frame:
//	              HKDF-Expand(SHA-256, secret, "qkdmail/1 OTP mask" ‖ 0x00 ‖ frame number as
//	              u64 big-endian, 32)
//
// AES-256-GCM takes secret ‖ key as input to its key derivation. OTP puts the key
// stream over each frame as a second layer: see otp.Layer.
package hybrid

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hpke"
	"crypto/sha256"
	"encoding/binary"
	"errors"
)

// Sizes in bytes.
const (
	FingerprintSize = sha256.Size
	EncSize         = 1088 + 32 // ciphertext of ML-KEM-768, public key of X25519
	SecretSize      = 32
)

// KEM is X-Wing, the KEM 0x647a of HPKE.
func KEM() hpke.KEM { return hpke.MLKEM768X25519() }

// A Secret is what X-Wing adds to the keys of one message. It is nil for a suite
// without X-Wing.
type Secret struct{ bytes []byte }

// Encapsulate makes a secret that only the owner of a public key can find out from
// enc. It is bound to the control octets.
func Encapsulate(public hpke.PublicKey, control []byte) (enc []byte, s *Secret, err error) {
	enc, sender, err := hpke.NewSender(public, hpke.HKDFSHA256(), hpke.ExportOnly(), info(control))
	if err != nil {
		return nil, nil, err
	}
	s, err = export(sender)
	return enc, s, err
}

// Decapsulate returns the secret in enc. A different enc or different control octets
// give a different secret and, with rare exceptions, no error.
func Decapsulate(private hpke.PrivateKey, enc, control []byte) (*Secret, error) {
	recipient, err := hpke.NewRecipient(enc, private, hpke.HKDFSHA256(), hpke.ExportOnly(), info(control))
	if err != nil {
		return nil, err
	}
	return export(recipient)
}

func info(control []byte) []byte { return append([]byte("qkdmail/1 X-WING\x00"), control...) }

func export(context interface {
	Export(context string, length int) ([]byte, error)
}) (*Secret, error) {
	secret, err := context.Export("qkdmail/1 secret", SecretSize)
	if err != nil {
		return nil, err
	}
	return &Secret{secret}, nil
}

// Reveal returns the bytes of the secret, nil for a nil *Secret. They are not a copy.
func (s *Secret) Reveal() []byte {
	if s == nil {
		return nil
	}
	return s.bytes
}

// Wipe clears the secret.
func (s *Secret) Wipe() {
	if s != nil {
		clear(s.bytes)
		s.bytes = nil
	}
}

// Stream returns the key stream of a frame. Without a secret, or after Wipe, it returns
// an error.
func (s *Secret) Stream(frame uint64) (cipher.Stream, error) {
	if len(s.Reveal()) == 0 {
		return nil, errors.New("no secret to make a key stream of")
	}
	label := binary.BigEndian.AppendUint64([]byte("qkdmail/1 OTP mask\x00"), frame)
	key, err := hkdf.Expand(sha256.New, s.bytes, string(label), 32)
	if err != nil {
		return nil, err
	}
	defer clear(key)
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewCTR(block, make([]byte, aes.BlockSize)), nil
}
