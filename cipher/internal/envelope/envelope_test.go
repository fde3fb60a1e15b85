package envelope

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/emersion/go-message"
)

var testControl = Control{
	Suite: "OTP", Time: time.Unix(1760298996, 0).UTC(), SenderSAE: "SAE_A", RecipientSAE: "SAE_B", KeyID: "9b42e9e2-38cc-4d7f-ba7e-94e0ed1a8a1c",
}

func TestControlOctets(t *testing.T) {
	want := "qkdmail/1\n\x00\x03OTP\x00\x0a1760298996\x00\x05SAE_A\x00\x05SAE_B\x00\x249b42e9e2-38cc-4d7f-ba7e-94e0ed1a8a1c"
	if got := testControl.Octets(); string(got) != want {
		t.Errorf("control octets\n%q, want\n%q", got, want)
	}
}

func TestParseControl(t *testing.T) {
	good := testControl.Text()
	lines := strings.SplitAfter(strings.TrimSuffix(good, "\n"), "\n")
	reversed := slices.Clone(lines)
	slices.Reverse(reversed)
	tests := []struct {
		name, text string
		want       error
	}{
		{"as written", good, nil},
		{"CRLF", strings.ReplaceAll(good, "\n", "\r\n"), nil},
		{"reversed", strings.Join(reversed, "\n"), nil},
		{"upper case", strings.NewReplacer("Version", "VERSION", "Key-ID", "KEY-ID").Replace(good), nil},
		{"blanks", "\n" + strings.NewReplacer(": ", " \t:\t  ", "\n", " \t\n").Replace(good) + "\n \n", nil},
		{"no blanks", strings.ReplaceAll(good, ": ", ":"), nil},
		{"no final line end", strings.TrimSuffix(good, "\n"), nil},

		{"empty", "", ErrDamaged},
		{"repeated field", good + "Suite: OTP\n", ErrDamaged},
		{"repeated in other case", good + "suite: OTP\n", ErrDamaged},
		{"unknown field", good + "Priority: 1\n", ErrDamaged},
		{"Kelvin sign in a name", strings.Replace(good, "Key-ID", "\u212Aey-ID", 1), ErrDamaged},
		{"version 2 with other fields", strings.Replace(good, "Version: 1", "Version: 2\nNew: x", 1), ErrVersion},
		{"version 2", strings.Replace(good, "Version: 1", "Version: 2", 1), ErrVersion},
		{"version 01", strings.Replace(good, "Version: 1", "Version: 01", 1), ErrVersion},
		{"no colon", good + "hello\n", ErrDamaged},
		{"empty value", strings.Replace(good, "SAE_A", "", 1), ErrDamaged},
		{"blank in a value", strings.Replace(good, "SAE_A", "SAE A", 1), ErrDamaged},
		{"8-bit value", strings.Replace(good, "SAE_A", "SAÉ", 1), ErrDamaged},
		{"bare CR", strings.Replace(good, "SAE_A", "SAE\rA", 1), ErrDamaged},
		{"NUL", strings.Replace(good, "SAE_A", "SAE\x00", 1), ErrDamaged},
		{"folded", strings.Replace(good, "SAE_A", "\n SAE_A", 1), ErrDamaged},
		{"longest value", strings.Replace(good, "SAE_A", strings.Repeat("a", 255), 1), nil},
		{"value too long", strings.Replace(good, "SAE_A", strings.Repeat("a", 256), 1), ErrDamaged},
		{"too long", good + strings.Repeat("\n", maxControl), ErrDamaged},
		{"time with a sign", strings.Replace(good, "1760298996", "+1760298996", 1), ErrDamaged},
		{"negative time", strings.Replace(good, "1760298996", "-1", 1), ErrDamaged},
		{"time with zeros", strings.Replace(good, "1760298996", "01760298996", 1), ErrDamaged},
		{"time too large", strings.Replace(good, "1760298996", "99999999999999999999", 1), ErrDamaged},
		{"time in hex", strings.Replace(good, "1760298996", "0x68EBEF74", 1), ErrDamaged},
	}
	for _, l := range lines {
		tests = append(tests, struct {
			name, text string
			want       error
		}{"no " + l, strings.Replace(good, strings.TrimSuffix(l, "\n"), "", 1), ErrDamaged})
	}
	for _, tt := range tests {
		c, err := ParseControl([]byte(tt.text))
		if !errors.Is(err, tt.want) {
			t.Errorf("%s: error %v, want %v", tt.name, err, tt.want)
		}
		if err == nil && !strings.HasPrefix(tt.name, "longest") && *c != testControl {
			t.Errorf("%s: %+v, want %+v", tt.name, *c, testControl)
		}
	}
}

