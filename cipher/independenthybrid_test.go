package cipher_test

// What X-Wing and the recipient list add to the independent reader: see
// independent_test.go. X-Wing and HPKE are done by hand here.

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/hkdf"
	"crypto/mlkem"
	"crypto/sha256"
	"crypto/sha3"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"os"
	"slices"
	"testing"
)

const indEnc = 1088 + 32 // size of enc

// openSecret reads fingerprint and enc, and returns the secret of the message and the
// payload of the plain suite (§10.6).
func (r *indReader) openSecret(payload []byte, control map[string]string) (secret, plain []byte, err error) {
	t := &indTaker{payload}
	fingerprint, enc := t.take(32), t.take(indEnc)
	if fingerprint == nil || enc == nil {
		return nil, nil, indDamaged("payload of %d bytes", len(payload))
	}
	for _, seed := range r.seeds {
		k := newIndPrivate(seed)
		if sum := sha256.Sum256(k.public()); !bytes.Equal(sum[:], fingerprint) {
			continue
		}
		shared, err := k.decapsulate(enc)
		if err != nil {
			return nil, nil, err
		}
		r.begin = payload[:len(payload)-len(t.rest)]
		return indSecret(shared, indControlOctets(control)), t.rest, nil
	}
	return nil, nil, indErr(errIndHybrid, "fingerprint %x", fingerprint)
}

// ---- §10.2 X-Wing

type indPrivate struct {
	m *mlkem.DecapsulationKey768
	x *ecdh.PrivateKey
}

func newIndPrivate(seed []byte) indPrivate {
	expanded := sha3.SumSHAKE256(seed, 96)
	return indPrivate{indMust(mlkem.NewDecapsulationKey768(expanded[:64])), indMust(ecdh.X25519().NewPrivateKey(expanded[64:]))}
}

func (k indPrivate) public() []byte {
	return slices.Concat(k.m.EncapsulationKey().Bytes(), k.x.PublicKey().Bytes())
}

// decapsulate returns the shared secret in enc.
func (k indPrivate) decapsulate(enc []byte) ([]byte, error) {
	ct := indMust(ecdh.X25519().NewPublicKey(enc[1088:]))
	ssX, err := k.x.ECDH(ct)
	if err != nil { // it is zero
		return nil, indErr(errIndKey, "X25519: %v", err)
	}
	return k.combine(enc, ssX), nil
}

// combine joins the two halves; ssX is one of them.
func (k indPrivate) combine(enc, ssX []byte) []byte {
	ssM := indMust(k.m.Decapsulate(enc[:1088]))
	sum := sha3.Sum256(slices.Concat(ssM, ssX, enc[1088:], k.x.PublicKey().Bytes(), []byte("\x5c\x2e\x2f\x2f\x5e\x5c")))
	return sum[:]
}

// ---- §10.3 HPKE

// An indHPKE is a suite_id.
type indHPKE string

func (id indHPKE) extract(salt []byte, label string, k []byte) []byte {
	return indMust(hkdf.Extract(sha256.New, slices.Concat([]byte("HPKE-v1"+string(id)+label), k), salt))
}

func (id indHPKE) expand(p []byte, label string, i []byte) []byte {
	return indMust(hkdf.Expand(sha256.New, p, "\x00\x20HPKE-v1"+string(id)+label+string(i), 32))
}

// exporter returns the secret from which others are exported.
func (id indHPKE) exporter(shared, info []byte) []byte {
	context := slices.Concat([]byte{0}, id.extract(nil, "psk_id_hash", nil), id.extract(nil, "info_hash", info))
	return id.expand(id.extract(shared, "secret", nil), "exp", context)
}

func indSecret(shared, control []byte) []byte {
	const id indHPKE = "HPKE\x64\x7a\x00\x01\xff\xff"
	info := append([]byte("qkdmail/1 X-WING\x00"), control...)
	return id.expand(id.exporter(shared, info), "sec", []byte("qkdmail/1 secret"))
}

// TestIndependentHPKE checks the vector of draft-ietf-hpke-pq.
func TestIndependentHPKE(t *testing.T) {
	text := indMust(os.ReadFile("internal/hybrid/testdata/hpke-pq.json"))
	var v struct {
		Info, Enc, SkRm, PkRm string
		SharedSecret          string `json:"shared_secret"`
		ExporterSecret        string `json:"exporter_secret"`
		Exports               []struct {
			Context string `json:"exporter_context"`
			Value   string `json:"exported_value"`
		}
	}
	if err := json.Unmarshal(text, &v); err != nil || len(v.Exports) == 0 {
		t.Fatalf("%d exports, %v", len(v.Exports), err)
	}
	unhex := func(s string) []byte { return indMust(hex.DecodeString(s)) }
	check := func(what string, got []byte, want string) {
		t.Helper()
		if hex.EncodeToString(got) != want {
			t.Errorf("%s: %x, want %s", what, got, want)
		}
	}
	const id indHPKE = "HPKE\x64\x7a\x00\x01\x00\x03" // ChaCha20Poly1305; exports don't use it
	key := newIndPrivate(unhex(v.SkRm))
	check("public key", key.public(), v.PkRm)
	shared := indMust(key.decapsulate(unhex(v.Enc)))
	check("shared secret", shared, v.SharedSecret)
	exporter := id.exporter(shared, unhex(v.Info))
	check("exporter", exporter, v.ExporterSecret)
	for _, e := range v.Exports {
		check("export", id.expand(exporter, "sec", unhex(e.Context)), e.Value)
	}
}

// ---- §10.5 The second layer of the OTP

// indStream returns the key stream of a frame.
func indStream(secret []byte, number uint64) cipher.Stream {
	label := binary.BigEndian.AppendUint64([]byte("qkdmail/1 OTP mask\x00"), number)
	block := indMust(aes.NewCipher(indMust(hkdf.Expand(sha256.New, secret, string(label), 32))))
	return cipher.NewCTR(block, make([]byte, 16))
}

// ---- §11 Recipients

// indMessage separates a plaintext into the message and the digests before it.
func indMessage(plaintext []byte) (message []byte, recipients [][]byte, err error) {
	t := &indTaker{plaintext}
	count := t.take(4)
	if count == nil {
		return nil, nil, indDamaged("no list of recipients")
	}
	n := binary.BigEndian.Uint32(count)
	if n > 4096 {
		return nil, nil, indDamaged("a list of %d recipients", n)
	}
	for range n {
		digest := t.take(16)
		if digest == nil {
			return nil, nil, indDamaged("a list of %d recipients in %d bytes", n, len(plaintext))
		}
		recipients = append(recipients, digest)
	}
	return t.rest, recipients, nil
}

// indDigest returns the digest of an address in the form of §11.1.
func indDigest(address string) []byte {
	sum := sha256.Sum256([]byte("qkdmail/1 recipient\x00" + address))
	return sum[:16]
}
