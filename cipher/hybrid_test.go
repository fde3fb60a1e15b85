package cipher_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/qkdmail/qkdmail/cipher"
	"github.com/qkdmail/qkdmail/cipher/internal/gcmstream"
	"github.com/qkdmail/qkdmail/cipher/internal/otp"
	"github.com/qkdmail/qkdmail/kmclient"
)

var hybridSuites = []cipher.Suite{cipher.SuiteAES256GCMXWing, cipher.SuiteOTPXWing}

// wrongSecret is the error for a message whose secret or key is wrong. AES-256-GCM has
// a commitment, and in OTP the tag of a frame is wrong.
func wrongSecret(suite cipher.Suite) error {
	if suite.Plain() == cipher.SuiteOTP {
		return cipher.ErrAltered
	}
	return cipher.ErrWrongKey
}

// mustRefuse decrypts a message that must be refused with the error want, after finds
// requests for keys and with nothing released.
func mustRefuse(t *testing.T, what string, km *testKM, outer []byte, opts *cipher.DecryptOptions, want error, finds int) {
	t.Helper()
	km.finds = 0
	got, err := decrypt(t, km, outer, opts)
	if !errors.Is(err, want) || len(got) > 0 {
		t.Errorf("%s: released %q, error %v, want %v", what, got, err, want)
	}
	if km.finds != finds {
		t.Errorf("%s: asked for keys %d times, want %d", what, km.finds, finds)
	}
}

// A halfway attacker has the parts of one message.
type halfway struct {
	suite   cipher.Suite
	outer   []byte
	begin   []byte // fingerprint and enc
	plain   []byte // the payload of the plain suite
	control []byte // control octets
	keyID   string
}

func newHalfway(t *testing.T, suite cipher.Suite, outer []byte) *halfway {
	t.Helper()
	values, control := (&vector{message: outer}).control(t)
	payload := payloadOf(t, outer)
	return &halfway{suite, outer, payload[:hybridBegin], payload[hybridBegin:], control, values["key-id"]}
}

// open reads the payload of the plain suite with a key and a secret, which may be
// guesses, without the checks that the package makes first.
func (h *halfway) open(key, secret []byte) ([]byte, error) {
	if h.suite.Plain() == cipher.SuiteOTP {
		return otp.NewReader(otp.NewFrameReader(bytes.NewReader(h.plain)), otp.ReaderOptions{
			Control: h.control, KeyID: h.keyID, Layer: layerWith(h.begin, secret),
			Keys: func(f *otp.Frame) ([]*kmclient.Key, error) {
				return []*kmclient.Key{kmclient.NewKey(f.KeyIDs[0], bytes.Clone(key))}, nil
			},
		}).Next()
	}
	r, err := gcmstream.NewReader(bytes.NewReader(h.plain))
	if err != nil {
		return nil, err
	}
	if err := r.Unlock(secret, key, h.control); err != nil {
		return nil, err
	}
	return r.Next()
}

