package cipher_test

import (
	"bytes"
	"context"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/qkdmail/qkdmail/cipher"
	"github.com/qkdmail/qkdmail/cipher/internal/gcmstream"
	"github.com/qkdmail/qkdmail/cipher/internal/hybrid"
	"github.com/qkdmail/qkdmail/cipher/internal/otp"
	"github.com/qkdmail/qkdmail/kmclient"
)

// makeVectors writes the vectors that do not exist yet.
func makeVectors(t *testing.T) {
	t.Helper()
	for class, groups := range map[string][]map[string]vector{
		"accept": {acceptVectors(t), acceptForms(t), acceptHybrid(t), acceptRecipients(t)},
		"reject": {rejectAES(t), rejectOTP(t), rejectForms(t), rejectHybrid(t), rejectMixed(t), rejectRecipients(t)},
	} {
		dir := filepath.Join(vectorDir, class)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		names := map[string]bool{}
		for _, vectors := range groups {
			for name, v := range vectors {
				if names[name] {
					t.Fatalf("two vectors %s", name)
				}
				names[name] = true
				v.write(t, filepath.Join(dir, name+".txt"))
			}
		}
	}
}

// write writes the vector to a file, unless it exists.
func (v *vector) write(t *testing.T, file string) {
	t.Helper()
	var b bytes.Buffer
	fmt.Fprintf(&b, "comment: %s\n", v.comment)
	if len(v.expect) > 0 {
		fmt.Fprintf(&b, "expect: %s\n", strings.Join(v.expect, " "))
	}
	fmt.Fprintf(&b, "released: %d %x\nasked: %d\n", v.released, sha256.Sum256(vectorMessage(v.released)), v.asked)
	if v.sae != "" || v.peer != "" {
		fmt.Fprintf(&b, "sae: %s\npeer: %s\n", v.sae, v.peer)
	}
	for _, id := range v.ids {
		fmt.Fprintf(&b, "key: %s %x\n", id, v.keys[id])
	}
	for _, seed := range v.seeds {
		fmt.Fprintf(&b, "hybrid-key: %x\n", seed)
	}
	for _, address := range v.recipients {
		fmt.Fprintf(&b, "recipient: %s\n", address)
	}
	b.WriteByte('\n')
	b.Write(v.message)
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(b.Bytes()); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// vectorKM derives keys from their IDs, and remembers them.
type vectorKM struct {
	vector
	status kmclient.Status
	newID  func(n int) string
}

func newVectorKM() *vectorKM {
	return &vectorKM{vector: vector{keys: map[string][]byte{}}, newID: uuidN, status: kmclient.Status{MaxKeySize: 4096, MaxKeyPerRequest: 128}}
}

// smallKeys is a key manager whose keys are so short that a frame takes 255 of them.
func smallKeys() *vectorKM {
	km := newVectorKM()
	km.status = kmclient.Status{MaxKeySize: 384, MaxKeyPerRequest: 3}
	return km
}

func uuidN(n int) string {
	return uuid.UUID{0: 0x9b, 6: 0x4d, 8: 0x8e, 14: byte(n >> 8), 15: byte(n)}.String()
}

func (km *vectorKM) Status(context.Context, string) (kmclient.Status, error) { return km.status, nil }

func (km *vectorKM) GetKeys(_ context.Context, _ string, size, number int) ([]*kmclient.Key, error) {
	for range number {
		id := km.newID(len(km.ids))
		key, err := hkdf.Key(sha256.New, []byte(id), nil, "qkdmail vector", size/8)
		if err != nil {
			return nil, err
		}
		km.ids = append(km.ids, id)
		km.keys[id] = key
	}
	finder := vectorFinder{keys: km.keys}
	return finder.KeysByID(context.Background(), "", km.ids[len(km.ids)-number:]...)
}

// vectorMessage returns a message of n bytes: the beginning of an endless one.
func vectorMessage(n int) []byte {
	const head = "From: Alice <alice@example.org>\nTo: bob@example.net\nSubject: test vector\nDate: Mon, 13 Oct 2025 09:56:36 +0200\nMessage-ID: <vector@example.org>\n\n"
	text := head + strings.Repeat("0123456789 the quick brown fox jumps over the lazy dog\n", n/54+1)
	return []byte(text)[:n]
}

// makeVector encrypts a message of n bytes. Its X-Wing private key, if it takes one, is
// hybridKey.
func (km *vectorKM) makeVector(t *testing.T, comment string, n int, opts cipher.EncryptOptions) *vector {
	t.Helper()
	opts.Time = time.Unix(1760298996, 0)
	v := &km.vector
	v.comment = comment
	v.released = n
	v.sae, v.peer = opts.Peer, opts.SAE // the reader's side
	v.recipients = opts.Recipients
	v.message = encrypt(t, km, vectorMessage(n), &opts)
	v.asked = len(v.ids)
	if opts.Suite.Hybrid() {
		v.seeds = [][]byte{counted(32)}
	}
	return v
}

// with returns a vector with a changed message, for which these errors are expected.
func (v vector) with(t *testing.T, comment, expect, old, new string) vector {
	t.Helper()
	changed := strings.Replace(string(v.message), old, new, 1)
	if old != new && changed == string(v.message) {
		t.Fatalf("%s: no %q in the message", comment, old)
	}
	v.message = []byte(changed)
	return v.refused(comment, expect)
}

// withPayload returns a vector with a changed payload.
func (v vector) withPayload(t *testing.T, comment, expect string, change func([]byte) []byte) vector {
	t.Helper()
	v.message = replacePayload(v.message, change(payloadOf(t, v.message)))
	return v.refused(comment, expect)
}

// refused returns a vector that is refused with these errors, before a key is asked
// for. Without errors, it is still accepted.
func (v vector) refused(comment, expect string) vector {
	v.comment, v.expect = comment, strings.Fields(expect)
	if len(v.expect) > 0 {
		v.released, v.asked, v.recipients = 0, 0, nil
	}
	return v
}

// after returns a vector that is refused after this many keys were asked for and bytes
// released.
func (v vector) after(keys, released int) vector {
	v.asked, v.released = keys, released
	return v
}

// control returns the values of the control part and the control octets.
func (v *vector) control(t *testing.T) (values map[string]string, octets []byte) {
	t.Helper()
	values, err := indControl(indEntity{body: []byte(controlOf(v))})
	if err != nil {
		t.Fatal(err)
	}
	return values, indControlOctets(values)
}

// withPlaintext returns a vector with any plaintext, including the recipient list,
// which takes all keys to make. secret is X-Wing's, and begin is what a payload with
// X-Wing begins with; both are empty for a plain suite.
func (v vector) withPlaintext(t *testing.T, comment, expect string, plaintext, begin, secret []byte) vector {
	t.Helper()
	values, octets := v.control(t)
	payload := bytes.NewBuffer(bytes.Clone(begin))
	var w io.WriteCloser
	var err error
	km := newVectorKM() // gives keys with the same IDs
	if strings.HasPrefix(values["suite"], "OTP") {
		w, err = otp.NewWriter(otp.WriterOptions{
			Limits: otp.Limits{MaxKeySize: km.status.MaxKeySize},
			Keys:   func(size, n int) ([]*kmclient.Key, error) { return km.GetKeys(t.Context(), "", size, n) },
			Layer:  layerWith(begin, secret),
			Open:   func(string) (io.Writer, []byte, error) { return payload, octets, nil },
		})
	} else {
		w, err = gcmstream.NewWriter(payload, secret, v.keys[values["key-id"]], octets, rand.Reader)
	}
	if err == nil {
		_, err = w.Write(plaintext)
	}
	if err = errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	if len(km.ids) > 0 {
		v.ids, v.keys = km.ids, km.keys
	}
	v.message = replacePayload(v.message, payload.Bytes())
	return v.refused(comment, expect)
}

// layerWith makes layers with a secret, unless it is empty.
func layerWith(begin, secret []byte) func(number uint64) (otp.Layer, error) {
	if len(secret) == 0 {
		return nil
	}
	return func(number uint64) (otp.Layer, error) {
		return otp.Layer{Begin: begin, Stream: indStream(secret, number)}, nil
	}
}

// encapsulate returns what a payload of the vector begins with, and its secret.
func (v *vector) encapsulate(t *testing.T) (begin, secret []byte) {
	t.Helper()
	if len(v.seeds) == 0 {
		return nil, nil
	}
	key, err := hybrid.KEM().NewPrivateKey(v.seeds[0])
	if err != nil {
		t.Fatal(err)
	}
	_, octets := v.control(t)
	enc, s, err := hybrid.Encapsulate(key.PublicKey(), octets)
	if err != nil {
		t.Fatal(err)
	}
	fingerprint := sha256.Sum256(key.PublicKey().Bytes())
	return append(fingerprint[:], enc...), s.Reveal()
}

// controlOf returns the control part of a message.
func controlOf(v *vector) string {
	_, rest, _ := strings.Cut(string(v.message), "application/vnd.qkdmail\n\n")
	control, _, _ := strings.Cut(rest, "\n\n--")
	return control
}
