package cipher_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/qkdmail/qkdmail/cipher"
	"github.com/qkdmail/qkdmail/kmclient"
)

const shortMessage = "From: a@example.org\nSubject: s3cret\n\npay 100\n"

// refused reports whether err is an error with which a message can be refused.
func refused(err error) bool {
	return slices.ContainsFunc([]error{
		cipher.ErrNotEncrypted, cipher.ErrDamaged, cipher.ErrVersion, cipher.ErrSuite, cipher.ErrSAE,
		cipher.ErrHybridKey, cipher.ErrWrongKey, cipher.ErrAltered, kmclient.ErrKeyNotFound, kmclient.ErrBadKey,
	}, func(e error) bool { return errors.Is(err, e) })
}

// TestBitFlips flips the bits of an encrypted message from the control part on. In the
// payload and in values of the control part, each flip must be refused. Elsewhere (the
// case of a name, a blank) the message may still open, but never a different one.
func TestBitFlips(t *testing.T) {
	for _, suite := range suites {
		km := newTestKM()
		outer := encrypt(t, km, []byte(shortMessage), &cipher.EncryptOptions{Suite: suite, SAE: "A", Peer: "B"})
		opts := &cipher.DecryptOptions{SAE: "B", Peers: []string{"A"}}
		control := bytes.Index(outer, []byte("\nVersion: 1\n")) + 1
		payload := bytes.Index(outer, []byte("base64\n\n")) + len("base64\n\n")
		end := payload + bytes.Index(outer[payload:], []byte("\n\n--"))
		inValue := func(i int) bool {
			start := bytes.LastIndexByte(outer[:i], '\n') + 1
			colon := bytes.Index(outer[start:i], []byte(": "))
			return i > control && colon > 0 && outer[i] != '\n' && i < payload && !bytes.HasPrefix(outer[start:], []byte("Content-"))
		}
		opened := 0
		for bit := control * 8; bit < len(outer)*8; bit++ {
			if suite.Hybrid() && bit%8 != bit/8%8 {
				continue // one bit of each byte: X-Wing is slow
			}
			p := bytes.Clone(outer)
			p[bit/8] ^= 1 << (bit % 8)
			got, err := decrypt(t, km, p, opts)
			switch {
			case err == nil && string(got) != shortMessage:
				t.Fatalf("%s: bit %d: opened as %q", suite, bit, got)
			case err == nil && (inValue(bit/8) || bit/8 >= payload && bit/8 < end):
				t.Errorf("%s: bit %d of %q was flipped and the message opened", suite, bit%8, outer[bit/8-4:bit/8+5])
			case err == nil:
				opened++
			case len(got) > 0 && !strings.HasPrefix(shortMessage, string(got)):
				t.Errorf("%s: bit %d: released %q", suite, bit, got)
			case !refused(err):
				t.Errorf("%s: bit %d: error %v", suite, bit, err)
			}
		}
		t.Logf("%s: %d flips in names and MIME around the payload changed nothing", suite, opened)
	}
}

// replacePayload returns a message with another payload.
func replacePayload(outer, payload []byte) []byte {
	head, rest, _ := bytes.Cut(outer, []byte("base64\n\n"))
	_, tail, _ := bytes.Cut(rest, []byte("\n\n--"))
	return slices.Concat(head, []byte("base64\n\n"), []byte(base64.StdEncoding.EncodeToString(payload)), []byte("\n\n--"), tail)
}

// payloadOf returns the payload of a message.
func payloadOf(t *testing.T, outer []byte) []byte {
	t.Helper()
	_, rest, _ := bytes.Cut(outer, []byte("base64\n\n"))
	text, _, _ := bytes.Cut(rest, []byte("\n\n--"))
	payload, err := base64.StdEncoding.DecodeString(string(bytes.ReplaceAll(text, []byte("\n"), nil)))
	if err != nil {
		t.Fatal(err)
	}
	return payload
}

// TestMixedParts puts the payload of one message under the header of another.
func TestMixedParts(t *testing.T) {
	for _, suite := range suites {
		km := newTestKM()
		a := encrypt(t, km, []byte(shortMessage), &cipher.EncryptOptions{Suite: suite})
		b := encrypt(t, km, []byte(shortMessage), &cipher.EncryptOptions{Suite: suite})
		got, err := decrypt(t, km, replacePayload(a, payloadOf(t, b)), nil)
		want, ok := map[cipher.Suite]error{
			cipher.SuiteAES256GCM: cipher.ErrWrongKey, cipher.SuiteOTP: cipher.ErrDamaged,
			cipher.SuiteAES256GCMXWing: cipher.ErrWrongKey, cipher.SuiteOTPXWing: cipher.ErrDamaged,
		}[suite]
		if !ok {
			t.Fatalf("%s: add the error that this test expects for the suite", suite)
		}
		if !errors.Is(err, want) || len(got) > 0 {
			t.Errorf("%s: released %q, error %v, want %v", suite, got, err, want)
		}
		// Only the time differs.
		c := bytes.Replace(b, []byte("\nTime: "), []byte("\nTime: 1"), 1)
		if got, err := decrypt(t, km, c, nil); !refused(err) || len(got) > 0 {
			t.Errorf("%s: another time: released %q, error %v", suite, got, err)
		}
	}
}

