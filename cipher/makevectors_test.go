package cipher_test

import (
	"bytes"
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/qkdmail/qkdmail/cipher"
	"github.com/qkdmail/qkdmail/kmclient"
)

// write writes the vector to a file, unless it exists.
func (v *vector) write(t *testing.T, file string) {
	t.Helper()
	var b bytes.Buffer
	fmt.Fprintf(&b, "comment: %s\n", v.comment)
	if len(v.expect) > 0 {
		fmt.Fprintf(&b, "expect: %s\n", strings.Join(v.expect, " "))
	} else {
		fmt.Fprintf(&b, "plaintext-size: %d\nplaintext-sha256: %x\n", len(v.plaintext), sha256.Sum256(v.plaintext))
	}
	if v.sae != "" || v.peer != "" {
		fmt.Fprintf(&b, "sae: %s\npeer: %s\n", v.sae, v.peer)
	}
	for _, id := range v.ids {
		fmt.Fprintf(&b, "key: %s %x\n", id, v.keys[id])
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

func (km *vectorKM) Status(context.Context, string) (kmclient.Status, error) { return km.status, nil }

func (km *vectorKM) GetKeys(_ context.Context, _ string, size, number int) ([]*kmclient.Key, error) {
	for range number {
		id := km.newID(len(km.ids))
		key, err := hkdf.Key(sha256.New, []byte(id), nil, "qkdmail vector", min(size/8, 255*sha256.Size))
		if err != nil {
			return nil, err
		}
		for len(key) < size/8 { // longer than HKDF gives
			key = append(key, key[:min(len(key)-1, size/8-len(key))]...)
		}
		km.ids = append(km.ids, id)
		km.keys[id] = key
	}
	return km.KeysByID(context.Background(), "", km.ids[len(km.ids)-number:]...)
}

func uuidN(n int) string {
	return uuid.UUID{0: 0x9b, 6: 0x4d, 8: 0x8e, 14: byte(n >> 8), 15: byte(n)}.String()
}

func newVectorKM() *vectorKM {
	return &vectorKM{vector: vector{keys: map[string][]byte{}}, newID: uuidN, status: kmclient.Status{MaxKeySize: 4096, MaxKeyPerRequest: 128}}
}

// vectorMessage returns a message of exactly n bytes.
func vectorMessage(n int) []byte {
	const head = "From: Alice <alice@example.org>\nTo: bob@example.net\nSubject: test vector\nDate: Mon, 13 Oct 2025 09:56:36 +0200\nMessage-ID: <vector@example.org>\n\n"
	text := head + strings.Repeat("0123456789 the quick brown fox jumps over the lazy dog\n", n/54+1)
	return []byte(text)[:n]
}

// makeVector encrypts a message of n bytes.
func (km *vectorKM) makeVector(t *testing.T, comment string, n int, opts cipher.EncryptOptions) *vector {
	t.Helper()
	opts.Time = time.Unix(1760298996, 0)
	km.comment = comment
	km.plaintext = vectorMessage(n)
	km.sae, km.peer = opts.Peer, opts.SAE // the reader's side
	km.message = encrypt(t, km, km.plaintext, &opts)
	return &km.vector
}

// with returns a vector with a changed message, for which these errors are expected.
func (v vector) with(t *testing.T, comment, expect, old, new string) vector {
	t.Helper()
	changed := strings.Replace(string(v.message), old, new, 1)
	if old != new && changed == string(v.message) {
		t.Fatalf("%s: no %q in the message", comment, old)
	}
	v.comment, v.message, v.expect = comment, []byte(changed), strings.Fields(expect)
	return v
}

// withPayload returns a vector with a changed payload.
func (v vector) withPayload(t *testing.T, comment, expect string, change func([]byte) []byte) vector {
	t.Helper()
	v.comment, v.expect = comment, strings.Fields(expect)
	v.message = replacePayload(v.message, change(payloadOf(t, v.message)))
	return v
}

// makeVectors writes the vectors that are not in dir.
func makeVectors(t *testing.T, dir string) {
	t.Helper()
	for class, vectors := range map[string]map[string]vector{"accept": acceptVectors(t), "reject": rejectVectors(t)} {
		if err := os.MkdirAll(filepath.Join(dir, class), 0o755); err != nil {
			t.Fatal(err)
		}
		for name, v := range vectors {
			v.write(t, filepath.Join(dir, class, name+".txt"))
		}
	}
}

func acceptVectors(t *testing.T) map[string]vector {
	t.Helper()
	aes := cipher.EncryptOptions{}
	pad := cipher.EncryptOptions{Suite: cipher.SuiteOTP}
	saes := cipher.EncryptOptions{SAE: "SAE_A", Peer: "SAE_B"}
	noNote, crlf := "", cipher.EncryptOptions{CRLF: true}
	mock := func(n int) string { return fmt.Sprintf("MOCK-KEY-%08d-20251012195636", n+1) }
	vectors := map[string]vector{}
	for _, n := range []int{0, 1, 200, 65535, 65536, 65537} {
		vectors[fmt.Sprintf("aes-%05d", n)] = *newVectorKM().makeVector(t, fmt.Sprintf("%d octets", n), n, aes)
	}
	for _, n := range []int{0, 1, 200, 70000} {
		vectors[fmt.Sprintf("otp-%05d", n)] = *newVectorKM().makeVector(t, fmt.Sprintf("%d octets", n), n, pad)
	}
	small := newVectorKM()
	small.status = kmclient.Status{MaxKeySize: 384, MaxKeyPerRequest: 3}
	vectors["otp-many-frames"] = *small.makeVector(t, "frames of 255 keys of 48 octets", 20_000, pad)
	texts := newVectorKM()
	texts.newID = mock
	vectors["otp-text-ids"] = *texts.makeVector(t, "key IDs that are no UUIDs", 200, pad)
	upper := newVectorKM()
	upper.newID = func(n int) string { return strings.ToUpper(uuidN(n)) }
	vectors["otp-upper-case-uuid"] = *upper.makeVector(t, "UUIDs in upper case are written as text", 200, pad)
	vectors["saes"] = *newVectorKM().makeVector(t, "with SAE IDs", 200, saes)
	vectors["saes-escaped"] = *newVectorKM().makeVector(t, "SAE IDs that need percent-encoding", 200, cipher.EncryptOptions{SAE: "Zürich 100%", Peer: "-"})
	vectors["crlf"] = *newVectorKM().makeVector(t, "CRLF line ends", 200, crlf)
	bare := newVectorKM().makeVector(t, "no note", 200, cipher.EncryptOptions{Note: &noNote})
	vectors["no-note"] = *bare
	vectors["no-header-field"] = bare.with(t, "without Qkdmail-Key-ID", "", "Qkdmail-Key-ID: "+uuidN(0)+"\n", "")
	vectors["became-mixed"] = bare.with(t, "multipart/encrypted became multipart/mixed", "", "multipart/encrypted", "multipart/mixed")
	vectors["control-base64"] = bare.with(t, "the control part in base64", "", "qkdmail\n\n"+controlOf(bare),
		"qkdmail\nContent-Transfer-Encoding: base64\n\n"+base64.StdEncoding.EncodeToString([]byte(controlOf(bare))))
	lines := strings.Split(controlOf(bare), "\n")
	slices.Reverse(lines)
	vectors["control-reversed"] = bare.with(t, "fields in another order and case, with blanks", "", controlOf(bare), strings.NewReplacer("Version", "vERSION", "Key-ID:", "KEY-ID \t:").Replace(strings.Join(lines, " \n\n\t")))
	one := base64.StdEncoding.EncodeToString(payloadOf(t, bare.message))
	_, after, _ := strings.Cut(string(bare.message), "base64\n\n")
	payload, _, _ := strings.Cut(after, "\n\n--")
	vectors["payload-one-line"] = bare.with(t, "base64 in one line", "", payload, one)
	vectors["list-footer"] = bare.with(t, "inside multipart/mixed, with a footer", "", "", "")
	footer := vectors["list-footer"]
	footer.message = []byte("From: list@example.org\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=L\n\n--L\n" + string(bare.message) + "\n--L\nContent-Type: text/plain\n\nfooter\n--L--\n")
	vectors["list-footer"] = footer
	return vectors
}

// controlOf returns the control part of a message.
func controlOf(v *vector) string {
	_, rest, _ := strings.Cut(string(v.message), "application/vnd.qkdmail\n\n")
	control, _, _ := strings.Cut(rest, "\n\n--")
	return control
}

func rejectVectors(t *testing.T) map[string]vector {
	t.Helper()
	noNote := ""
	aes := newVectorKM().makeVector(t, "", 70000, cipher.EncryptOptions{Note: &noNote, SAE: "SAE_A", Peer: "SAE_B"})
	small := newVectorKM()
	small.status = kmclient.Status{MaxKeySize: 384, MaxKeyPerRequest: 3}
	pad := small.makeVector(t, "", firstPlain+122, cipher.EncryptOptions{Note: &noNote, Suite: cipher.SuiteOTP})
	flip := func(i int) func([]byte) []byte {
		return func(p []byte) []byte { p[(i+len(p))%len(p)] ^= 1; return p }
	}
	cut := func(n int) func([]byte) []byte { return func(p []byte) []byte { return p[:len(p)-n] } }
	const sealed = 65536 + 16
	vectors := map[string]vector{
		"aes-salt":            aes.withPayload(t, "a bit of the salt", "wrong-key", flip(0)),
		"aes-commitment":      aes.withPayload(t, "a bit of the commitment", "wrong-key", flip(63)),
		"aes-chunk":           aes.withPayload(t, "a bit of the first chunk", "altered", flip(64)),
		"aes-last-chunk":      aes.withPayload(t, "a bit of the last chunk", "altered", flip(-20)),
		"aes-tag":             aes.withPayload(t, "a bit of the last tag", "altered", flip(-1)),
		"aes-cut-at-chunk":    aes.withPayload(t, "ends after the first chunk", "altered", func(p []byte) []byte { return p[:64+sealed] }),
		"aes-cut-in-chunk":    aes.withPayload(t, "one octet short", "altered", cut(1)),
		"aes-cut-in-header":   aes.withPayload(t, "ends in the commitment", "damaged", func(p []byte) []byte { return p[:40] }),
		"aes-no-chunk":        aes.withPayload(t, "ends before the first chunk", "damaged", func(p []byte) []byte { return p[:64] }),
		"aes-trailing":        aes.withPayload(t, "an octet more", "altered", func(p []byte) []byte { return append(p, 0) }),
		"aes-swapped":         aes.withPayload(t, "chunks swapped", "altered", func(p []byte) []byte { return slices.Concat(p[:64], p[64+sealed:], p[64:64+sealed]) }),
		"aes-chunk-repeated":  aes.withPayload(t, "first chunk twice", "altered", func(p []byte) []byte { return slices.Concat(p[:64+sealed], p[64:]) }),
		"otp-flags":           pad.withPayload(t, "an unknown flag", "damaged", func(p []byte) []byte { p[0] |= 2; return p }),
		"otp-no-keys":         pad.withPayload(t, "n = 0", "damaged", func(p []byte) []byte { p[1] = 0; return p }),
		"otp-ciphertext":      pad.withPayload(t, "a bit of the ciphertext", "altered", flip(-17)),
		"otp-tag":             pad.withPayload(t, "a bit of the tag", "altered", flip(-1)),
		"otp-cut":             pad.withPayload(t, "one octet short", "damaged", cut(1)),
		"otp-trailing":        pad.withPayload(t, "an octet more", "damaged", func(p []byte) []byte { return append(p, 0) }),
		"otp-first-key":       pad.withPayload(t, "another first key", "damaged", func(p []byte) []byte { p[18] ^= 1; return p }),
		"otp-frame-repeated":  pad.withPayload(t, "the first frame twice", "damaged", func(p []byte) []byte { return slices.Concat(p[:firstFrame], p) }),
		"otp-unknown-key":     pad.withPayload(t, "a key that is not there", "no-key", func(p []byte) []byte { p[2+17+15] ^= 0x80; return p }),
		"base64-padding-bits": pad.with(t, "padding bits are not zero", "damaged", lastQuantum(pad, 0), lastQuantum(pad, 1)),
		"base64-trailing":     pad.with(t, "data after the padding", "damaged", lastQuantum(pad, 0), lastQuantum(pad, 0)+"AAAA"),
		"base64-blank":        pad.with(t, "a blank in the payload", "damaged", lastQuantum(pad, 0), " "+lastQuantum(pad, 0)),
		"version-2":           pad.with(t, "Version 2", "version", "\nVersion: 1\n", "\nVersion: 2\n"),
		"field-unknown":       pad.with(t, "an unknown field", "damaged", "\nVersion: 1\n", "\nVersion: 1\nPriority: 1\n"),
		"field-repeated":      pad.with(t, "a field twice", "damaged", "\nVersion: 1\n", "\nVersion: 1\nVersion: 1\n"),
		"field-missing":       pad.with(t, "no Sender-SAE", "damaged", "\nSender-SAE: -\n", "\n"),
		"field-blank":         pad.with(t, "a blank in a value", "damaged", "\nSender-SAE: -\n", "\nSender-SAE: - -\n"),
		"time-leading-zero":   pad.with(t, "Time with a leading zero", "damaged", "\nTime: ", "\nTime: 0"),
		"time-changed-aes":    aes.with(t, "another Time", "wrong-key", "\nTime: 1760298996", "\nTime: 1760298997"),
		"time-changed-otp":    pad.with(t, "another Time", "altered", "\nTime: 1760298996", "\nTime: 1760298997"),
		// A name that no suite will have.
		"suite-unknown":        pad.with(t, "an unknown suite", "suite", "\nSuite: OTP", "\nSuite: XOR"),
		"suite-swapped":        pad.with(t, "an OTP message as AES", "wrong-key", "\nSuite: OTP", "\nSuite: AES-256-GCM"),
		"header-field":         pad.with(t, "Qkdmail-Key-ID names another key", "damaged", "Qkdmail-Key-ID: 9b", "Qkdmail-Key-ID: 9c"),
		"no-payload-part":      pad.with(t, "the payload is no octet-stream", "damaged", "application/octet-stream", "text/plain"),
		"quoted-printable":     pad.with(t, "the payload is not base64", "damaged", "Encoding: base64", "Encoding: quoted-printable"),
		"three-parts":          pad.with(t, "a third part in multipart/encrypted", "damaged", "\n\n--"+boundaryOf(pad)+"--", "\n\n--"+boundaryOf(pad)+"\n\nthird\n--"+boundaryOf(pad)+"--"),
		"to-another-sae":       aes.with(t, "addressed to another SAE", "sae", "\nRecipient-SAE: SAE_B", "\nRecipient-SAE: SAE_C"),
		"from-a-stranger":      aes.with(t, "from an SAE that is no peer", "sae", "\nSender-SAE: SAE_A", "\nSender-SAE: SAE_C"),
		"key-id-in-upper-case": aes.with(t, "Key-ID spelled otherwise than authenticated", "wrong-key no-key", "\nKey-ID: "+uuidN(0), "\nKey-ID: "+strings.ToUpper(uuidN(0))),
		"ordinary-mail":        {comment: "not ours", expect: []string{"not-encrypted"}, message: vectorMessage(200)},
		"ours-in-a-bounce":     {comment: "ours in message/rfc822", expect: []string{"not-encrypted"}, message: []byte("Content-Type: multipart/report; boundary=R\n\n--R\nContent-Type: message/rfc822\n\n" + string(pad.message) + "\n--R--\n")},
		"removed":              {comment: "the header field without the payload", expect: []string{"damaged"}, message: []byte("Qkdmail-Key-ID: x\nContent-Type: text/plain\n\nremoved\n")},
		"two":                  {comment: "two of ours", expect: []string{"damaged"}, keys: pad.keys, ids: pad.ids, message: []byte("Content-Type: multipart/mixed; boundary=T\n\n--T\n" + string(pad.message) + "\n--T\n" + string(pad.message) + "\n--T--\n")},
	}
	for name, key := range map[string][]byte{"another": []byte(strings.Repeat("ab", 16)), "short": []byte("0123456789"), "long": []byte(strings.Repeat("ab", 17)), "equal-octets": make([]byte, 32)} {
		v := aes.with(t, "AES key: "+name, "wrong-key bad-key", "", "")
		v.keys = map[string][]byte{v.ids[0]: key}
		vectors["aes-key-"+name] = v
	}
	v := pad.with(t, "a pad key is shorter than the sender's", "wrong-key altered", "", "")
	v.keys = map[string][]byte{}
	for id, key := range pad.keys {
		v.keys[id] = key[:len(key)-1]
	}
	vectors["otp-short-keys"] = v
	return vectors
}

// The OTP message in rejectVectors: the plaintext of its first frame, for which
// 255 keys of 48 bytes hold pad, and the size of that frame.
const (
	firstPlain = 255*48 - 16 - 255*16
	firstFrame = 2 + 255*17 + 4 + firstPlain + 16
)

// lastQuantum returns the last four characters of the payload and a line end. They
// must have padding. add is added to the last character before it.
func lastQuantum(v *vector, add byte) string {
	_, rest, _ := strings.Cut(string(v.message), "base64\n\n")
	text, _, _ := strings.Cut(rest, "\n\n--")
	q := []byte(text[len(text)-4:])
	q[bytes.IndexByte(q, '=')-1] += add
	return string(q) + "\n"
}

// boundaryOf returns the boundary of multipart/encrypted.
func boundaryOf(v *vector) string {
	_, rest, _ := strings.Cut(string(v.message), "boundary=")
	b, _, _ := strings.Cut(rest, ";")
	return b
}
