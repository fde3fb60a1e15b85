package cipher_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"
)

// flipped changes a bit of byte i, counted from the end if i is negative.
func flipped(i int) func([]byte) []byte {
	return func(p []byte) []byte { p[(i+len(p))%len(p)] ^= 1; return p }
}

// shortened takes n bytes off the end.
func shortened(n int) func([]byte) []byte {
	return func(p []byte) []byte { return p[:len(p)-n] }
}

// rejectAES has an AES-256-GCM message that was changed. Its first chunk has 65,532 octets
// of the message.
func rejectAES(t *testing.T) map[string]vector {
	t.Helper()
	opts := vectorSuites[0].options()
	opts.SAE, opts.Peer = "SAE_A", "SAE_B"
	aes := newVectorKM().makeVector(t, "", 70000, opts)
	const sealed, first = 65536 + 16, 65532
	vectors := map[string]vector{
		"aes-salt":             aes.withPayload(t, "a bit of the salt", "wrong-key", flipped(0)).after(1, 0),
		"aes-commitment":       aes.withPayload(t, "a bit of the commitment", "wrong-key", flipped(63)).after(1, 0),
		"aes-chunk":            aes.withPayload(t, "a bit of the first chunk", "altered", flipped(64)).after(1, 0),
		"aes-last-chunk":       aes.withPayload(t, "a bit of the last chunk", "altered", flipped(-20)).after(1, first),
		"aes-tag":              aes.withPayload(t, "a bit of the last tag", "altered", flipped(-1)).after(1, first),
		"aes-cut-at-chunk":     aes.withPayload(t, "ends after the first chunk", "altered", func(p []byte) []byte { return p[:64+sealed] }).after(1, 0),
		"aes-cut-in-chunk":     aes.withPayload(t, "one octet short", "altered", shortened(1)).after(1, first),
		"aes-cut-in-header":    aes.withPayload(t, "ends in the commitment", "damaged", func(p []byte) []byte { return p[:40] }),
		"aes-no-chunk":         aes.withPayload(t, "ends before the first chunk", "damaged", func(p []byte) []byte { return p[:64] }),
		"aes-trailing":         aes.withPayload(t, "an octet more", "altered", func(p []byte) []byte { return append(p, 0) }).after(1, first),
		"aes-swapped":          aes.withPayload(t, "chunks swapped", "altered", func(p []byte) []byte { return slices.Concat(p[:64], p[64+sealed:], p[64:64+sealed]) }).after(1, 0),
		"aes-chunk-repeated":   aes.withPayload(t, "first chunk twice", "altered", func(p []byte) []byte { return slices.Concat(p[:64+sealed], p[64:]) }).after(1, first),
		"time-changed-aes":     aes.with(t, "another Time", "wrong-key", "\nTime: 1760298996", "\nTime: 1760298997").after(1, 0),
		"to-another-sae":       aes.with(t, "addressed to another SAE", "sae", "\nRecipient-SAE: SAE_B", "\nRecipient-SAE: SAE_C"),
		"from-a-stranger":      aes.with(t, "from an SAE that is no peer", "sae", "\nSender-SAE: SAE_A", "\nSender-SAE: SAE_C"),
		"key-id-in-upper-case": aes.with(t, "Key-ID spelled otherwise than authenticated", "wrong-key no-key", "\nKey-ID: "+uuidN(0), "\nKey-ID: "+strings.ToUpper(uuidN(0))).after(1, 0),
	}
	for name, key := range map[string][]byte{"another": []byte(strings.Repeat("ab", 16)), "short": []byte("0123456789"), "long": []byte(strings.Repeat("ab", 17)), "equal-octets": make([]byte, 32)} {
		v := aes.refused("AES key: "+name, "wrong-key bad-key").after(1, 0)
		v.keys = map[string][]byte{v.ids[0]: key}
		vectors["aes-key-"+name] = v
	}
	return vectors
}

// The OTP message of the reject vectors: the plaintext of its first frame, for which 255
// keys of 48 bytes hold pad, and the size of that frame. The second frame takes 5 keys.
const (
	firstPlain = 255*48 - 16 - 255*16
	firstFrame = 2 + 255*17 + 4 + firstPlain + 16
	bothKeys   = 255 + 5
)

func padVector(t *testing.T) *vector {
	t.Helper()
	return smallKeys().makeVector(t, "", firstPlain+122, vectorSuites[1].options())
}

// rejectOTP has an OTP message that was changed. Its first frame has firstPlain-4 octets
// of the message.
func rejectOTP(t *testing.T) map[string]vector {
	t.Helper()
	pad := padVector(t)
	vectors := map[string]vector{
		"otp-flags":          pad.withPayload(t, "an unknown flag", "damaged", func(p []byte) []byte { p[0] |= 2; return p }),
		"otp-no-keys":        pad.withPayload(t, "n = 0", "damaged", func(p []byte) []byte { p[1] = 0; return p }),
		"otp-ciphertext":     pad.withPayload(t, "a bit of the ciphertext", "altered", flipped(-17)).after(bothKeys, firstPlain-4),
		"otp-tag":            pad.withPayload(t, "a bit of the tag", "altered", flipped(-1)).after(bothKeys, firstPlain-4),
		"otp-cut":            pad.withPayload(t, "one octet short", "damaged", shortened(1)).after(255, firstPlain-4),
		"otp-trailing":       pad.withPayload(t, "an octet more", "damaged", func(p []byte) []byte { return append(p, 0) }).after(255, firstPlain-4),
		"otp-first-key":      pad.withPayload(t, "another first key", "damaged", func(p []byte) []byte { p[18] ^= 1; return p }),
		"otp-frame-repeated": pad.withPayload(t, "the first frame twice", "damaged", func(p []byte) []byte { return slices.Concat(p[:firstFrame], p) }).after(255, firstPlain-4),
		"otp-unknown-key":    pad.withPayload(t, "a key that is not there", "no-key", func(p []byte) []byte { p[2+17+15] ^= 0x80; return p }).after(255, 0),
		"time-changed-otp":   pad.with(t, "another Time", "altered", "\nTime: 1760298996", "\nTime: 1760298997").after(255, 0),
	}
	v := pad.refused("a pad key is shorter than the sender's", "wrong-key altered").after(255, 0)
	v.keys = map[string][]byte{}
	for id, key := range pad.keys {
		v.keys[id] = key[:len(key)-1]
	}
	vectors["otp-short-keys"] = v
	return vectors
}

