package cipher_test

import (
	"bytes"
	"io"
	"net/mail"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/qkdmail/qkdmail/cipher"
)

// outerHeader returns the outer header, unfolded, of a message with this header.
func outerHeader(t *testing.T, header string, opts *cipher.EncryptOptions) string {
	t.Helper()
	outer := encrypt(t, newTestKM(), []byte(header+"\nbody\n"), opts)
	head, _, _ := bytes.Cut(outer, []byte("\n\n"))
	return string(regexp.MustCompile(`\r?\n[ \t]`).ReplaceAll(head, []byte(" "))) + "\n"
}

func TestOuterHeader(t *testing.T) {
	tests := []struct {
		name, in, out string // out: lines that must be there, in order; "!x": must not be
		opts          cipher.EncryptOptions
	}{
		{"order", "Subject: s\nTo: b@x.org\nFrom: a@x.org\n", "From: a@x.org\nTo: b@x.org", cipher.EncryptOptions{}},
		{"nothing there", "", "From: unknown-sender@qkdmail.invalid\nSubject: [...]", cipher.EncryptOptions{}},
		{"made From", "To: b@x.org\n", "From: postmaster@x.org", cipher.EncryptOptions{From: "postmaster@x.org"}},
		{"names", "From: Alice <a@x.org>\nTo: \"B, ob\" <b@x.org>, c@x.org (Carol)\n", "From: \"Alice\" <a@x.org>\nTo: \"B, ob\" <b@x.org>, \"Carol\" <c@x.org>", cipher.EncryptOptions{}},
		{"shy", "From: Alice <a@x.org>\nTo: \"B, ob\" <b@x.org>\nDate: Mon, 13 Oct 2025 09:56:36 +0200\n", "From: a@x.org\nTo: b@x.org\nDate: Mon, 13 Oct 2025 07:56:36 +0000\nSubject: [...]", cipher.EncryptOptions{Headers: cipher.HeadersShy}},
		{"baseline hides", "Subject: s3cret\nComments: s3cret\nKeywords: s3cret\n", "Subject: [...]\n!s3cret", cipher.EncryptOptions{}},
		{"no confidentiality", "Subject: open\nComments: com\nKeywords: key\n", "Subject: open\nComments: com\nKeywords: key", cipher.EncryptOptions{Headers: cipher.HeadersNoConfidentiality}},
		{"no confidentiality, no subject", "From: a@x.org\n", "!Subject", cipher.EncryptOptions{Headers: cipher.HeadersNoConfidentiality}},
		{"8-bit subject", "Subject: t\xc3\xa4st\n", "Subject: =?utf-8?q?t=C3=A4st?=", cipher.EncryptOptions{Headers: cipher.HeadersNoConfidentiality}},
		{"Latin-1 subject in words", "Subject: =?iso-8859-1?q?t=E4st?=\n", "Subject: =?utf-8?q?t=C3=A4st?=", cipher.EncryptOptions{Headers: cipher.HeadersNoConfidentiality}},
		{"broken words in the subject", "Subject: =?utf-8?b?abcxyz?=\n", "!abcxyz", cipher.EncryptOptions{Headers: cipher.HeadersNoConfidentiality}},
		{"first of several", "From: a@x.org\nFrom: b@x.org\nTo: c@x.org\nTo: dora@y.org\n", "From: a@x.org\nTo: c@x.org\n!From: b@x.org\n!dora@y.org", cipher.EncryptOptions{}},
		{"Bcc", "From: a@x.org\nBcc: hidden@x.org\nResent-Bcc: hidden2@x.org\n", "!hidden", cipher.EncryptOptions{}},
		{"telling fields", "From: a@x.org\nX-Mailer: tell\nThread-Topic: tell\nUser-Agent: tell\nReceived: tell\nReturn-Path: <tell@x.org>\n", "!tell", cipher.EncryptOptions{}},
		{"list", "From: a@x.org\nList-Id: =?utf-8?q?=C3=BC?= <l.x.org>\nList-Unsubscribe: <mailto:u@x.org>\nPrecedence: list\nAuto-Submitted: auto-generated\n", "List-Id: =?utf-8?q?=C3=BC?= <l.x.org>\nList-Unsubscribe: <mailto:u@x.org>\nPrecedence: list\nAuto-Submitted: auto-generated", cipher.EncryptOptions{}},
		{"resent above", "From: a@x.org\nResent-From: r@x.org\nResent-Date: Mon, 13 Oct 2025 09:56:36 +0200\n", "Resent-From: r@x.org\nResent-Date: Mon, 13 Oct 2025 09:56:36 +0200\nFrom: a@x.org", cipher.EncryptOptions{}},
		{"group", "From: a@x.org\nTo: undisclosed-recipients:;\nCc: g: b@x.org, c@x.org;\n", "To: undisclosed-recipients:;\nCc: b@x.org, c@x.org", cipher.EncryptOptions{}},
		{"sloppy name", "From: Foo [bar] <a@x.org>\n", "From: a@x.org", cipher.EncryptOptions{}},
		{"two sloppy ones", "From: a@x.org\nTo: b@x.org; c@x.org\n", "To: b@x.org, c@x.org", cipher.EncryptOptions{}},
		{"comma in an encoded word", "From: a@x.org\nTo: =?utf-8?q?re,plan@canary.org,x?= <bob@y.org>, c@x.org\n", "To: bob@y.org, c@x.org\n!plan\n!canary", cipher.EncryptOptions{}},
		{"colon in an encoded word", "From: =?utf-8?q?Merger:_canary?=bob@x.org\n", "From: unknown-sender@qkdmail.invalid\n!canary\n!bob", cipher.EncryptOptions{Headers: cipher.HeadersShy}},
		{"at sign in an encoded word", "From: =?utf-8?b?Y2FuYXJ5?=@x.org\nTo: =?utf-8?q?canary@z.org?= <bob@y.org>\n", "From: unknown-sender@qkdmail.invalid\nTo: bob@y.org\n!canary", cipher.EncryptOptions{}},
		{"encoded word that never ends", "From: a@x.org\nTo: b@x.org, =?utf-8?q?re,plan@canary.org, <bob@y.org>\n", "To: b@x.org\n!canary\n!bob", cipher.EncryptOptions{}},
		{"encoded word with a blank", "From: a@x.org\nTo: b@x.org, =?utf-8?q?re, plan@canary.org?= <bob@y.org>\n", "To: b@x.org\n!canary\n!bob", cipher.EncryptOptions{}},
		{"quote in an encoded word", "From: a@x.org\nTo: b@x.org, =?utf-8?q?\"x,y?= <c@y.org>, \"d@y.org\n", "To: b@x.org\n!c@y\n!d@y", cipher.EncryptOptions{}},
		{"no encoded word", "From: a@x.org\nTo: =?, c@x.org, d=?x@x.org\n", "To: c@x.org\n!d=", cipher.EncryptOptions{}},
		{"From is a group", "From: x:;\nSender: y:;\nReply-To: z:;\n", "From: unknown-sender@qkdmail.invalid\n!undisclosed", cipher.EncryptOptions{}},
		{"Sender is one", "From: a@x.org\nSender: b@x.org, nora@y.org\n", "Sender: b@x.org\n!nora@y.org", cipher.EncryptOptions{}},
		{"made From with a line end", "To: b@x.org\n", "From: a@x.org\n!evil", cipher.EncryptOptions{From: "a@x.org\r\nBcc: evil@x.org,"}},
		{"made From with a name", "To: b@x.org\n", "From: =?utf-8?q?J=C3=B6rg?= <j@x.org>", cipher.EncryptOptions{From: "Jörg <j@x.org>"}},
		{"made From without sense", "To: b@x.org\n", "From: unknown-sender@qkdmail.invalid", cipher.EncryptOptions{From: "nobody"}},
		{"crowded out", strings.Repeat("Resent-To: a@b.org\n", 9000) + "From: a@x.org\nTo: b@x.org\nMessage-ID: <1@x.org>\n", "Resent-To: a@b.org\nFrom: a@x.org\nTo: b@x.org\nMessage-ID: <1@x.org>\nSubject: [...]", cipher.EncryptOptions{}},
		{"List-Id without brackets", "From: a@x.org\nList-Id: l.x.org\n", "List-Id: l.x.org", cipher.EncryptOptions{}},
		{"broken List-Id", "From: a@x.org\nList-Id: a <l x.org>\n", "!List-Id", cipher.EncryptOptions{}},
		{"address too long", "From: " + strings.Repeat("x", 400) + "@x.org\n", "From: unknown-sender@qkdmail.invalid", cipher.EncryptOptions{}},
		{"name too long", "From: " + strings.Repeat("x", 501) + " <a@x.org>\n", "From: a@x.org", cipher.EncryptOptions{}},
		{"year 0001", "Date: Mon, 1 Jan 0001 00:00:00 +0000\n", "!0001", cipher.EncryptOptions{}},
		{"no address", "From: root\n", "From: unknown-sender@qkdmail.invalid", cipher.EncryptOptions{}},
		{"Latin-1 name", "From: J\xf6rg <a@x.org>\n", "From: =?utf-8?q?J=C3=B6rg?= <a@x.org>", cipher.EncryptOptions{}},
		{"line ends in a name", "From: =?utf-8?q?x=0D=0ABcc:_e=40x.org?= <a@x.org>\n", "From: a@x.org\n!Bcc", cipher.EncryptOptions{}},
		{"words in a quoted name", "From: \"=?utf-8?q?J=C3=B6rg?=\" <a@x.org>\n", "From: =?utf-8?q?J=C3=B6rg?= <a@x.org>", cipher.EncryptOptions{}},
		{"broken items", "From: root, <taro..suzuki@x.org>, Ann <ann@x.org>, bob@x.org\nTo: j\u00F6rg@x.org; dora@x.org\nCc: a@good.org@x.org\nReply-To: \"x <eve@x.org>\n", "From: \"Ann\" <ann@x.org>, bob@x.org\nTo: dora@x.org\n!suzuki\n!rg@\n!Cc:\n!Reply-To:", cipher.EncryptOptions{}},
		{"bare CR in a value", "X: 1\nFrom: x\reve@x.org\nMessage-ID: <x\r2@x.org>\nTo: a@x.org,\r\r\n\tb@x.org\n", "From: unknown-sender@qkdmail.invalid\nTo: a@x.org, b@x.org\n!eve@x.org\n!2@x.org", cipher.EncryptOptions{}},
		{"line ends without end", "X: 1\nFrom: a@x.org" + strings.Repeat("\r", 200_000) + "b\n", "From: unknown-sender@qkdmail.invalid", cipher.EncryptOptions{}},
		{"UTF-8 address", "From: jörg@x.org\n", "From: unknown-sender@qkdmail.invalid", cipher.EncryptOptions{}},
		{"UTF-8 address, SMTPUTF8", "From: Jörg <jörg@x.org>\n", "From: =?utf-8?q?J=C3=B6rg?= <jörg@x.org>", cipher.EncryptOptions{UTF8: true}},
		{"date", "Date: 13 Oct 25 09:56 CEST (comment)\n", "Date: Mon, 13 Oct 2025 09:56:00 -0000\n!comment", cipher.EncryptOptions{}},
		{"date with the name of its zone", "Date: 13 oct 25 09:56 est\nResent-Date: 13 Oct 2025 09:56 K\n", "Resent-Date: Mon, 13 Oct 2025 09:56:00 -0000\nDate: Mon, 13 Oct 2025 09:56:00 -0500", cipher.EncryptOptions{}},
		{"date without a zone", "Date: Mon Oct 13 09:56:36 2025\n", "Date: Mon, 13 Oct 2025 09:56:36 -0000", cipher.EncryptOptions{}},
		{"date without a zone, shy", "Date: Mon Oct 13 09:56:36 2025\n", "Date: Mon, 13 Oct 2025 09:56:36 +0000", cipher.EncryptOptions{Headers: cipher.HeadersShy}},
		{"folded date", "Date: Mon, 13 Oct 2025\n\t09:56:36 -0330\n", "Date: Mon, 13 Oct 2025 09:56:36 -0330", cipher.EncryptOptions{}},
		{"zone that does not exist", "Date: Mon, 13 Oct 2025 09:56:36 +2000\n", "Date: Sun, 12 Oct 2025 13:56:36 +0000", cipher.EncryptOptions{}},
		{"date that does not exist", "Date: Mon, 31 Feb 2025 09:56:36 +0000\n", "!09:56:36", cipher.EncryptOptions{}},
		{"date in two ways", "Date: 04/05/2025 09:56:36 +0000\n", "!09:56:36", cipher.EncryptOptions{}},
		{"broken date", "Date: yesterday\n", "!yesterday", cipher.EncryptOptions{}},
		{"impossible zone", "Date: Mon, 13 Oct 2025 09:56:36 +9900\n", "!+9900", cipher.EncryptOptions{}},
		{"Message-ID", "Message-ID: <x.y$z@[192.0.2.1]>\n", "Message-ID: <x.y$z@[192.0.2.1]>", cipher.EncryptOptions{}},
		{"broken Message-ID", "From: a@x.org\nMessage-ID: <a b@x.org>\n", "!a b@", cipher.EncryptOptions{}},
		{"In-Reply-To with words", "In-Reply-To: Your mail \"s3cret\" <p@x.org>\nReferences: <o@x.org>\n\t<p@x.org> junk\n", "In-Reply-To: <p@x.org>\nReferences: <o@x.org> <p@x.org>\n!s3cret\n!junk", cipher.EncryptOptions{}},
		{"empty fields", "From:\nTo: \nCc:  \nReferences:\n", "From: unknown-sender@qkdmail.invalid\n!To:\n!Cc:\n!References", cipher.EncryptOptions{}},
		{"header ends at what is no field", "From: a@x.org\nno field\nTo: body@x.org\n", "From: a@x.org\n!body@x.org", cipher.EncryptOptions{}},
		{"word too long to fold", "From: a@x.org\nList-Post: <mailto:" + strings.Repeat("x", 1000) + ">\n", "!List-Post", cipher.EncryptOptions{}},
		{"NUL", "From: a@x.org\nPrecedence: li\x00st\n", "Precedence: li st", cipher.EncryptOptions{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := outerHeader(t, tt.in, &tt.opts)
			at := 0
			for want := range strings.SplitSeq(tt.out, "\n") {
				if absent, ok := strings.CutPrefix(want, "!"); ok {
					if absent != "" && strings.Contains(got, absent) {
						t.Errorf("%q is in the outer header:\n%s", absent, got)
					}
					continue
				}
				i := strings.Index(got[at:], want+"\n")
				if i < 0 {
					t.Fatalf("no %q, in this order, in the outer header:\n%s", want, got)
				}
				at += i + len(want)
			}
		})
	}
}