// TestSuiteSwapped declares an OTP message as AES-256-GCM under the same key, and vice
// versa.
func TestSuiteSwapped(t *testing.T) {
	km := newTestKM()
	km.status.MaxKeySize = 256 // so that pad keys have the size of AES keys
	pad := encrypt(t, km, []byte(shortMessage), &cipher.EncryptOptions{Suite: cipher.SuiteOTP})
	aes := encrypt(t, km, []byte(shortMessage), nil)
	for name, outer := range map[string][]byte{
		"pad as AES": bytes.Replace(pad, []byte("Suite: OTP"), []byte("Suite: AES-256-GCM"), 1),
		"AES as pad": bytes.Replace(aes, []byte("Suite: AES-256-GCM"), []byte("Suite: OTP"), 1),
		"unknown":    bytes.Replace(aes, []byte("Suite: AES-256-GCM"), []byte("Suite: ROT13"), 1),
		"lower case": bytes.Replace(pad, []byte("Suite: OTP"), []byte("Suite: otp"), 1),
	} {
		if got, err := decrypt(t, km, outer, nil); !refused(err) || len(got) > 0 {
			t.Errorf("%s: released %q, error %v", name, got, err)
		}
	}
}

// TestAESUnderPadKey plays an author who knows the pad in a key, all but its first 16
// bytes, and makes an AES-256-GCM message under that key.
func TestAESUnderPadKey(t *testing.T) {
	km := newTestKM()
	km.status.MaxKeySize = 256
	plain := []byte(shortMessage)
	info, err := cipher.Inspect(bytes.NewReader(encrypt(t, km, plain, &cipher.EncryptOptions{Suite: cipher.SuiteOTP})))
	if err != nil {
		t.Fatal(err)
	}
	for i, id := range info.KeyIDs {
		known := bytes.Clone(km.keys[id])
		clear(known[:16])
		if i == 0 {
			clear(known)
			known[0] = 1 // else CheckKeys would refuse a key of equal bytes
		}
		forged := encrypt(t, oneKey{id, known}, []byte("From: a@example.org\n\npay 1,000,000\n"), nil)
		if got, err := decrypt(t, km, forged, nil); !errors.Is(err, cipher.ErrWrongKey) || len(got) > 0 {
			t.Errorf("under pad key %d: released %q, error %v, want %v", i, got, err, cipher.ErrWrongKey)
		}
	}
	// A pad key of another size can't be a key for AES-256-GCM.
	km.status.MaxKeySize = 4096
	info, err = cipher.Inspect(bytes.NewReader(encrypt(t, km, plain, &cipher.EncryptOptions{Suite: cipher.SuiteOTP})))
	if err != nil {
		t.Fatal(err)
	}
	forged := encrypt(t, oneKey{info.KeyIDs[0], bytes.Repeat([]byte("ab"), 16)}, plain, nil)
	if _, err := decrypt(t, km, forged, nil); !errors.Is(err, cipher.ErrWrongKey) {
		t.Errorf("under a longer pad key: error %v, want %v", err, cipher.ErrWrongKey)
	}
}

// TestReencoded changes a message in ways that mail systems do. It must still open.
func TestReencoded(t *testing.T) {
	km := newTestKM()
	outer := string(encrypt(t, km, []byte(shortMessage), &cipher.EncryptOptions{Suite: cipher.SuiteOTP}))
	_, rest, _ := strings.Cut(outer, "Content-Type: application/vnd.qkdmail\n\n")
	control, _, _ := strings.Cut(rest, "\n\n--")
	lines := strings.Split(control, "\n")
	slices.Reverse(lines)
	withControl := func(encoding, body string) string {
		return strings.Replace(outer, "application/vnd.qkdmail\n\n"+control,
			"application/vnd.qkdmail\nContent-Transfer-Encoding: "+encoding+"\n\n"+body, 1)
	}
	_, payload, _ := strings.Cut(outer, "base64\n\n")
	payload, _, _ = strings.Cut(payload, "\n\n--")
	one := strings.ReplaceAll(payload, "\n", "")
	var short strings.Builder
	for i, c := range one {
		short.WriteRune(c)
		if i%7 == 0 {
			short.WriteByte('\n')
		}
	}
	for name, text := range map[string]string{
		"control in base64":            withControl("base64", base64.StdEncoding.EncodeToString([]byte(control))),
		"control quoted-printable":     withControl("quoted-printable", strings.ReplaceAll(control, "e", "=65")),
		"control reversed":             withControl("7bit", strings.Join(lines, "\n")),
		"payload in one line":          strings.Replace(outer, payload, one, 1),
		"payload in short lines":       strings.Replace(outer, payload, short.String(), 1),
		"CRLF":                         strings.ReplaceAll(outer, "\n", "\r\n"),
		"header field removed":         outer[strings.IndexByte(outer, '\n')+1:],
		"Received above":               "Received: by mx.example.net\n" + outer,
		"list footer":                  "From: list@example.org\nContent-Type: multipart/mixed; boundary=L\n\n--L\n" + outer + "\n--L\n\n_____\nlist footer\n--L--\n",
		"encrypted became mixed":       strings.Replace(outer, "multipart/encrypted", "multipart/mixed", 1),
		"text after the last boundary": outer + "disclaimer\n",
	} {
		if text == outer {
			t.Errorf("%s: the message was not changed", name)
		}
		if got, err := decrypt(t, km, []byte(text), nil); err != nil || string(got) != shortMessage {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}