// rejectForms has messages whose MIME, control part or base64 was changed. Faults at
// the end of the payload are found after the first frame was released.
func rejectForms(t *testing.T) map[string]vector {
	t.Helper()
	pad := padVector(t)
	end := "\n\n--" + boundaryOf(pad)
	const empty = "Content-Type: multipart/encrypted; protocol=\"application/vnd.qkdmail\"; boundary=E\n\n--E--\n"
	_, parts, _ := strings.Cut(string(pad.message), "\n\n")
	return map[string]vector{
		"base64-padding-bits": pad.with(t, "padding bits are not zero", "damaged", lastQuantum(pad, 0), lastQuantum(pad, 1)).after(255, firstPlain-4),
		"base64-trailing":     pad.with(t, "data after the padding", "damaged", lastQuantum(pad, 0), lastQuantum(pad, 0)+"AAAA").after(255, firstPlain-4),
		"base64-blank":        pad.with(t, "a blank in the payload", "damaged", lastQuantum(pad, 0), " "+lastQuantum(pad, 0)).after(255, firstPlain-4),
		"version-2":           pad.with(t, "Version 2", "version", "\nVersion: 1\n", "\nVersion: 2\n"),
		"field-unknown":       pad.with(t, "an unknown field", "damaged", "\nVersion: 1\n", "\nVersion: 1\nPriority: 1\n"),
		"field-repeated":      pad.with(t, "a field twice", "damaged", "\nVersion: 1\n", "\nVersion: 1\nVersion: 1\n"),
		"field-missing":       pad.with(t, "no Sender-SAE", "damaged", "\nSender-SAE: -\n", "\n"),
		"field-blank":         pad.with(t, "a blank in a value", "damaged", "\nSender-SAE: -\n", "\nSender-SAE: - -\n"),
		"time-leading-zero":   pad.with(t, "Time with a leading zero", "damaged", "\nTime: ", "\nTime: 0"),
		// No suite will ever have this name.
		"suite-unknown":    pad.with(t, "an unknown suite", "suite", "\nSuite: OTP", "\nSuite: XOR"),
		"suite-lower-case": pad.with(t, "a suite in lower case", "suite", "\nSuite: OTP", "\nSuite: otp"),
		"suite-swapped":    pad.with(t, "an OTP message as AES", "wrong-key", "\nSuite: OTP", "\nSuite: AES-256-GCM").after(1, 0),
		"header-field":     pad.with(t, "Qkdmail-Key-ID names another key", "damaged", "Qkdmail-Key-ID: 9b", "Qkdmail-Key-ID: 9c"),
		"no-payload-part":  pad.with(t, "the payload is no octet-stream", "damaged", "application/octet-stream", "text/plain"),
		"quoted-printable": pad.with(t, "the payload is not base64", "damaged", "Encoding: base64", "Encoding: quoted-printable"),
		"three-parts":      pad.with(t, "a third part in multipart/encrypted", "damaged", end+"--", end+"\n\nthird\n--"+boundaryOf(pad)+"--").after(255, firstPlain-4),
		"ordinary-mail":    {comment: "not ours", expect: []string{"not-encrypted"}, message: vectorMessage(200)},
		"ours-in-a-bounce": {comment: "ours in message/rfc822", expect: []string{"not-encrypted"}, message: []byte("Content-Type: multipart/report; boundary=R\n\n--R\nContent-Type: message/rfc822\n\n" + string(pad.message) + "\n--R--\n")},
		"removed":          {comment: "the header field without the payload", expect: []string{"damaged"}, message: []byte("Qkdmail-Key-ID: x\nContent-Type: text/plain\n\nremoved\n")},
		"two":              pad.inMixed("two of ours", string(pad.message), string(pad.message)).after(255, firstPlain-4),
		"empty-one-before": pad.inMixed("an empty multipart/encrypted before a good one", empty, string(pad.message)),
		"empty-one-after":  pad.inMixed("an empty multipart/encrypted after a good one", string(pad.message), empty).after(255, firstPlain-4),
		"no-boundary":      {comment: "multipart/encrypted without a boundary", expect: []string{"damaged"}, message: []byte("Content-Type: multipart/encrypted; protocol=\"application/vnd.qkdmail\"\n\n" + parts)},
	}
}

// inMixed returns a vector with these parts, which is refused before a key is asked for.
func (v vector) inMixed(comment string, parts ...string) vector {
	v.message = []byte("Content-Type: multipart/mixed; boundary=T\n\n--T\n" + strings.Join(parts, "\n--T\n") + "\n--T--\n")
	return v.refused(comment, "damaged")
}

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