// forge makes a message with the control part of h from a key and a secret.
func (h *halfway) forge(t *testing.T, plaintext, begin, key, secret []byte) []byte {
	t.Helper()
	payload := bytes.NewBuffer(bytes.Clone(begin))
	var w io.WriteCloser
	var err error
	if h.suite.Plain() == cipher.SuiteOTP {
		w, err = otp.NewWriter(otp.WriterOptions{
			Layer: layerWith(begin, secret),
			Open:  func(string) (io.Writer, []byte, error) { return payload, h.control, nil },
			Keys: func(size, _ int) ([]*kmclient.Key, error) {
				return []*kmclient.Key{kmclient.NewKey(h.keyID, bytes.Clone(key[:size/8:size/8]))}, nil
			},
		})
	} else {
		w, err = gcmstream.NewWriter(payload, secret, key, h.control, rand.Reader)
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(plaintext); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return replacePayload(h.outer, payload.Bytes())
}

// guesses are secrets that an attacker without X-Wing may try.
func (h *halfway) guesses() [][]byte {
	return [][]byte{nil, make([]byte, 32), h.begin[:32], h.begin[32:64], h.plain[:32]}
}

// TestKeyManagerAlone plays an operator of the key manager, who knows every key, sees
// every message, and has an X-Wing key of their own.
func TestKeyManagerAlone(t *testing.T) {
	for _, suite := range hybridSuites {
		km := newTestKM()
		h := newHalfway(t, suite, encrypt(t, km, []byte(shortMessage), &cipher.EncryptOptions{Suite: suite}))
		key := km.keys[h.keyID]
		own, err := cipher.GenerateHybridKey()
		if err != nil {
			t.Fatal(err)
		}
		his := &cipher.DecryptOptions{Hybrid: []*cipher.HybridPrivateKey{own}}
		ownPrint := own.Public().Fingerprint()
		pay := bytes.Repeat([]byte("9"), len(shortMessage)) // takes a key of the same size

		mustRefuse(t, "open", km, h.outer, his, cipher.ErrHybridKey, 0)
		mustRefuse(t, "open with the operator's own fingerprint", km, replacePayload(h.outer, slices.Concat(ownPrint[:], h.begin[32:], h.plain)), his, wrongSecret(suite), 1)
		named := bytes.Replace(h.outer, []byte("Suite: "+string(suite)), []byte("Suite: "+string(suite.Plain())), 1)
		if got, err := decrypt(t, km, replacePayload(named, h.plain), nil); !errors.Is(err, wrongSecret(suite)) || len(got) > 0 {
			t.Errorf("%s: open as a plain suite: %q, error %v", suite, got, err)
		}
		for i, secret := range h.guesses() {
			if got, err := h.open(key, secret); err == nil {
				t.Errorf("%s: secret %d: opened as %q", suite, i, got)
			}
			forged := h.forge(t, make([]byte, 40), h.begin, key, secret)
			mustRefuse(t, "forge under the message's enc", km, forged, nil, wrongSecret(suite), 1)
		}

		theirs := encrypt(t, oneKey{h.keyID, key}, pay, &cipher.EncryptOptions{Suite: suite, Hybrid: own.Public()})
		mustRefuse(t, "a message for the operator's own X-Wing key", km, theirs, nil, cipher.ErrHybridKey, 0)
		payload := payloadOf(t, theirs)
		copy(payload, h.begin[:32])
		mustRefuse(t, "the same with the recipient's fingerprint", km, replacePayload(theirs, payload), nil, wrongSecret(suite), 1)

		// The public key alone is one half: docs/format.md, section 9.
		made := encrypt(t, oneKey{h.keyID, key}, pay, &cipher.EncryptOptions{Suite: suite})
		if got, err := decrypt(t, km, made, nil); err != nil || !bytes.Equal(got, pay) {
			t.Errorf("%s: with the public key as well: %q, error %v", suite, got, err)
		}
	}
}

// TestPrivateKeyAlone plays an attacker who has stolen the private key, or broken
// X-Wing: they know the secret of every message, but no key of the key manager.
func TestPrivateKeyAlone(t *testing.T) {
	for _, suite := range hybridSuites {
		km := newTestKM()
		h := newHalfway(t, suite, encrypt(t, km, []byte(shortMessage), &cipher.EncryptOptions{Suite: suite}))
		shared, err := newIndPrivate(counted(32)).decapsulate(h.begin[32:])
		if err != nil {
			t.Fatal(err)
		}
		secret := indSecret(shared, h.control)
		if _, err := h.open(km.keys[h.keyID], secret); err != nil {
			t.Fatalf("%s: with both halves: %v", suite, err)
		}

		mustRefuse(t, "open without keys", newTestKM(), h.outer, nil, kmclient.ErrKeyNotFound, 1)
		size := len(km.keys[h.keyID])
		guess := bytes.Repeat([]byte{1, 2}, size/2)
		stream := make([]byte, size)
		indStream(secret, 0).XORKeyStream(stream, stream)
		for i, key := range [][]byte{guess, stream, secret} {
			key = append(key, guess...)[:size]
			if got, err := h.open(key, secret); err == nil {
				t.Errorf("%s: key %d: opened as %q", suite, i, got)
			}
			forged := h.forge(t, make([]byte, 40), h.begin, key, secret)
			mustRefuse(t, "forge under the key's ID", km, forged, nil, wrongSecret(suite), 1)
		}
		if suite.Plain() != cipher.SuiteOTP {
			continue
		}
		// The attacker also knows the plaintext, and so all pad bytes of the key.
		known := bytes.Clone(km.keys[h.keyID])
		copy(known[:32], guess)
		mustRefuse(t, "forge under the pad of a known plaintext", km, h.forge(t, make([]byte, 40), h.begin, known, secret), nil, cipher.ErrAltered, 1)
	}
}

// TestBothHalves: a message opens with the key and the private key, and of several
// private keys only with the right one.
func TestBothHalves(t *testing.T) {
	other, err := cipher.GenerateHybridKey()
	if err != nil {
		t.Fatal(err)
	}
	for _, suite := range hybridSuites {
		km := newTestKM()
		outer := encrypt(t, km, []byte(shortMessage), &cipher.EncryptOptions{Suite: suite})
		for name, keys := range map[string][]*cipher.HybridPrivateKey{
			"one": {hybridKey()}, "first": {hybridKey(), other}, "last": {other, hybridKey()}, "twice": {hybridKey(), hybridKey()},
		} {
			got, err := decrypt(t, km, outer, &cipher.DecryptOptions{Hybrid: keys})
			if err != nil || string(got) != shortMessage {
				t.Errorf("%s, key %s: %q, %v", suite, name, got, err)
			}
		}
		for name, keys := range map[string][]*cipher.HybridPrivateKey{"none": {}, "another": {other}} {
			mustRefuse(t, name, km, outer, &cipher.DecryptOptions{Hybrid: keys}, cipher.ErrHybridKey, 0)
			_, err := decrypt(t, km, outer, &cipher.DecryptOptions{Hybrid: keys})
			if want := hybridKey().Public().Fingerprint().String(); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: error %v does not name the key %s that is needed", name, err, want)
			}
		}
	}
}

