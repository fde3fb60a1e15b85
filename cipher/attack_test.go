package cipher_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/qkdmail/qkdmail/cipher"
	"github.com/qkdmail/qkdmail/kmclient"
)

const shortMessage = "From: a@example.org\nSubject: s3cret\n\npay 100\n"

// anyOf reports whether err is one of the errors that a message can be refused
// with.
func refused(err error) bool {
	return slices.ContainsFunc([]error{
		cipher.ErrNotEncrypted, cipher.ErrDamaged, cipher.ErrVersion, cipher.ErrSuite, cipher.ErrSAE,
		cipher.ErrWrongKey, cipher.ErrAltered, kmclient.ErrKeyNotFound, kmclient.ErrBadKey,
	}, func(e error) bool { return errors.Is(err, e) })
}

// TestBitFlips flips each bit of an encrypted message, from the control part to
// its end. In the payload and in the values of the control part every one must
// be refused; elsewhere (case of a name, a blank) the same message may open,
// and never another.
func TestBitFlips(t *testing.T) {
	for _, suite := range suites {
		km := newTestKM(t)
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

// replacePayload puts another payload into a message.
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
		km := newTestKM(t)
		a := encrypt(t, km, []byte(shortMessage), &cipher.EncryptOptions{Suite: suite})
		b := encrypt(t, km, []byte(shortMessage), &cipher.EncryptOptions{Suite: suite})
		got, err := decrypt(t, km, replacePayload(a, payloadOf(t, b)), nil)
		want := map[cipher.Suite]error{cipher.SuiteAES256GCM: cipher.ErrWrongKey, cipher.SuiteOTP: cipher.ErrDamaged}[suite]
		if !errors.Is(err, want) || len(got) > 0 {
			t.Errorf("%s: released %q, error %v, want %v", suite, got, err, want)
		}
		// The same with Key-ID and header field of b: only the time differs.
		c := bytes.Replace(b, []byte("\nTime: "), []byte("\nTime: 1"), 1)
		if got, err := decrypt(t, km, c, nil); !refused(err) || len(got) > 0 {
			t.Errorf("%s: another time: released %q, error %v", suite, got, err)
		}
	}
}

// TestSuiteSwapped sends a pad message as AES under the same key, and the other
// way round.
func TestSuiteSwapped(t *testing.T) {
	km := newTestKM(t)
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

// TestAESUnderPadKey plays an author who knows the pad octets of a key, all but
// its first 16, and makes an AES message under it.
func TestAESUnderPadKey(t *testing.T) {
	km := newTestKM(t)
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
			known[0] = 1 // not all octets equal, or CheckKeys refuses it first
		}
		forged := encrypt(t, oneKey{id, known}, []byte("From: a@example.org\n\npay 1,000,000\n"), nil)
		if got, err := decrypt(t, km, forged, nil); !errors.Is(err, cipher.ErrWrongKey) || len(got) > 0 {
			t.Errorf("under pad key %d: released %q, error %v, want %v", i, got, err, cipher.ErrWrongKey)
		}
	}
	// A pad key of another size can't be an AES key at all.
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

// oneKey is a key source with a single key.
type oneKey struct {
	id     string
	octets []byte
}

func (k oneKey) Status(context.Context, string) (kmclient.Status, error) {
	return kmclient.Status{}, nil
}

func (k oneKey) GetKeys(context.Context, string, int, int) ([]*kmclient.Key, error) {
	return []*kmclient.Key{kmclient.NewKey(k.id, bytes.Clone(k.octets))}, nil
}

func (k oneKey) KeysByID(context.Context, string, ...string) ([]*kmclient.Key, error) {
	return k.GetKeys(context.Background(), "", 0, 0)
}

