package hybrid

import (
	"bytes"
	"crypto/ecdh"
	"crypto/hpke"
	"crypto/mlkem"
	"crypto/mlkem/mlkemtest"
	"crypto/sha3"
	"encoding/hex"
	"encoding/json"
	"os"
	"testing"
)

func unhex(t *testing.T, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestKEM: KEM is the one in the drafts. The vector is draft-ietf-hpke-pq's for X-Wing
// with HKDF-SHA256.
func TestKEM(t *testing.T) {
	text, err := os.ReadFile("testdata/hpke-pq.json")
	if err != nil {
		t.Fatal(err)
	}
	var v struct {
		KEM            uint16 `json:"kem_id"`
		AEAD           uint16 `json:"aead_id"`
		Info, Enc      string
		Private        string `json:"skRm"`
		Public         string `json:"pkRm"`
		SharedSecret   string `json:"shared_secret"`
		ExporterSecret string `json:"exporter_secret"`
		Exports        []struct {
			Context string `json:"exporter_context"`
			L       int
			Value   string `json:"exported_value"`
		}
	}
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	key, err := KEM().NewPrivateKey(unhex(t, v.Private))
	if err != nil {
		t.Fatal(err)
	}
	if KEM().ID() != v.KEM || !bytes.Equal(key.PublicKey().Bytes(), unhex(t, v.Public)) {
		t.Errorf("KEM %#x with a public key that is not the vector's", KEM().ID())
	}
	aead, err := hpke.NewAEAD(v.AEAD)
	if err != nil {
		t.Fatal(err)
	}
	r, err := hpke.NewRecipient(unhex(t, v.Enc), key, hpke.HKDFSHA256(), aead, unhex(t, v.Info))
	if err != nil || len(v.Exports) == 0 {
		t.Fatalf("%d exports, error %v", len(v.Exports), err)
	}
	for _, e := range v.Exports {
		got, err := r.Export(string(unhex(t, e.Context)), e.L)
		if err != nil || hex.EncodeToString(got) != e.Value {
			t.Errorf("export %s: %x, %v; want %s", e.Context, got, err, e.Value)
		}
	}
}

// draftKey returns the private key in the first vector of
// draft-connolly-cfrg-xwing-kem, and enc for it. The draft takes random bytes from
// SHAKE128 of the empty string: 32 for the seed, 64 for the encapsulation.
func draftKey(t *testing.T) (key hpke.PrivateKey, enc []byte) {
	t.Helper()
	random := make([]byte, 96)
	shake := sha3.NewSHAKE128()
	_, _ = shake.Read(random)
	key, err := KEM().NewPrivateKey(random[:32])
	if err != nil {
		t.Fatal(err)
	}
	public, err := mlkem.NewEncapsulationKey768(key.PublicKey().Bytes()[:mlkem.EncapsulationKeySize768])
	if err != nil {
		t.Fatal(err)
	}
	_, enc, err = mlkemtest.Encapsulate768(public, random[32:64])
	if err != nil {
		t.Fatal(err)
	}
	x, err := ecdh.X25519().NewPrivateKey(random[64:])
	if err != nil {
		t.Fatal(err)
	}
	return key, append(enc, x.PublicKey().Bytes()...)
}

// TestSecret: the shared secret in the draft is
// d2df0522128f09dd8e2c92b1e905c793d8f57a54c3da25861f10bf4ca613e384. The wanted secret
// was computed from it with another program, as in docs/format.md, section 10.3.
func TestSecret(t *testing.T) {
	key, enc := draftKey(t)
	s, err := Decapsulate(key, enc, []byte("control octets"))
	if err != nil {
		t.Fatal(err)
	}
	if got := hex.EncodeToString(s.Reveal()); got != "e4e0080aac9aa342433c2c9b93300d5acf421728122e307a00338854dc62817b" {
		t.Errorf("secret %s", got)
	}
	const want = "fd57e8c41d6588f248e2aa0808aca5b4ccab457ab7708a6e6c32c16ae24683ce682c2c186b0a34c7bf303b3f0830bf9b21f5ca3cef322fcedb2d299b914f717fcd94e8a5924ce20c5ff675b505306ed1"
	for frame, same := range map[uint64]bool{7: true, 8: false} {
		stream, err := s.Stream(frame)
		if err != nil {
			t.Fatal(err)
		}
		got := make([]byte, 80)
		stream.XORKeyStream(got, got)
		if (hex.EncodeToString(got) == want) != same {
			t.Errorf("frame %d has the key stream %x", frame, got)
		}
	}
	revealed := s.Reveal()
	s.Wipe()
	if !bytes.Equal(revealed, make([]byte, SecretSize)) {
		t.Error("a wiped secret is still there")
	}
	if _, err := s.Stream(7); err == nil {
		t.Error("a wiped secret gives a key stream")
	}
}

// TestRoundTrip: both sides get the same secret, and every change of enc or of the
// control octets changes it.
func TestRoundTrip(t *testing.T) {
	key, _ := draftKey(t)
	control := []byte("control octets")
	enc, s, err := Encapsulate(key.PublicKey(), control)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := Decapsulate(key, enc, control); err != nil || !bytes.Equal(got.Reveal(), s.Reveal()) || len(got.Reveal()) != SecretSize || len(enc) != EncSize {
		t.Fatalf("enc of %d bytes: a different secret, or error %v", len(enc), err)
	}
	other, err := KEM().GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		key          hpke.PrivateKey
		enc, control []byte
	}{
		"another key":     {other, enc, control},
		"other control":   {key, enc, []byte("control octet")},
		"no control":      {key, enc, nil},
		"a bit of ML-KEM": {key, flip(enc, 0), control},
		"its last bit":    {key, flip(enc, 1087), control},
		"a bit of X25519": {key, flip(enc, 1088), control},
	} {
		if got, err := Decapsulate(c.key, c.enc, c.control); err != nil || bytes.Equal(got.Reveal(), s.Reveal()) {
			t.Errorf("%s: the same secret, or error %v", name, err)
		}
	}
	for _, enc := range [][]byte{nil, enc[1:], append(enc, 0)} {
		if _, err := Decapsulate(key, enc, control); err == nil {
			t.Errorf("enc of %d bytes is accepted", len(enc))
		}
	}
	again, s2, err := Encapsulate(key.PublicKey(), control)
	if err != nil || bytes.Equal(again, enc) || bytes.Equal(s2.Reveal(), s.Reveal()) {
		t.Errorf("two encapsulations are the same, or error %v", err)
	}
}