// TestRequiredFields checks that missing fields are added as RFC 5322 requires.
func TestRequiredFields(t *testing.T) {
	m, err := mail.ReadMessage(strings.NewReader(outerHeader(t, "From: a@x.org\n", nil) + "\n"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Header.Date(); err != nil {
		t.Errorf("new Date %q: %v", m.Header.Get("Date"), err)
	}
	if id := m.Header.Get("Message-ID"); !regexp.MustCompile(`^<[0-9a-f]{32}@x\.org>$`).MatchString(id) {
		t.Errorf("new Message-ID %q, want 32 hexadecimal digits in the domain of From", id)
	}
}

// TestOuterHeaderIsBounded checks that no mail system has to cut the outer header, as
// Postfix would at 100 KiB.
func TestOuterHeaderIsBounded(t *testing.T) {
	var in strings.Builder
	in.WriteString("From: a@x.org\n")
	for range 5000 {
		in.WriteString("List-Archive: <https://lists.example.org/archive/>\n")
	}
	in.WriteString("References:" + strings.Repeat(" <parent@x.org>\n", 5000) + "\n")
	if got := outerHeader(t, in.String(), nil); len(got) > 70_000 {
		t.Errorf("outer header of %d bytes", len(got))
	}
}

func TestLineEnd(t *testing.T) {
	for in, crlf := range map[string]bool{
		"From: a@x.org\n\nb\n":         false,
		"From: a@x.org\r\n\r\nb\r\n":   true,
		"From: a@x.org\n\nb\r\n":       false,
		"From: a@x.org\r\n\nb\n":       true,
		"From: a@x.org\r\rb\r":         false,
		"From: a@x.org without an end": false,
		"":                             false,
		"\n\r\n":                       false,
		"\r\n":                         true,
	} {
		checkOuter(t, in, encrypt(t, newTestKM(), []byte(in), nil), crlf)
		checkOuter(t, in+" with CRLF", encrypt(t, newTestKM(), []byte(in), &cipher.EncryptOptions{CRLF: true}), true)
	}
}

func TestNote(t *testing.T) {
	for note, want := range map[string]string{"": "multipart/encrypted", "Bitte öffnen\n": "Bitte =C3=B6ffnen"} {
		km := newTestKM()
		outer := encrypt(t, km, []byte("From: a@x.org\n\nb\n"), &cipher.EncryptOptions{Note: &note})
		if !bytes.Contains(outer, []byte(want)) || note == "" && bytes.Contains(outer, []byte("multipart/mixed")) {
			t.Errorf("note %q: no %q in\n%s", note, want, outer)
		}
		if _, err := decrypt(t, km, outer, nil); err != nil {
			t.Errorf("note %q: %v", note, err)
		}
	}
}

// TestInfo checks what the Writer reports about the header.
func TestInfo(t *testing.T) {
	for in, want := range map[string]cipher.Info{
		"From: a@x.org\nBcc: b@x.org\n\nb\n":        {Bcc: true},
		"From: a@x.org\nResent-Bcc: b@x.org\n\nb\n": {Bcc: true},
		"From: a@x.org\n\nBcc: b@x.org\n":           {},
		"no header\n":                               {NoHeader: true},
		"":                                          {NoHeader: true},
	} {
		i, err := encryptTo(t, io.Discard, newTestKM(), []byte(in), nil)
		if err != nil {
			t.Fatal(err)
		}
		if i.Bcc != want.Bcc || i.NoHeader != want.NoHeader || i.PlaintextSize != int64(len(in)) || len(i.KeyIDs) != 1 {
			t.Errorf("%q: %+v", in, i)
		}
	}
}

// TestTopOfMessage has lines above the first field that belong to no field. The fields
// below them must be copied, and the whole message must be restored.
func TestTopOfMessage(t *testing.T) {
	const header = "From: Alice <a@x.org>\nTo: b@x.org\nBcc: hidden@x.org\n\nbody\n"
	for name, top := range map[string]string{
		"byte order mark":            "\uFEFF",
		"mbox separators":            "From a@b Sat Nov 28 07:00:00 2026\n>From - Sat Nov 28 07:00:01 2026\n",
		"quoted separators":          ">From - Sat Nov 28 07:00:01 2026\n>From a@b Sat Nov 28 07:00:00 2026\n",
		"byte order mark, separator": "\uFEFFFrom a@b Sat Nov 28 07:00:00 2026\n",
	} {
		for _, plain := range variants([]byte(top + header)) {
			km := newTestKM()
			outer := encrypt(t, km, plain, nil)
			if want := []byte("\"Alice\" <a@x.org>"); !bytes.Contains(outer, want) || bytes.Contains(outer, []byte("hidden")) {
				t.Errorf("%s: the outer message has no From %s, or has Bcc:\n%s", name, want, outer)
			}
			if got, err := decrypt(t, km, outer, nil); err != nil || !bytes.Equal(got, plain) {
				t.Errorf("%s: %q came back as %q, %v", name, plain, got, err)
			}
		}
	}
}

// TestHeaderInPieces writes a header, longer than the first scan, byte by byte.
func TestHeaderInPieces(t *testing.T) {
	plain, err := os.ReadFile(filepath.Join("..", "testdata", "mail", "18-long-lines.eml"))
	if err != nil {
		t.Fatal(err)
	}
	plain = append([]byte("X-Filler: "+strings.Repeat("x", 90_000)+"\n"), plain...)
	for _, suite := range []cipher.Suite{cipher.SuiteAES256GCM, cipher.SuiteOTP, cipher.SuiteAuto} {
		km := newTestKM()
		var out bytes.Buffer
		w, err := cipher.Encrypt(t.Context(), &out, km, forSuite(&cipher.EncryptOptions{Suite: suite}))
		if err != nil {
			t.Fatal(err)
		}
		for i := range plain {
			if _, err := w.Write(plain[i : i+1]); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if !bytes.Contains(out.Bytes(), []byte("recipient0299@example.net")) {
			t.Errorf("%s: the outer header does not have To, which is below 90,000 bytes of header", suite)
		}
		if got, err := decrypt(t, km, out.Bytes(), nil); err != nil || !bytes.Equal(got, plain) {
			t.Errorf("%s: %d bytes came back as %d, %v", suite, len(plain), len(got), err)
		}
	}
}

// TestHeaderCutAnywhere makes the first scan of a header end at every byte of its
// fields: none may be lost or copied in part.
func TestHeaderCutAnywhere(t *testing.T) {
	const fields = "From: alice@x.org\nTo: bob@x.org\nMessage-ID: <1@x.org>\nReferences: <2@x.org>\n"
	for at := range len(fields) + 2 {
		filler := "X-Filler: " + strings.Repeat("x", 64<<10-at-len("X-Filler: \n")) + "\n"
		plain := filler + fields + "\n" + strings.Repeat("body\n", 20_000)
		got := outerHeader(t, plain, nil)
		for want := range strings.SplitSeq(strings.TrimSuffix(fields, "\n"), "\n") {
			if !strings.Contains(got, want+"\n") {
				t.Fatalf("cut %d bytes into the fields: no %q in\n%s", at, want, got)
			}
		}
	}
	// Fields that the last scan does not reach, wholly or in part, are not copied.
	filler := "X-Filler: " + strings.Repeat("x", 256<<10-20) + "\n"
	if got := outerHeader(t, filler+fields, nil); strings.Contains(got, "alice") || !strings.Contains(got, "From: unknown-sender@") {
		t.Errorf("a field that the scan reached in part was copied:\n%s", got)
	}
}