// TestHybridBytes changes each byte of fingerprint and enc, and cuts the payload after
// each.
func TestHybridBytes(t *testing.T) {
	for _, suite := range hybridSuites {
		km := newTestKM()
		outer := encrypt(t, km, []byte(shortMessage), &cipher.EncryptOptions{Suite: suite})
		whole := payloadOf(t, outer)
		for i := range hybridBegin {
			want, finds := wrongSecret(suite), 1
			if i < 32 {
				want, finds = cipher.ErrHybridKey, 0
			}
			payload := bytes.Clone(whole)
			payload[i] ^= 1 << (i % 8)
			mustRefuse(t, "flipped", km, replacePayload(outer, payload), nil, want, finds)
			mustRefuse(t, "cut", km, replacePayload(outer, whole[:i]), nil, cipher.ErrDamaged, 0)
			if t.Failed() {
				t.Fatalf("%s: byte %d", suite, i)
			}
		}
		// X25519 ignores this bit (RFC 7748 §5), but the secret must not.
		payload := bytes.Clone(whole)
		payload[hybridBegin-1] ^= 0x80
		mustRefuse(t, "the last bit of enc", km, replacePayload(outer, payload), nil, wrongSecret(suite), 1)
		for n := hybridBegin; n < len(whole) && suite.Plain() == cipher.SuiteOTP; n++ {
			mustRefuse(t, "cut in the frame", km, replacePayload(outer, whole[:n]), nil, cipher.ErrDamaged, 0)
		}
	}
}

