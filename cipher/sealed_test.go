package cipher_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/qkdmail/qkdmail/cipher"
)

func opener(t testing.TB, km cipher.KeyFinder, outer []byte) *cipher.Reader {
	t.Helper()
	r, err := cipher.Decrypt(t.Context(), bytes.NewReader(outer), km, unbound())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestRecipients seals messages for none, some and as many recipients as possible, and
// asks who they are for.
func TestRecipients(t *testing.T) {
	km := newTestKM()
	for _, suite := range suites {
		for _, n := range []int{0, 1, 3, 4095, 4096} {
			for _, message := range []string{"", shortMessage} {
				addresses := vectorRecipients(n)
				outer := encrypt(t, km, []byte(message), &cipher.EncryptOptions{Suite: suite, Recipients: addresses})
				r := opener(t, km, outer)
				list, err := r.Recipients()
				if err != nil || len(list) != n || r.Info().PlaintextSize != 0 {
					t.Fatalf("%s, %d recipients: a list of %d, %d bytes released, %v", suite, n, len(list), r.Info().PlaintextSize, err)
				}
				got, err := io.ReadAll(r)
				if err != nil || string(got) != message || r.Info().PlaintextSize != int64(len(message)) {
					t.Errorf("%s, %d recipients: %q, %v; %d bytes released", suite, n, got, err, r.Info().PlaintextSize)
				}
				if again, err := r.Recipients(); err != nil || !slices.Equal(again, list) {
					t.Errorf("%s, %d recipients: after the end it is a different list, or error %v", suite, n, err)
				}
				for i := 0; i < n; i += max(1, n/3) {
					a := addresses[n-1-i]
					if !list.Include(strings.ToUpper(a)+".") || list.Include("x"+a) {
						t.Fatalf("%s, %d recipients: %s is not on the list, or another one is", suite, n, a)
					}
				}
				if list.Include("mallory@b.example") != (n == 0) {
					t.Errorf("%s, %d recipients: includes a stranger: %t", suite, n, n != 0)
				}
				// A caller that does not ask gets the same message.
				if got, err := decrypt(t, km, outer, nil); err != nil || string(got) != message {
					t.Errorf("%s, %d recipients, without asking: %q, %v", suite, n, got, err)
				}
			}
		}
		if _, err := cipher.Encrypt(t.Context(), io.Discard, km, forSuite(&cipher.EncryptOptions{Suite: suite, Recipients: vectorRecipients(4097)})); !errors.Is(err, cipher.ErrOptions) {
			t.Errorf("%s, 4,097 recipients: error %v, want %v", suite, err, cipher.ErrOptions)
		}
	}
}

// TestRecipientsHidden: the message shows neither the list nor who is on it.
func TestRecipientsHidden(t *testing.T) {
	for _, suite := range suites {
		outer := encrypt(t, newTestKM(), []byte(shortMessage), &cipher.EncryptOptions{Suite: suite, Recipients: []string{"secret.agent@b.example"}})
		if bytes.Contains(outer, []byte("agent")) {
			t.Errorf("%s: the message names its recipient: %s", suite, outer)
		}
	}
}

// TestRecipientBytes changes each byte of an encrypted recipient list, cuts the payload
// after each, and replaces the list with another message's. No list and no byte of the
// message may come out.
func TestRecipientBytes(t *testing.T) {
	for _, suite := range suites {
		km := newTestKM()
		opts := &cipher.EncryptOptions{Suite: suite, Recipients: vectorRecipients(3)}
		outer := encrypt(t, km, []byte(shortMessage), opts)
		whole := payloadOf(t, outer)
		const list = 4 + 3*16
		start := len(whole) - 16 - len(shortMessage) - list // of the list, before the message and the tag
		other := payloadOf(t, encrypt(t, km, []byte(shortMessage), opts))
		swapped := slices.Concat(whole[:start], other[start:start+list], whole[start+list:])
		mustNotList(t, km, replacePayload(outer, swapped), cipher.ErrAltered)
		for i := start; i < start+list; i++ {
			payload := bytes.Clone(whole)
			payload[i] ^= 1 << (i % 8)
			mustNotList(t, km, replacePayload(outer, payload), cipher.ErrAltered)
			want := cipher.ErrDamaged // cut before a tag, or within a frame
			if suite.Plain() == cipher.SuiteAES256GCM && i >= start+16 {
				want = cipher.ErrAltered // a tag may come before the cut
			}
			mustNotList(t, km, replacePayload(outer, whole[:i]), want)
			if t.Failed() {
				t.Fatalf("%s: byte %d of the list", suite, i-start)
			}
		}
	}
}

// mustNotList decrypts a message that must give no list.
func mustNotList(t *testing.T, km cipher.KeyFinder, outer []byte, want error) {
	t.Helper()
	r, err := cipher.Decrypt(t.Context(), bytes.NewReader(outer), km, unbound())
	if err == nil {
		var list cipher.Recipients
		if list, err = r.Recipients(); list.Include("r0@b.example") || list.Include("") {
			t.Errorf("a list that includes somebody comes with the error %v", err)
		}
		if n, again := io.Copy(io.Discard, r); n > 0 || !errors.Is(again, err) {
			t.Errorf("released %d bytes after the error %v, then %v", n, err, again)
		}
	}
	if !errors.Is(err, want) {
		t.Errorf("error %v, want %v", err, want)
	}
}

// TestLongList reads a list that spans two chunks or frames, the second of which is
// altered: the recipients in the first alone must not count.
func TestLongList(t *testing.T) {
	for _, suite := range suites {
		km := newTestKM()
		outer := encrypt(t, km, nil, &cipher.EncryptOptions{Suite: suite, Recipients: vectorRecipients(4096)})
		payload := payloadOf(t, outer)
		payload[len(payload)-1] ^= 1
		mustNotList(t, km, replacePayload(outer, payload), cipher.ErrAltered)
	}
}

// TestRecipientsInOptions: an invalid address is refused before anything is written.
func TestRecipientsInOptions(t *testing.T) {
	for _, a := range []string{"", "<bob@b.example>", "bob@b.example\r\nRCPT TO:<m@b.example>"} {
		_, err := cipher.Encrypt(t.Context(), io.Discard, newTestKM(), &cipher.EncryptOptions{Recipients: []string{a}})
		if !errors.Is(err, cipher.ErrOptions) {
			t.Errorf("%q: error %v, want %v", a, err, cipher.ErrOptions)
		}
	}
}

// TestPadCostOfRecipients: the cost of a pad counts the recipient list.
func TestPadCostOfRecipients(t *testing.T) {
	for _, n := range []int{0, 1, 100, 4096} {
		km := newTestKM()
		info, err := encryptTo(t, io.Discard, km, []byte(shortMessage), &cipher.EncryptOptions{Suite: cipher.SuiteOTP, Recipients: vectorRecipients(n)})
		if err != nil {
			t.Fatal(err)
		}
		cost, err := cipher.PadCostOf(km.status, int64(len(shortMessage)), n)
		if err != nil || int(cost.Keys) != len(info.KeyIDs) {
			t.Errorf("%d recipients: %d keys, %v; the message took %d", n, cost.Keys, err, len(info.KeyIDs))
		}
	}
	for _, n := range []int{-1, cipher.MaxRecipients + 1} {
		if _, err := cipher.PadCostOf(newTestKM().status, 1, n); !errors.Is(err, cipher.ErrOptions) {
			t.Errorf("%s: error %v, want %v", fmt.Sprint(n), err, cipher.ErrOptions)
		}
	}
}