// write returns the envelope around a payload.
func write(t testing.TB, payload []byte, note string, crlf bool) string {
	t.Helper()
	var out bytes.Buffer
	w, err := NewWriter(&out, WriterOptions{
		Outer:   [][]byte{[]byte("From: a@example.org\r\n"), []byte("Subject: [...]\r\n")},
		Control: testControl, Note: note, CRLF: crlf,
	})
	if err != nil {
		t.Fatal(err)
	}
	// Writes of all sizes, from nothing to several lines.
	for rest := payload; len(rest) > 0; {
		n := min(rand.IntN(200), len(rest))
		if _, err := w.Write(rest[:n]); err != nil {
			t.Fatal(err)
		}
		rest = rest[n:]
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func read(r io.Reader) (*Control, []byte, error) { return readAfter(nil, r) }

func readAfter(beginning []byte, r io.Reader) (*Control, []byte, error) {
	p, err := NewReader(beginning, r)
	if err != nil {
		return nil, nil, err
	}
	payload, err := io.ReadAll(p)
	return p.Control, payload, err
}

func TestRoundTrip(t *testing.T) {
	for _, size := range []int{0, 1, 2, 3, 56, 57, 58, 113, 114, 115, 1000, 300_000} {
		for _, note := range []string{"", "short", "ünicode and a long line " + strings.Repeat("x", 2000) + "\n--\nsignature\n.\n"} {
			for _, crlf := range []bool{false, true} {
				payload := make([]byte, size)
				for i := range payload {
					payload[i] = byte(rand.Uint32())
				}
				text := write(t, payload, note, crlf)
				checkLines(t, text, crlf)
				for name, r := range map[string]io.Reader{
					"whole":           strings.NewReader(text),
					"byte by byte":    iotest.OneByteReader(strings.NewReader(text)),
					"data with error": iotest.DataErrReader(strings.NewReader(text)),
				} {
					c, got, err := read(r)
					if err != nil || !bytes.Equal(got, payload) {
						t.Fatalf("%d bytes, note %.10q, CRLF %v, %s: got %d, %v", size, note, crlf, name, len(got), err)
					}
					if *c != testControl {
						t.Errorf("control %+v, want %+v", c, testControl)
					}
				}
			}
		}
	}
}

// checkLines checks that the line ends are of one style, the lines short and the text
// US-ASCII.
func checkLines(t *testing.T, text string, crlf bool) {
	t.Helper()
	for line := range strings.SplitSeq(strings.TrimSuffix(text, "\n"), "\n") {
		if strings.HasSuffix(line, "\r") != crlf || strings.Contains(strings.TrimSuffix(line, "\r"), "\r") {
			t.Fatalf("line %q, want CRLF: %v", line, crlf)
		}
		if len(line) > 79 {
			t.Fatalf("line of %d bytes: %q", len(line), line)
		}
	}
	if strings.ContainsFunc(text, func(r rune) bool { return r > 0x7E }) {
		t.Error("the message is not in US-ASCII")
	}
}

func TestOurFieldIsFirst(t *testing.T) {
	for _, note := range []string{"", "note"} {
		if text := write(t, nil, note, false); !strings.HasPrefix(text, KeyIDField+": "+testControl.KeyID+"\nFrom: ") {
			t.Errorf("the message begins with %.80q", text)
		}
	}
}

// TestGoMessageReads reads a message with go-message.
func TestGoMessageReads(t *testing.T) {
	e, err := message.Read(strings.NewReader(write(t, []byte("payload"), "note", true)))
	if err != nil {
		t.Fatal(err)
	}
	var types []string
	err = e.Walk(func(_ []int, e *message.Entity, err error) error {
		if err != nil {
			return err
		}
		mt, _, err := e.Header.ContentType()
		types = append(types, mt)
		return err
	})
	want := []string{"multipart/mixed", "text/plain", "multipart/encrypted", ControlType, payloadType}
	if err != nil || !slices.Equal(types, want) {
		t.Errorf("parts %v, %v; want %v", types, err, want)
	}
}

// mimePart and multi build messages as other systems would.
func mimePart(header, body string) string { return header + "\n\n" + body }

func multi(subtype, params, boundary string, parts ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Content-Type: multipart/%s; boundary=%q%s\n\n", subtype, boundary, params)
	for _, p := range parts {
		fmt.Fprintf(&b, "--%s\n%s\n", boundary, p)
	}
	fmt.Fprintf(&b, "--%s--\n", boundary)
	return b.String()
}

const protocol = `; protocol="application/vnd.qkdmail"`

func TestFind(t *testing.T) {
	control := mimePart("Content-Type: application/vnd.qkdmail", testControl.Text())
	payload := mimePart("Content-Type: application/octet-stream\nContent-Transfer-Encoding: base64", "aGVsbG8=")
	text := mimePart("Content-Type: text/plain", "a note")
	encrypted := multi("encrypted", protocol, "enc", control, payload)
	keyID := KeyIDField + ": " + testControl.KeyID + "\n"
	encode := func(encoding, body string) string {
		return mimePart("Content-Type: application/vnd.qkdmail\nContent-Transfer-Encoding: "+encoding, body)
	}

	tests := []struct {
		name, text string
		want       error
	}{
		{"alone", encrypted, nil},
		{"with its field", keyID + encrypted, nil},
		{"field in another case", strings.ToUpper(KeyIDField) + ": " + strings.ToUpper(testControl.KeyID) + "\n" + encrypted, nil},
		{"in mixed", multi("mixed", "", "m", text, encrypted), nil},
		{"list footer", multi("mixed", "", "m", multi("mixed", "", "n", text, encrypted), text), nil},
		{"four deep", multi("mixed", "", "a", multi("mixed", "", "b", multi("mixed", "", "c", encrypted))), nil},
		{"Exchange made it mixed", multi("mixed", "", "enc", control, payload), nil},
		{"that with a part after it", multi("mixed", "", "enc", text, control, payload, text), nil},
		{"boundaries that begin alike", multi("mixed", "", "enc2", text, encrypted), nil},
		{"boundaries that begin alike, inside out", multi("mixed", "", "en", text, encrypted), nil},
		{"blanks after boundaries", strings.ReplaceAll(encrypted, "--enc\n", "--enc \t\n"), nil},
		{"preamble and epilogue", strings.Replace(encrypted, "\n\n", "\n\npreamble\n--other\n", 1) + "epilogue\n--enc\n\nmore\n", nil},
		{"no closing delimiter", strings.TrimSuffix(encrypted, "--enc--\n"), nil},
		{"control in quoted-printable", multi("encrypted", protocol, "enc", encode("quoted-printable", strings.ReplaceAll(strings.ReplaceAll(testControl.Text(), "Suite", "S=\nuite"), "9b", "=39b")), payload), nil},
		{"control in base64", multi("encrypted", protocol, "enc", encode("BASE64", base64.StdEncoding.EncodeToString([]byte(testControl.Text()))), payload), nil},
		{"control in 8bit", multi("encrypted", protocol, "enc", encode("8bit", testControl.Text()), payload), nil},
		{"upper case types", strings.NewReplacer("multipart/encrypted", "Multipart/Encrypted", "application/vnd", "Application/VND", "octet-stream", "OCTET-STREAM").Replace(encrypted), nil},
		{"folded Content-Type", strings.Replace(encrypted, "; boundary", ";\n\tboundary", 1), nil},
		{"mbox line and broken line above", "From x@y Mon\nnonsense\n" + encrypted, nil},
		{"quoted mbox lines above", "From x@y Mon\n>From - Mon\n" + keyID + encrypted, nil},
		{"byte order mark above", "\uFEFF" + encrypted, nil},
		{"byte order mark above its field", "\uFEFF" + keyID + encrypted, nil},
		{"byte order mark above the field of another key", "\uFEFF" + KeyIDField + ": another\n" + encrypted, ErrDamaged},
		{"parameters of the parts broken", strings.Replace(encrypted, "Content-Type: application/octet-stream", "Content-Type: application/octet-stream; name=a b", 1), nil},

		{"longest boundary", strings.ReplaceAll(encrypted, "enc", strings.Repeat("e", maxBoundary)), nil},
		{"comments", strings.NewReplacer("octet-stream", "octet-stream (a comment)", "base64", "base64 (a comment)", "vnd.qkdmail\n", "vnd.qkdmail (c); a=b; a=c\n").Replace(encrypted), nil},
		{"comments everywhere", strings.NewReplacer(`multipart/encrypted; boundary="enc"; `, "(a) multipart (b) / encrypted (;) ; (c) boundary=enc (d); ", "application/vnd.qkdmail\n", "(a)application/(b)vnd.qkdmail(c)\n", "application/octet-stream", "(x (y)) application/octet-stream", "base64", "(x;) base64(y)").Replace(encrypted), nil},
		{"broken parameters", strings.Replace(encrypted, `boundary="enc"`, `; x; y=; z=a@b; n=Müller "q" boundary = "enc"; boundary=other`, 1), nil},
		{"parameters in pieces", strings.NewReplacer(`boundary="enc"`, "boundary*0=e; boundary*1=nc", `protocol="application/vnd.qkdmail"`, "protocol*=us-ascii''application%2Fvnd.qkdmail").Replace(encrypted), nil},
		{"broken parameters around", multi("mixed", `; =; "; boundary=x`, "m", text, encrypted), nil},

		{"broken protocol, and the payload is gone", multi("encrypted", "; ;protocol=application/vnd.qkdmail (x)", "enc", text), ErrDamaged},
		{"boundary too long", strings.NewReplacer(`"enc"`, `"`+strings.Repeat("e", maxBoundary+1)+`"`, "--enc", "--"+strings.Repeat("e", maxBoundary+1)).Replace(encrypted), ErrDamaged},
		{"no boundary", strings.Replace(encrypted, `boundary="enc"; `, "", 1), ErrDamaged},
		{"no boundary, inside", multi("mixed", "", "m", text, strings.Replace(encrypted, `boundary="enc"; `, "", 1)), ErrDamaged},
		{"Kelvin sign in a type", strings.ReplaceAll(strings.Replace(encrypted, "multipart/encrypted", "multipart/mixed", 1), "application/vnd.qkdmail", "application/vnd.q\u212Admail"), ErrNotEncrypted},
		{"plain text", "From: a@b\n\nhello\n", ErrNotEncrypted},
		{"an empty field, and the payload is gone", "Qkdmail-Key-ID:\n\nhello\n", ErrDamaged},
		{"empty", "", ErrNotEncrypted},
		{"header only", "From: a@b\n", ErrNotEncrypted},
		{"header too long", "X: " + strings.Repeat("x", maxHeader) + "\n" + encrypted, ErrNotEncrypted},
		{"PGP/MIME", multi("encrypted", `; protocol="application/pgp-encrypted"`, "p", mimePart("Content-Type: application/pgp-encrypted", "Version: 1"), payload), ErrNotEncrypted},
		{"ours in a bounce", multi("report", "", "r", text, mimePart("Content-Type: message/rfc822", keyID+encrypted)), ErrNotEncrypted},
		{"ours forwarded whole", mimePart("Content-Type: message/rfc822", keyID+encrypted), ErrNotEncrypted},
		{"ours in text", "From: a@b\n\n" + encrypted, ErrNotEncrypted},
		{"five deep", multi("mixed", "", "a", multi("mixed", "", "b", multi("mixed", "", "c", multi("mixed", "", "d", encrypted)))), ErrNotEncrypted},
		{"multipart without boundary", "Content-Type: multipart/mixed\n\n--\n--\n", ErrNotEncrypted},

		{"field without payload", keyID + "Content-Type: text/plain\n\nremoved\n", ErrDamaged},
		{"field without payload in a multipart", keyID + multi("mixed", "", "m", text), ErrDamaged},
		{"field of another key", KeyIDField + ": another\n" + encrypted, ErrDamaged},
		{"second field of another key", keyID + KeyIDField + ": another\n" + encrypted, ErrDamaged},
		{"nothing in it", multi("encrypted", protocol, "enc"), ErrDamaged},
		{"cut after its header", "Content-Type: multipart/encrypted; boundary=enc" + protocol + "\n\n", ErrDamaged},
		{"control alone", multi("encrypted", protocol, "enc", control), ErrDamaged},
		{"payload alone", multi("encrypted", protocol, "enc", payload), ErrDamaged},
		{"wrong order", multi("encrypted", protocol, "enc", payload, control), ErrDamaged},
		{"three parts", multi("encrypted", protocol, "enc", control, payload, text), ErrDamaged},
		{"something between", multi("mixed", "", "enc", control, text, payload), ErrDamaged},
		{"two of ours", multi("mixed", "", "m", encrypted, strings.ReplaceAll(encrypted, "enc\n", "enc\n")), ErrDamaged},
		{"two in one mixed", multi("mixed", "", "m", control, payload, control, payload), ErrDamaged},
		{"an empty one before", multi("mixed", "", "m", multi("encrypted", protocol, "n"), encrypted), ErrDamaged},
		{"an empty one after", multi("mixed", "", "m", encrypted, multi("encrypted", protocol, "n")), ErrDamaged},
		{"one without a boundary before", multi("mixed", "", "m", mimePart("Content-Type: multipart/encrypted"+protocol, ""), encrypted), ErrDamaged},
		{"one without a boundary after", multi("mixed", "", "m", encrypted, mimePart("Content-Type: multipart/encrypted"+protocol, "")), ErrDamaged},
		{"one without a boundary beside Exchange's form", multi("mixed", "", "m", control, payload, mimePart("Content-Type: multipart/encrypted"+protocol, "")), ErrDamaged},
		{"an empty one before Exchange's form", multi("mixed", "", "m", multi("encrypted", protocol, "n"), control, payload), ErrDamaged},
		{"a second in Exchange's form", multi("mixed", "", "m", encrypted, control, payload), ErrDamaged},
		{"payload in another multipart", multi("mixed", "", "m", multi("mixed", "", "n", control), payload), ErrDamaged},
		{"payload quoted-printable", strings.Replace(encrypted, "base64", "quoted-printable", 1), ErrDamaged},
		{"payload without an encoding", strings.Replace(encrypted, "\nContent-Transfer-Encoding: base64", "", 1), ErrDamaged},
		{"control in x-uuencode", multi("encrypted", protocol, "enc", encode("x-uuencode", testControl.Text()), payload), ErrDamaged},
		{"control in broken base64", multi("encrypted", protocol, "enc", encode("base64", "!!!!"), payload), ErrDamaged},
		{"control over 4 KiB", multi("encrypted", protocol, "enc", control+strings.Repeat("\n", 5000), payload), ErrDamaged},
		{"control far too long", multi("encrypted", protocol, "enc", control+strings.Repeat("\n", 50000), payload), ErrDamaged},
		{"version 9", strings.Replace(encrypted, "Version: 1", "Version: 9", 1), ErrVersion},
	}
	for _, tt := range tests {
		for _, crlf := range []bool{false, true} {
			text := tt.text
			if crlf {
				text = strings.ReplaceAll(text, "\n", "\r\n")
			}
			c, got, err := read(strings.NewReader(text))
			if !errors.Is(err, tt.want) {
				t.Errorf("%s, CRLF %v: error %v, want %v", tt.name, crlf, err, tt.want)
			} else if err == nil && (string(got) != "hello" || *c != testControl) {
				t.Errorf("%s, CRLF %v: payload %q, control %+v", tt.name, crlf, got, c)
			}
		}
	}
}

func TestBase64(t *testing.T) {
	tests := []struct {
		name, body, want string
		ok               bool
	}{
		{"one line", "aGVsbG8=\n", "hello", true},
		{"CRLF", "aGVs\r\nbG8=\r\n", "hello", true},
		{"short lines", "a\nG\nV\nsb\nG8=\n", "hello", true},
		{"blank lines", "\n\naGVs\n\nbG8=\n\n\n", "hello", true},
		{"one long line", strings.Repeat("aGVs", 100_000) + "\n", strings.Repeat("hel", 100_000), true},
		{"empty", "", "", true},
		{"padding bits set", "aGVsbG9=\n", "", false},
		{"data after padding", "aGVsbG8=aGVs\n", "", false},
		{"data after padding on another line", "aGVsbG8=\naGVs\n", "", false},
		{"padding without need", "aGVs====\n", "", false},
		{"padding missing", "aGVsbG8\n", "", false},
		{"blank", "aGVs bG8=\n", "", false},
		{"blank at the end", "aGVsbG8= \n", "", false},
		{"bare CR", "aGVs\rbG8=\n", "", false},
		{"four bare CR", "aGVs\r\r\r\rbG8=\n", "", false},
		{"URL alphabet", "-_-_\n", "", false},
		{"a line of dashes", "aGVs\n--\nbG8=\n", "", false},
		{"foreign delimiter", "aGVs\n--other\nbG8=\n", "", false},
		{"NUL", "aGVs\x00bG8=\n", "", false},
	}
	for _, tt := range tests {
		text := strings.Replace(write(t, nil, "", false), "base64\nContent-Type", "base64\nX: y\nContent-Type", 1)
		head, tail, _ := strings.Cut(text, "Content-Transfer-Encoding: base64\n\n")
		if tail == "" {
			t.Fatal("no payload part in the envelope")
		}
		text = head + "Content-Transfer-Encoding: base64\n\n" + tt.body + tail
		for name, r := range map[string]io.Reader{"whole": strings.NewReader(text), "byte by byte": iotest.OneByteReader(strings.NewReader(text))} {
			_, got, err := read(r)
			if tt.ok && (err != nil || string(got) != tt.want) || !tt.ok && !errors.Is(err, ErrDamaged) {
				t.Errorf("%s, %s: %d bytes, error %v; want ok: %v", tt.name, name, len(got), err, tt.ok)
			}
		}
	}
}

// TestReadError checks that an error of the source is passed on, not reported as a
// damaged message.
func TestReadError(t *testing.T) {
	text := write(t, make([]byte, 10_000), "note", false)
	fail := errors.New("connection lost")
	for n := range len(text) {
		if n > 2000 && n%97 != 0 {
			continue
		}
		_, _, err := read(io.MultiReader(strings.NewReader(text[:n]), iotest.ErrReader(fail)))
		if !errors.Is(err, fail) {
			t.Fatalf("error after %d bytes: %v, want %v", n, err, fail)
		}
	}
}

func FuzzNewReader(f *testing.F) {
	f.Add([]byte(write(f, []byte("payload"), "note", true)))
	f.Add([]byte(write(f, []byte("payload"), "", false)))
	f.Add([]byte(multi("mixed", "", "m", mimePart("Content-Type: application/vnd.qkdmail", testControl.Text()), mimePart("Content-Type: application/octet-stream\nContent-Transfer-Encoding: base64", "AA=="))))
	f.Fuzz(func(t *testing.T, b []byte) {
		c1, p1, err1 := read(bytes.NewReader(b))
		c2, p2, err2 := read(iotest.OneByteReader(bytes.NewReader(b)))
		if (err1 == nil) != (err2 == nil) || err1 == nil && (*c1 != *c2 || !bytes.Equal(p1, p2)) {
			t.Fatalf("the result depends on the sizes of reads: %v, %v", err1, err2)
		}
		half := len(b) / 2
		c3, p3, err3 := readAfter(b[:half], bytes.NewReader(b[half:]))
		if (err1 == nil) != (err3 == nil) || err1 == nil && (*c1 != *c3 || !bytes.Equal(p1, p3)) {
			t.Fatalf("the result depends on what is in beginning: %v, %v", err1, err3)
		}
		if err1 == nil {
			if err := c1.Check(); err != nil {
				t.Fatalf("accepted a control part that no writer makes: %v", err)
			}
		}
	})
}