// TestHybridSwapped puts parts of one message into another, under the same key.
func TestHybridSwapped(t *testing.T) {
	other, err := cipher.GenerateHybridKey()
	if err != nil {
		t.Fatal(err)
	}
	both := &cipher.DecryptOptions{Hybrid: []*cipher.HybridPrivateKey{hybridKey(), other}}
	for _, suite := range hybridSuites {
		km := newTestKM()
		a := encrypt(t, km, []byte(shortMessage), &cipher.EncryptOptions{Suite: suite})
		h := newHalfway(t, suite, a)
		same := oneKey{h.keyID, km.keys[h.keyID]}
		b := payloadOf(t, encrypt(t, same, []byte(shortMessage), &cipher.EncryptOptions{Suite: suite}))
		c := payloadOf(t, encrypt(t, same, []byte(shortMessage), &cipher.EncryptOptions{Suite: suite, Hybrid: other.Public()}))
		for name, payload := range map[string][]byte{
			"enc":                slices.Concat(h.begin[:32], b[32:hybridBegin], h.plain),
			"half of enc":        slices.Concat(h.begin[:32], b[32:32+1088], h.begin[32+1088:], h.plain),
			"what follows enc":   slices.Concat(h.begin, b[hybridBegin:]),
			"fingerprint":        slices.Concat(c[:32], h.begin[32:], h.plain),
			"fingerprint, enc":   slices.Concat(c[:hybridBegin], h.plain),
			"enc of another's":   slices.Concat(h.begin[:32], c[32:hybridBegin], h.plain),
			"all but the prints": slices.Concat(h.begin[:32], c[32:]),
		} {
			mustRefuse(t, name, km, replacePayload(a, payload), both, wrongSecret(suite), 1)
		}
	}
}

// TestHybridOptions: with the recipient's key, every message uses X-Wing; without it, a
// suite with X-Wing is refused.
func TestHybridOptions(t *testing.T) {
	key := hybridKey().Public()
	for _, c := range []struct {
		suite, want cipher.Suite
	}{
		{"", cipher.SuiteAES256GCMXWing},
		{cipher.SuiteAES256GCM, cipher.SuiteAES256GCMXWing},
		{cipher.SuiteAES256GCMXWing, cipher.SuiteAES256GCMXWing},
		{cipher.SuiteOTP, cipher.SuiteOTPXWing},
		{cipher.SuiteOTPXWing, cipher.SuiteOTPXWing},
		{cipher.SuiteAuto, cipher.SuiteOTPXWing},
	} {
		km := newTestKM()
		var outer bytes.Buffer
		info, err := encryptTo(t, &outer, km, []byte(shortMessage), &cipher.EncryptOptions{Suite: c.suite, Hybrid: key})
		if err != nil || info.Suite != c.want || info.Fingerprint != key.Fingerprint() {
			t.Errorf("suite %q with a key: %s for %s, %v; want %s", c.suite, info.Suite, info.Fingerprint, err, c.want)
		}
		inspected, err := cipher.Inspect(bytes.NewReader(outer.Bytes()))
		if err != nil || inspected.Suite != c.want || inspected.Fingerprint != key.Fingerprint() {
			t.Errorf("suite %q: inspected as %s for %s, %v; want %s", c.suite, inspected.Suite, inspected.Fingerprint, err, c.want)
		}
		if want := int64(len(payloadOf(t, outer.Bytes()))); inspected.PayloadSize != want {
			t.Errorf("suite %q: inspected a payload of %d bytes, want %d", c.suite, inspected.PayloadSize, want)
		}
	}
	long := strings.Repeat("x", cipher.DefaultPadLimit+1)
	info, err := encryptTo(t, io.Discard, newTestKM(), []byte(long), &cipher.EncryptOptions{Suite: cipher.SuiteAuto, Hybrid: key})
	if err != nil || info.Suite != cipher.SuiteAES256GCMXWing {
		t.Errorf("auto with a long message: %s, %v", info.Suite, err)
	}
	for _, suite := range hybridSuites {
		if _, err := cipher.Encrypt(t.Context(), io.Discard, newTestKM(), &cipher.EncryptOptions{Suite: suite}); !errors.Is(err, cipher.ErrOptions) {
			t.Errorf("%s without a key: error %v, want %v", suite, err, cipher.ErrOptions)
		}
	}
}
