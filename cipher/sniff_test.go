package cipher_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/qkdmail/qkdmail/cipher"
)

// sniffLimit is how many bytes of a message Sniff reads.
const sniffLimit = 256 << 10

func TestSniff(t *testing.T) {
	km := newTestKM()
	ours := string(encrypt(t, km, []byte(shortMessage), nil))
	big := string(encrypt(t, km, slices.Concat([]byte(shortMessage), make([]byte, 2*sniffLimit)), nil))
	for name, tt := range map[string]struct {
		text string
		ours bool
	}{
		"ours":                {ours, true},
		"ours, large":         {big, true},
		"version 2":           {strings.Replace(ours, "\nVersion: 1\n", "\nVersion: 2\n", 1), true},
		"payload removed":     {"Qkdmail-Key-ID: x\n\nremoved\n", true},
		"empty":               {"", false},
		"plain":               {shortMessage, false},
		"plain, large":        {shortMessage + strings.Repeat("x\n", sniffLimit), false},
		"ours far below":      {"Content-Type: multipart/mixed; boundary=m\n\n--m\n\n" + strings.Repeat("x\n", sniffLimit/2) + "\n--m\n" + ours + "\n--m--\n", false},
		"ours in a forwarded": {"Content-Type: message/rfc822\n\n" + ours, false},
	} {
		want, wantErr := decryptAll(t, km, strings.NewReader(tt.text))
		for _, held := range []int{0, 20, strings.Index(tt.text, "\n\n") + 1, strings.Index(tt.text, "\n\n") + 2, 300, 70_000} {
			held = min(held, len(tt.text)) // what the caller has read
			name := fmt.Sprintf("%s, %d bytes read", name, held)
			got, replay, err := cipher.Sniff([]byte(tt.text[:held]), iotest.HalfReader(strings.NewReader(tt.text[held:])))
			if err != nil || (got != nil) != tt.ours {
				t.Errorf("%s: %+v, %v; want ours: %v", name, got, err, tt.ours)
				continue
			}
			if again, err := io.ReadAll(replay); err != nil || string(again) != tt.text {
				t.Errorf("%s: %d bytes came back as %d, %v", name, len(tt.text), len(again), err)
			}
			// Decrypt goes on where Sniff stopped, with the same result.
			_, replay, _ = cipher.Sniff([]byte(tt.text[:held]), strings.NewReader(tt.text[held:]))
			got1, err1 := decryptAll(t, km, replay)
			if got1 != want || fmt.Sprint(err1) != fmt.Sprint(wantErr) {
				t.Errorf("%s: after Sniff %d bytes, %v; without %d, %v", name, len(got1), err1, len(want), wantErr)
			}
			if again, err := io.ReadAll(replay); err != nil || len(again) > 0 {
				t.Errorf("%s: %d bytes came a third time, %v", name, len(again), err)
			}
		}
	}
	for _, fail := range []error{errors.New("connection lost"), io.ErrUnexpectedEOF} {
		for name, text := range map[string]string{"ours": ours, "plain": shortMessage, "header": "Subject: x\n"} {
			_, replay, err := cipher.Sniff(nil, io.MultiReader(strings.NewReader(text), iotest.ErrReader(fail)))
			if err == nil {
				_, err = io.Copy(io.Discard, replay)
			}
			if !errors.Is(err, fail) {
				t.Errorf("%s: error %v, want %v", name, err, fail)
			}
		}
	}
}

func decryptAll(t *testing.T, km *testKM, src io.Reader) (string, error) {
	r, err := cipher.Decrypt(t.Context(), src, km, unbound())
	if err != nil {
		_, _ = io.Copy(io.Discard, src)
		return "", err
	}
	text, err := io.ReadAll(r)
	return string(text), err
}

// TestTransitAndAccept checks Info as Accept sees it, before a key is fetched.
func TestTransitAndAccept(t *testing.T) {
	km := newTestKM()
	ours := "Received: from a\n by b\nReturn-Path: <x@example.org>\n" + string(encrypt(t, km, []byte(shortMessage), nil))
	var seen cipher.Info
	refuse := errors.New("too old")
	_, err := decrypt(t, km, []byte(ours), &cipher.DecryptOptions{Accept: func(i *cipher.Info) error { seen = *i; return refuse }})
	if !errors.Is(err, refuse) || km.finds > 0 {
		t.Errorf("error %v with %d requests for keys, want %v and none", err, km.finds, refuse)
	}
	if got := string(bytes.Join(seen.Transit, nil)); got != "Received: from a\n by b\nReturn-Path: <x@example.org>\n" {
		t.Errorf("transit %q", got)
	}
	if seen.Suite != cipher.SuiteAES256GCM {
		t.Errorf("suite %q", seen.Suite)
	}
	// Without Qkdmail-Key-ID it is unknown what relays added.
	_, _ = decrypt(t, km, []byte(strings.Replace(ours, "Qkdmail-Key-ID", "X-Other", 1)), &cipher.DecryptOptions{Accept: func(i *cipher.Info) error { seen = *i; return nil }})
	if len(seen.Transit) > 0 {
		t.Errorf("transit without Qkdmail-Key-ID: %q", seen.Transit)
	}
}