// TestReencoded sends messages through what mail systems do to them; all of
// these must open.
func TestReencoded(t *testing.T) {
	km := newTestKM(t)
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
			t.Errorf("%s: the test changes nothing", name)
		}
		if got, err := decrypt(t, km, []byte(text), nil); err != nil || string(got) != shortMessage {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

func TestSAEs(t *testing.T) {
	tests := []struct {
		sender, recipient string // of the message
		sae               string // of the reader
		peers             []string
		ok                bool
	}{
		{"", "", "", nil, true},
		{"A", "B", "B", []string{"A"}, true},
		{"A", "B", "B", []string{"C", "A"}, true},
		{"A", "", "", []string{"A"}, true},
		{"", "B", "B", nil, true},
		{"SAE with blanks", "Ünï", "Ünï", []string{"SAE with blanks"}, true},
		{"-", "%2D", "%2D", []string{"-"}, true},

		{"A", "B", "C", []string{"A"}, false},       // to another SAE
		{"A", "B", "B", []string{"C"}, false},       // from a stranger
		{"A", "B", "B", nil, false},                 // from a stranger
		{"A", "B", "", []string{"A"}, false},        // to another SAE
		{"", "B", "B", []string{"A"}, false},        // from nobody
		{"", "", "B", []string{"A"}, false},         // no SAEs
		{"a", "b", "B", []string{"A"}, false},       // case
		{"B", "B", "B", []string{"A", "B"}, false},  // from ourselves
		{"A", "B", "B", []string{"B"}, false},       // only ourselves
		{"-", "B", "B", nil, false},                 // an SAE named like none
		{"A B", "B", "B", []string{"A%20B"}, false}, // escapes don't collide
		{"A", "B", "B", []string{""}, false},        // only those without SAE
		{"", "B", "B", []string{"", "A"}, true},     // or from A
		{strings.Repeat("x", 255), "B", "B", []string{strings.Repeat("x", 255)}, true},
	}
	for _, tt := range tests {
		km := newTestKM(t)
		outer := encrypt(t, km, []byte(shortMessage), &cipher.EncryptOptions{SAE: tt.sender, Peer: tt.recipient})
		_, err := decrypt(t, km, outer, &cipher.DecryptOptions{SAE: tt.sae, Peers: tt.peers})
		if tt.ok && err != nil || !tt.ok && !errors.Is(err, cipher.ErrSAE) {
			t.Errorf("%q to %q, read by %q with peers %q: error %v, want ok: %v", tt.sender, tt.recipient, tt.sae, tt.peers, err, tt.ok)
		}
		if !tt.ok && km.gets > 0 {
			t.Errorf("%q to %q, read by %q: a key was asked for", tt.sender, tt.recipient, tt.sae)
		}
	}
	// What does not fit the control part is refused before a message is made.
	for _, sae := range []string{strings.Repeat("x", 256), strings.Repeat("%", 86)} {
		if _, err := cipher.Encrypt(t.Context(), io.Discard, newTestKM(t), &cipher.EncryptOptions{SAE: sae}); !errors.Is(err, cipher.ErrOptions) {
			t.Errorf("an SAE ID of %d octets: error %v, want %v", len(sae), err, cipher.ErrOptions)
		}
	}
}

// TestNoKeyForNothing refuses what can be refused without a key before it asks
// for one: a key manager may delete it.
func TestNoKeyForNothing(t *testing.T) {
	for _, suite := range suites {
		km := newTestKM(t)
		outer := encrypt(t, km, []byte(shortMessage), &cipher.EncryptOptions{Suite: suite})
		payload := payloadOf(t, outer)
		for name, broken := range map[string][]byte{
			"other mail":      []byte(shortMessage),
			"version 2":       bytes.Replace(outer, []byte("\nVersion: 1\n"), []byte("\nVersion: 2\n"), 1),
			"unknown suite":   bytes.Replace(outer, []byte("Suite: "), []byte("Suite: X-"), 1),
			"empty payload":   replacePayload(outer, nil),
			"cut in its head": replacePayload(outer, payload[:10]),
			"no padding":      bytes.Replace(outer, []byte("=\n\n--"), []byte("\n\n--"), 1),
		} {
			if bytes.Equal(broken, outer) {
				continue // no padding to remove
			}
			km.gets = 0
			if _, err := decrypt(t, km, broken, nil); !refused(err) {
				t.Errorf("%s, %s: error %v", suite, name, err)
			}
			if km.gets > 0 && !(name == "no padding" && suite == cipher.SuiteAES256GCM) {
				t.Errorf("%s, %s: a key was asked for", suite, name)
			}
		}
	}
}

// TestKeySpelling: a key named in two spellings is one key.
func TestKeySpelling(t *testing.T) {
	km := newTestKM(t)
	outer := encrypt(t, km, []byte(shortMessage), nil)
	info, err := cipher.Inspect(bytes.NewReader(outer))
	if err != nil {
		t.Fatal(err)
	}
	upper := bytes.Replace(outer, []byte("\nKey-ID: "+info.KeyIDs[0]), []byte("\nKey-ID: "+strings.ToUpper(info.KeyIDs[0])), 1)
	// The header field, in lower case, still names the same key; but the
	// control octets are not what was authenticated.
	if _, err := decrypt(t, km, upper, nil); !errors.Is(err, cipher.ErrWrongKey) {
		t.Errorf("error %v, want %v", err, cipher.ErrWrongKey)
	}
}

// TestBadKeys gives the cipher keys that no key manager may give.
func TestBadKeys(t *testing.T) {
	for name, k := range map[string]oneKey{
		"short":           {"id", []byte("0123456789abcde")},
		"long":            {"id", []byte(strings.Repeat("ab", 32))},
		"equal octets":    {"id", make([]byte, 32)},
		"empty":           {"id", nil},
		"no ID":           {"", []byte(strings.Repeat("ab", 16))},
		"line end in ID":  {"a\r\nBcc: x", []byte(strings.Repeat("ab", 16))},
		"ID too long":     {strings.Repeat("x", 256), []byte(strings.Repeat("ab", 16))},
		"blank in the ID": {"a b", []byte(strings.Repeat("ab", 16))},
	} {
		var out bytes.Buffer
		w, err := cipher.Encrypt(t.Context(), &out, k, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = w.Write([]byte(shortMessage))
		if err := w.Close(); !errors.Is(err, kmclient.ErrBadKey) {
			t.Errorf("%s: error %v, want %v", name, err, kmclient.ErrBadKey)
		}
		if out.Len() > 0 {
			t.Errorf("%s: %d octets were written", name, out.Len())
		}
	}
}

// TestOwnErrors: what the key source or the reader says comes through.
func TestOwnErrors(t *testing.T) {
	fail := errors.New("no line")
	w, err := cipher.Encrypt(t.Context(), io.Discard, failingKM{fail}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); !errors.Is(err, fail) {
		t.Errorf("Close = %v, want %v", err, fail)
	}
	outer := encrypt(t, newTestKM(t), []byte(shortMessage), nil)
	if _, err := decrypt(t, failingKM{fail}, outer, nil); !errors.Is(err, fail) {
		t.Errorf("Decrypt = %v, want %v", err, fail)
	}
	ctx, cancel := context.WithCancel(t.Context())
	w, err = cipher.Encrypt(ctx, io.Discard, newTestKM(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := w.Write([]byte("x")); !errors.Is(err, context.Canceled) {
		t.Errorf("Write after cancel = %v", err)
	}
	if err := w.Close(); !errors.Is(err, context.Canceled) {
		t.Errorf("Close after cancel = %v", err)
	}
}

// TestKeySourceEndsMidMessage: an io.EOF of a key manager is not the end of
// the message.
func TestKeySourceEndsMidMessage(t *testing.T) {
	km := newTestKM(t)
	plain := bytes.Repeat([]byte("x\n"), 200_000)
	outer := encrypt(t, km, plain, &cipher.EncryptOptions{Suite: cipher.SuiteOTP})
	for _, fail := range []error{io.EOF, io.ErrUnexpectedEOF} {
		got, err := decrypt(t, &failingLater{testKM: km, left: 2, err: fail}, outer, nil)
		if !errors.Is(err, fail) || len(got) == len(plain) {
			t.Errorf("%v on the third frame: %d of %d octets, error %v", fail, len(got), len(plain), err)
		}
	}
	// Neither is a connection that is cut the end of what was read.
	for _, suite := range suites {
		outer := encrypt(t, km, plain, &cipher.EncryptOptions{Suite: suite})
		for _, n := range []int{100, 1500, 2000, len(outer) / 2, len(outer) - 100} {
			r, err := cipher.Decrypt(t.Context(), io.MultiReader(bytes.NewReader(outer[:n]), iotest.ErrReader(io.ErrUnexpectedEOF)), km, unbound())
			if err == nil {
				_, err = io.Copy(io.Discard, r)
			}
			if !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("%s cut after %d octets: error %v, want %v", suite, n, err, io.ErrUnexpectedEOF)
			}
		}
	}
}

// failingLater finds keys so many times and then fails.
type failingLater struct {
	*testKM
	left int
	err  error
}

func (f *failingLater) KeysByID(ctx context.Context, peer string, ids ...string) ([]*kmclient.Key, error) {
	if f.left--; f.left < 0 {
		return nil, f.err
	}
	return f.testKM.KeysByID(ctx, peer, ids...)
}

// TestBinding wants a KeyBinder to be told of each verified frame, once and
// with the same identity, and to have the last word before it is released.
func TestBinding(t *testing.T) {
	for _, suite := range suites {
		km := newTestKM(t)
		plain := bytes.Repeat([]byte("x\n"), 100_000)
		outer := encrypt(t, km, plain, &cipher.EncryptOptions{Suite: suite})
		b := new(binder)
		if got, err := decrypt(t, km, outer, bindTo(b)); err != nil || !bytes.Equal(got, plain) {
			t.Fatalf("%s: %v", suite, err)
		}
		var bound []string
		for i, c := range b.calls {
			if c.frame != uint64(i) || c.identity != b.calls[0].identity {
				t.Errorf("%s: call %d: frame %d, identity %x", suite, i, c.frame, c.identity)
			}
			bound = append(bound, c.ids...)
		}
		if !slices.Equal(bound, infoOf(t, outer).KeyIDs) {
			t.Errorf("%s: bound %d keys, want those of the message", suite, len(bound))
		}
		again := new(binder)
		_, _ = decrypt(t, km, bytes.ReplaceAll(outer, []byte("\n"), []byte("\r\n")), bindTo(again))
		other := new(binder)
		_, _ = decrypt(t, km, encrypt(t, km, plain, &cipher.EncryptOptions{Suite: suite}), bindTo(other))
		if again.calls[0].identity != b.calls[0].identity || other.calls[0].identity == b.calls[0].identity {
			t.Errorf("%s: the identity is not that of the message", suite)
		}
		refuse := errors.New("bound to another message")
		if got, err := decrypt(t, km, outer, bindTo(&binder{err: refuse})); !errors.Is(err, refuse) || len(got) > 0 {
			t.Errorf("%s: released %d octets, error %v, want %v", suite, len(got), err, refuse)
		}
		altered := bytes.Clone(outer)
		i := bytes.Index(altered, []byte("base64\n\n")) + 300
		altered[i] ^= 1
		none := new(binder)
		if _, err := decrypt(t, km, altered, bindTo(none)); err == nil || len(none.calls) > 0 {
			t.Errorf("%s: an altered message bound its key %d times, error %v", suite, len(none.calls), err)
		}
	}
}

// TestNoBinder wants Decrypt to refuse a caller that says nothing about binding:
// it must not read a byte or ask for a key.
func TestNoBinder(t *testing.T) {
	for name, opts := range map[string]*cipher.DecryptOptions{"no options": nil, "no binder": {SAE: "B"}} {
		km := newTestKM(t)
		src := bytes.NewReader(encrypt(t, km, []byte(shortMessage), nil))
		size := src.Len()
		if _, err := cipher.Decrypt(t.Context(), src, km, opts); !errors.Is(err, kmclient.ErrConfig) {
			t.Errorf("%s: error %v, want %v", name, err, kmclient.ErrConfig)
		}
		if src.Len() != size || km.gets != 0 {
			t.Errorf("%s: %d bytes were read and %d keys asked for", name, size-src.Len(), km.gets)
		}
	}
}

// TestIdentityBeforeKeys wants the identity of a message to be known when its
// first key is asked for, also if there is none: who has got a message is found
// out without its key.
func TestIdentityBeforeKeys(t *testing.T) {
	for _, suite := range suites {
		km := newTestKM(t)
		outer := encrypt(t, km, bytes.Repeat([]byte("x\n"), 100_000), &cipher.EncryptOptions{Suite: suite})
		b := new(binder)
		if _, err := decrypt(t, km, outer, bindTo(b)); err != nil {
			t.Fatal(err)
		}
		altered := bytes.Clone(outer)
		at := bytes.Index(altered, []byte("base64\n\n")) + 60 // in the commitment, or the first frame
		altered[at] = map[bool]byte{true: 'B', false: 'A'}[altered[at] == 'A']
		for name, c := range map[string]struct {
			message []byte
			same    bool
		}{"the message": {outer, true}, "an altered one": {altered, false}} {
			asks := &askedKM{err: kmclient.ErrKeyNotFound}
			opts := &cipher.DecryptOptions{Accept: func(i *cipher.Info) error { asks.info = i; return nil }}
			if _, err := decrypt(t, asks, c.message, opts); !errors.Is(err, kmclient.ErrKeyNotFound) {
				t.Fatalf("%s, %s: error %v, want %v", suite, name, err, kmclient.ErrKeyNotFound)
			}
			if len(asks.seen) != 1 || asks.seen[0] == (kmclient.Identity{}) || (asks.seen[0] == b.calls[0].identity) != c.same {
				t.Errorf("%s, %s: identities %x when a key was asked for, bound as %x", suite, name, asks.seen, b.calls[0].identity)
			}
		}
	}
}

// askedKM has no key, and notes which identity is known when it is asked.
type askedKM struct {
	err  error
	info *cipher.Info
	seen []kmclient.Identity
}

func (a *askedKM) KeysByID(context.Context, string, ...string) ([]*kmclient.Key, error) {
	a.seen = append(a.seen, a.info.Identity)
	return nil, a.err
}

type binder struct {
	err   error
	calls []bindCall
}

// bindTo are options that accept any message and bind its keys to b.
func bindTo(b *binder) *cipher.DecryptOptions { return &cipher.DecryptOptions{Binder: b} }

type bindCall struct {
	identity kmclient.Identity
	frame    uint64
	ids      []string
}

func (b *binder) BindKeys(_ context.Context, _ string, identity kmclient.Identity, frame uint64, ids ...string) error {
	b.calls = append(b.calls, bindCall{identity, frame, ids})
	return b.err
}

// TestAnotherKey gives other keys than were asked for, and wants the cipher to
// see that before anything else.
func TestAnotherKey(t *testing.T) {
	for _, suite := range suites {
		km := newTestKM(t)
		outer := encrypt(t, km, []byte(shortMessage), &cipher.EncryptOptions{Suite: suite})
		for name, k := range map[string]oneKey{
			"another ID":   {"another", bytes.Repeat([]byte("ab"), 16)},
			"equal octets": {infoOf(t, outer).KeyIDs[0], make([]byte, 64)},
		} {
			if _, err := decrypt(t, k, outer, nil); !errors.Is(err, kmclient.ErrBadKey) {
				t.Errorf("%s, %s: error %v, want %v", suite, name, err, kmclient.ErrBadKey)
			}
		}
	}
}

func infoOf(t *testing.T, outer []byte) *cipher.Info {
	t.Helper()
	info, err := cipher.Inspect(bytes.NewReader(outer))
	if err != nil {
		t.Fatal(err)
	}
	return info
}

// TestWiped looks at the keys that a message has used.
func TestWiped(t *testing.T) {
	for _, suite := range suites {
		km := &watchedKM{testKM: newTestKM(t)}
		outer := encrypt(t, km, []byte(shortMessage), &cipher.EncryptOptions{Suite: suite})
		if _, err := decrypt(t, km, outer, nil); err != nil {
			t.Fatal(err)
		}
		km.err = errors.New("not all keys came")
		if _, err := decrypt(t, km, outer, nil); !errors.Is(err, km.err) {
			t.Errorf("%s: decrypted with error %v, want %v", suite, err, km.err)
		}
		w, err := cipher.Encrypt(t.Context(), io.Discard, km, &cipher.EncryptOptions{Suite: suite})
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(w, shortMessage)
		if err := w.Close(); !errors.Is(err, km.err) {
			t.Errorf("%s: encrypted with error %v, want %v", suite, err, km.err)
		}
		if len(km.seen) < 4 {
			t.Fatalf("%s: %d keys were seen", suite, len(km.seen))
		}
		for _, k := range km.seen {
			if k.Reveal() != nil {
				t.Errorf("%s: key %s is not wiped", suite, k.ID())
			}
		}
	}
}

// watchedKM remembers the keys that it gives out, if need be with an error.
type watchedKM struct {
	*testKM
	err  error
	seen []*kmclient.Key
}

func (w *watchedKM) GetKeys(ctx context.Context, peer string, size, number int) ([]*kmclient.Key, error) {
	keys, err := w.testKM.GetKeys(ctx, peer, size, number)
	w.seen = append(w.seen, keys...)
	return keys, errors.Join(err, w.err)
}

func (w *watchedKM) KeysByID(ctx context.Context, peer string, ids ...string) ([]*kmclient.Key, error) {
	keys, err := w.testKM.KeysByID(ctx, peer, ids...)
	w.seen = append(w.seen, keys...)
	return keys, errors.Join(err, w.err)
}

type failingKM struct{ err error }

func (f failingKM) Status(context.Context, string) (kmclient.Status, error) {
	return kmclient.Status{}, f.err
}

func (f failingKM) GetKeys(context.Context, string, int, int) ([]*kmclient.Key, error) {
	return nil, f.err
}

func (f failingKM) KeysByID(context.Context, string, ...string) ([]*kmclient.Key, error) {
	return nil, fmt.Errorf("wrapped: %w", f.err)
}

func TestOptions(t *testing.T) {
	for _, opts := range []cipher.EncryptOptions{
		{Suite: "ROT13"}, {Headers: "hcp_unknown"}, {PadLimit: -1}, {PadLimit: cipher.MaxPadLimit + 1},
	} {
		if _, err := cipher.Encrypt(t.Context(), io.Discard, newTestKM(t), &opts); !errors.Is(err, cipher.ErrOptions) {
			t.Errorf("%+v: error %v, want %v", opts, err, cipher.ErrOptions)
		}
	}
}

// TestAuto takes the pad up to the limit and AES above, and never by what the
// key manager has.
func TestAuto(t *testing.T) {
	for _, limit := range []int{0, 1, 100, 65536, 200_000} {
		edge := limit
		if limit == 0 {
			edge = cipher.DefaultPadLimit
		}
		for size, want := range map[int]cipher.Suite{
			0: cipher.SuiteOTP, edge - 1: cipher.SuiteOTP, edge: cipher.SuiteOTP,
			edge + 1: cipher.SuiteAES256GCM, 3 * edge: cipher.SuiteAES256GCM,
		} {
			outer := encrypt(t, newTestKM(t), make([]byte, size), &cipher.EncryptOptions{Suite: cipher.SuiteAuto, PadLimit: limit})
			info, err := cipher.Inspect(bytes.NewReader(outer))
			if err != nil || info.Suite != want || info.PlaintextSize != int64(size) {
				t.Errorf("limit %d, message of %d octets: %+v, %v; want suite %s", limit, size, info, err, want)
			}
		}
	}
	w, err := cipher.Encrypt(t.Context(), io.Discard, failingOTP{newTestKM(t)}, &cipher.EncryptOptions{Suite: cipher.SuiteAuto})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); !errors.Is(err, kmclient.ErrKeyExhausted) {
		t.Errorf("no keys for a pad: error %v, want %v and no AES in its place", err, kmclient.ErrKeyExhausted)
	}
}

// failingOTP has keys for AES only.
type failingOTP struct{ *testKM }

func (failingOTP) Status(context.Context, string) (kmclient.Status, error) {
	return kmclient.Status{}, kmclient.ErrKeyExhausted
}
