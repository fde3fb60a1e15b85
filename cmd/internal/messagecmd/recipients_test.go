package messagecmd

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/qkdmail/qkdmail/cipher"
	"github.com/qkdmail/qkdmail/cmd/internal/terminal"
	"github.com/qkdmail/qkdmail/kmclient/mock"
)

// TestParseTo: what --to accepts; an empty value must not mean anyone.
func TestParseTo(t *testing.T) {
	for _, tt := range []struct {
		values []string
		want   []string // nil: an error
	}{
		{[]string{"bob@b.example"}, []string{"bob@b.example"}},
		{[]string{"bob@b.example,"}, []string{"bob@b.example"}},
		{[]string{"bob@b.example,carol@b.example", " dave@b.example "}, []string{"bob@b.example", "carol@b.example", "dave@b.example"}},
		{[]string{"Bob <bob@b.example>", `"Doe, J" <jd@b.example>`}, []string{"bob@b.example", "jd@b.example"}},
		{[]string{`"john, doe"@b.example`}, []string{"john, doe@b.example"}},
		{[]string{"жозеф@bücher.example"}, []string{"жозеф@bücher.example"}},
		{[]string{"bob@[192.0.2.1]"}, []string{"bob@[192.0.2.1]"}},
		{[]string{""}, nil},
		{[]string{" "}, nil},
		{[]string{"bob@b.example", ""}, nil},
		{[]string{"bob"}, nil},
		{[]string{"@b.example"}, nil},
		{[]string{"<>"}, nil},
		{[]string{"all:;"}, nil},
		{[]string{"bob@b.example carol@b.example"}, nil},
		{[]string{"bob@b.example;carol@b.example"}, nil},
		{[]string{"bob@b.example\r\nX: y"}, nil},
	} {
		got, err := parseTo(tt.values)
		if !slices.Equal(got, tt.want) || (err == nil) != (tt.want != nil) {
			t.Errorf("--to %q: %q, %v; want %q", tt.values, got, err, tt.want)
		}
		if code, _ := terminal.Explain(err); err != nil && code != terminal.ExitUsage {
			t.Errorf("--to %q: exit code %d, want %d", tt.values, code, terminal.ExitUsage)
		}
	}
}

// TestSealedFor: each address is beside its digest, wherever it is in the list.
func TestSealedFor(t *testing.T) {
	var all []string
	for i := range 100 {
		all = append(all, fmt.Sprintf("user%d@b.example", i))
	}
	list := sealed(t, all)
	lines := sealedFor(list, slices.Concat(all[10:], all[20:], []string{"mallory@b.example", "USER3@B.EXAMPLE."}))
	for i, line := range lines {
		want := fmt.Sprintf("sealed for %x", list[i])
		switch {
		case i == 3:
			want += " USER3@B.EXAMPLE."
		case i >= 10:
			want += " " + all[i]
		}
		if line != want {
			t.Errorf("line %d is %q, want %q", i, line, want)
		}
	}
	if len(lines) != len(all) {
		t.Errorf("%d lines, want %d", len(lines), len(all))
	}
	if lines := sealedFor(nil, all); !slices.Equal(lines, []string{anyone}) {
		t.Errorf("an empty list: %q", lines)
	}
}

// sealed returns the recipients of a message that is sealed for these addresses.
func sealed(t *testing.T, addresses []string) cipher.Recipients {
	t.Helper()
	km, err := mock.New(mock.Options{Path: filepath.Join(t.TempDir(), "keys.json")})
	if err != nil {
		t.Fatal(err)
	}
	var wire bytes.Buffer
	w, err := cipher.Encrypt(context.Background(), &wire, km, &cipher.EncryptOptions{Recipients: addresses})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, "From: alice@a.example\n\nhi\n"); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	r, err := cipher.Decrypt(context.Background(), &wire, km, &cipher.DecryptOptions{Binder: cipher.Unbound})
	if err != nil {
		t.Fatal(err)
	}
	list, err := r.Recipients()
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// TestBeginning: the recipients of a message are found only in its header, whatever
// the charset of their names, and memory is bounded.
func TestBeginning(t *testing.T) {
	header := strings.Join([]string{
		"From: alice@a.example",
		"TO: Bob <bob@b.example>,",
		"\tcarol@b.example",
		"Cc: =?x-unknown?Q?D=E4ve?= <dave@b.example>",
		"Cc: broken <",
		"Bcc: erin@b.example",
		"Reply-To: frank@b.example",
		"", "To: grace@b.example", "",
	}, "\r\n")
	want := []string{"bob@b.example", "carol@b.example", "dave@b.example", "erin@b.example"}
	var b beginning
	for _, part := range []string{header[:30], header[30:]} {
		if n, err := b.Write([]byte(part)); n != len(part) || err != nil {
			t.Fatalf("Write: %d, %v", n, err)
		}
	}
	if got := b.recipients(); !slices.Equal(got, want) {
		t.Errorf("recipients %q, want %q", got, want)
	}
	if n, err := io.CopyN(&b, rand.Reader, 2*formLimit); n != 2*formLimit || err != nil {
		t.Errorf("copied %d, %v", n, err)
	}
	if len(b.text) != formLimit {
		t.Errorf("%d bytes are kept, want %d", len(b.text), formLimit)
	}
}
