package cipher_test

import (
	"bytes"
	"errors"
	"io"
	"net/mail"
	"strings"
	"testing"
	"time"

	"github.com/qkdmail/qkdmail/cipher"
)

// TestRewrap checks that a message loses everything around it and is otherwise the
// same.
func TestRewrap(t *testing.T) {
	km := newTestKM()
	for _, suite := range suites {
		for name, around := range map[string]func(string) string{
			"as it is":       func(s string) string { return s },
			"a field":        func(s string) string { return "X-Clear: in clear\n" + s },
			"a folded field": func(s string) string { return "Received: in clear\n\tby x\n" + s },
			"a note":         func(s string) string { return strings.Replace(s, "If you can read this", "It is in clear", 1) },
			"a preamble":     func(s string) string { return strings.Replace(s, "\n\n--", "\n\nin clear\n--", 1) },
			"an epilogue":    func(s string) string { return s + "in clear\n" },
			"another part": func(s string) string {
				boundary := s[strings.Index(s, "boundary=")+len("boundary="):]
				boundary = strings.Trim(boundary[:strings.IndexAny(boundary, ";\n")], `"`)
				return strings.Replace(s, "\n--"+boundary+"--", "\n--"+boundary+"\n\nin clear\n--"+boundary+"--", 1)
			},
			"in a list's message": func(s string) string {
				return "From: list@x.example\nContent-Type: multipart/mixed; boundary=list\n\n--list\n\nin clear\n--list\n" +
					s[strings.Index(s, "Content-Type:"):] + "\n--list--\n"
			},
			"a subject": func(s string) string { return strings.Replace(s, "Subject: [...]", "Subject: in clear", 1) },
		} {
			opts := forSuite(&cipher.EncryptOptions{Suite: suite, SAE: "A", Peer: "B"})
			sealed := around(string(encrypt(t, km, []byte(shortMessage), opts)))
			var out bytes.Buffer
			if err := cipher.Rewrap(&out, strings.NewReader(sealed), opts); err != nil {
				t.Errorf("%s, %s: %v", suite, name, err)
				continue
			}
			if text := strings.ToLower(out.String()); strings.Contains(text, "in clear") {
				t.Errorf("%s, %s: it has\n%s", suite, name, text)
			}
			if n := strings.Count(out.String(), "\n--"); n != strings.Count(string(encrypt(t, km, []byte(shortMessage), opts)), "\n--") {
				t.Errorf("%s, %s: %d delimiters in\n%s", suite, name, n, out.String())
			}
			r, err := cipher.Decrypt(t.Context(), &out, km, &cipher.DecryptOptions{Hybrid: unbound().Hybrid, Binder: cipher.Unbound, SAE: "B", Peers: []string{"A"}})
			if err != nil {
				t.Errorf("%s, %s: %v", suite, name, err)
				continue
			}
			if plain, err := io.ReadAll(r); err != nil || string(plain) != shortMessage {
				t.Errorf("%s, %s: restored %q, %v", suite, name, plain, err)
			}
		}
	}
}

// TestRewrapDate has a time in the control part that a Date field can't have.
func TestRewrapDate(t *testing.T) {
	km := newTestKM()
	for _, seconds := range []string{"253402300800", "9223372036854775807"} {
		opts := &cipher.EncryptOptions{SAE: "A", Peer: "B", Time: time.Unix(1700000000, 0)}
		sealed := string(encrypt(t, km, []byte("To: b@b.example\n\ntext\n"), opts))
		sealed = strings.Replace(sealed, "1700000000", seconds, 1)
		opts.Time = time.Time{}
		if at := strings.Index(sealed, "\nDate: "); at >= 0 {
			sealed = sealed[:at] + sealed[at+strings.Index(sealed[at+1:], "\n")+1:]
		}
		var out bytes.Buffer
		if err := cipher.Rewrap(&out, strings.NewReader(sealed), opts); err != nil {
			t.Errorf("%s: %v", seconds, err)
			continue
		}
		header, err := mail.ReadMessage(&out)
		if err != nil {
			t.Fatal(err)
		}
		if date, err := header.Header.Date(); err != nil || date.Year() < 1900 || date.Year() > 9999 {
			t.Errorf("%s: Date: %s", seconds, header.Header.Get("Date"))
		}
	}
}

func TestRewrapRefuses(t *testing.T) {
	km := newTestKM()
	opts := &cipher.EncryptOptions{SAE: "A", Peer: "B"}
	sealed := string(encrypt(t, km, []byte(shortMessage), opts))
	for name, tt := range map[string]struct {
		text string
		opts cipher.EncryptOptions
		want error
	}{
		"for another":      {sealed, cipher.EncryptOptions{SAE: "A", Peer: "C"}, cipher.ErrSAE},
		"from another":     {sealed, cipher.EncryptOptions{SAE: "C", Peer: "B"}, cipher.ErrSAE},
		"ordinary mail":    {shortMessage, *opts, cipher.ErrNotEncrypted},
		"another suite":    {strings.Replace(sealed, "Suite: AES-256-GCM", "Suite: ROT13", 1), *opts, cipher.ErrSuite},
		"no base64":        {strings.Replace(sealed, "base64\n\n", "base64\n\nin clear", 1), *opts, cipher.ErrDamaged},
		"the payload gone": {sealed[:strings.Index(sealed, "Content-Type: application/octet-stream")], *opts, cipher.ErrDamaged},
	} {
		err := cipher.Rewrap(io.Discard, strings.NewReader(tt.text), &tt.opts)
		if !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", name, err, tt.want)
		}
	}
}