func flip(b []byte, i int) []byte {
	b = bytes.Clone(b)
	b[i] ^= 1
	return b
}

// TestLowOrder refuses X25519's points of low order (RFC 7748 §6.1), with which
// everybody would know X25519's half of the secret.
func TestLowOrder(t *testing.T) {
	key, enc := draftKey(t)
	for _, point := range []string{
		"0000000000000000000000000000000000000000000000000000000000000000",
		"0100000000000000000000000000000000000000000000000000000000000000",
		"e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
		"5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
		"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
	} {
		if _, err := Decapsulate(key, append(enc[:1088:1088], unhex(t, point)...), nil); err == nil {
			t.Errorf("%s is accepted in enc", point)
		}
		public, err := KEM().NewPublicKey(append(key.PublicKey().Bytes()[:1184], unhex(t, point)...))
		if err != nil {
			continue
		}
		if _, _, err := Encapsulate(public, nil); err == nil {
			t.Errorf("%s is accepted in a public key", point)
		}
	}
}

// TestNoSecret: without a secret, keys are not used as they are.
func TestNoSecret(t *testing.T) {
	var s *Secret
	if _, err := s.Stream(0); err == nil || s.Reveal() != nil {
		t.Errorf("a nil secret reveals %x and gives a key stream", s.Reveal())
	}
	s.Wipe()
}
