package cipher

import (
	"encoding/base64"
	"mime"
	"net/mail"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/emersion/go-message/charset"
	"github.com/qkdmail/qkdmail/cipher/rawheader"
)

var encodedWord = regexp.MustCompile(`=\?[^? ]*\?[bq]\?([^? ]*)\?=`)

// outerOf returns the outer header of a message with this header.
func outerOf(header []byte, opts *EncryptOptions) [][]byte {
	outer := newOuterHeader(opts)
	for f := range rawheader.Fields(header, rawheader.Strict) {
		outer.take(f)
	}
	return outer.build()
}

// checkLines checks lines as in RFC 5322 §2.1.1 and encoded words as in RFC 2047 §2
// and §5.
func checkLines(t *testing.T, fields [][]byte) {
	t.Helper()
	for _, field := range fields {
		for line := range strings.SplitSeq(strings.TrimSuffix(string(field), "\r\n"), "\r\n") {
			if len(line) > 998 {
				t.Errorf("line of %d bytes: %.100q", len(line), line)
			}
			if strings.Contains(line, "=?") && len(line) > 76 {
				t.Errorf("line of %d bytes with an encoded word: %q", len(line), line)
			}
			if line != "" && strings.Trim(line, " \t") == "" {
				t.Errorf("line of only blanks in %q", field)
			}
			for _, word := range encodedWord.FindAllString(line, -1) {
				text, err := new(mime.WordDecoder).Decode(word)
				if len(word) > 75 || err != nil || !utf8.ValidString(text) {
					t.Errorf("encoded word %q of %d bytes is %q, %v; want whole characters", word, len(word), text, err)
				}
			}
		}
	}
}

// value returns the value of the first field with a name, unfolded.
func value(fields [][]byte, name string) string {
	for _, raw := range fields {
		if parsed := slices.Collect(rawheader.Fields(raw, rawheader.Strict)); len(parsed) == 1 && parsed[0].Is(name) {
			return parsed[0].Text()
		}
	}
	return ""
}

func TestEncodedWordLines(t *testing.T) {
	long, han := strings.Repeat("Zusammenfassung Ihrer Bestellung \u2014 ", 40), strings.Repeat("\u529B", 120)
	for name, header := range map[string]string{
		"subject":                      "Subject: " + long + "\n",
		"subject without blanks":       "Subject: " + han + "\n",
		"subject that just fits":       "Subject: " + strings.Repeat("\u00E9", 9) + "xxx\n",
		"name":                         "To: " + han + " <bob@b.example>\n",
		"names":                        "Cc: =?utf-8?q?J=C3=B6rg?= <j@x.org>, \"" + long[:200] + "\" <k@x.org>, \u00E9 <l@x.org>\n",
		"long address after a word":    "From: \u00E9 <" + strings.Repeat("a", 250) + "@x.org>\n",
		"long word before a word":      "From: \"" + strings.Repeat("a", 70) + "\" <a@x.org>, \u00E9 <b@x.org>\n",
		"long name of a field":         "List-" + strings.Repeat("x", 70) + ": \u00E9\n",
		"phrase of a list":             "List-Id: " + long + " <list.x.org>\n",
		"message ID like a word":       "Message-ID: <=?utf-8?q?x?=@x.org>\n",
		"long message ID like a word":  "Message-ID: <=?utf-8?q?" + strings.Repeat("x", 70) + "?=@x.org>\nReferences: <=?x" + strings.Repeat("x", 70) + "?=@x.org> <1@x.org>\n",
		"field name like a word":       "List-=?utf-8?q?x?=: " + strings.Repeat("x", 70) + "\n",
		"bytes that are no characters": "Subject: =?utf-8?q?=FF=C3?= x\n",
		"words that split a character": "Subject: =?utf-8?q?=E5?= =?utf-8?q?=8A=9B?=\n",
		"a word and a long word after": "Subject: \u00E9 " + strings.Repeat("x", 200) + "\n",
	} {
		out := outerOf([]byte(header+"\n"), &EncryptOptions{Headers: HeadersNoConfidentiality})
		checkLines(t, out)
		if t.Failed() {
			t.Fatalf("%s: in\n%s", name, out)
		}
		field, _, _ := strings.Cut(header, ":")
		if got := value(out, field); got == "" && !strings.Contains(name, "like a word") {
			t.Errorf("%s: the outer header does not have the field:\n%s", name, out)
		}
	}
}

// TestEncodedWordsOfCorpus checks the lines of all messages, and that subjects read
// the same in the outer header.
func TestEncodedWordsOfCorpus(t *testing.T) {
	dirs := []string{filepath.Join("..", "testdata", "mail"), os.Getenv("QKDMAIL_CORPUS")}
	if dirs[1] == "" {
		dirs[1] = filepath.Join("..", "..", "shared", "corpus")
	}
	subjects := 0
	for _, dir := range dirs {
		files, err := filepath.Glob(filepath.Join(dir, "*.eml"))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			plain, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, policy := range []HeaderPolicy{HeadersBaseline, HeadersShy, HeadersNoConfidentiality} {
				out := outerOf(plain, &EncryptOptions{Headers: policy})
				checkLines(t, out)
				if t.Failed() {
					t.Fatalf("that line is in the outer header of %s", filepath.Base(file))
				}
				subject := value(out, "Subject")
				if policy != HeadersNoConfidentiality || subject == "" {
					continue
				}
				subjects++
				f, _ := rawheader.First(plain, rawheader.Strict, "Subject")
				if got, want := decoded(subject), decoded(toUTF8(f.Text())); got != want {
					t.Errorf("%s: the outer subject is a different text, of %d bytes instead of %d", filepath.Base(file), len(got), len(want))
				}
			}
		}
	}
	if subjects == 0 {
		t.Error("no message with a subject")
	}
}

// decoded returns what a mail program shows of a header: decoded, with one blank for
// several blanks and for control characters.
func decoded(text string) string {
	text, err := (&mime.WordDecoder{CharsetReader: charset.Reader}).DecodeHeader(text)
	if err != nil {
		return err.Error()
	}
	text = strings.Map(controlToBlank, strings.ToValidUTF8(text, "\uFFFD"))
	return strings.Join(strings.Fields(text), " ")
}

// FuzzEncodedWords checks the lines of a subject, a name and the phrase of a list
// ID, and that the text is unchanged.
func FuzzEncodedWords(f *testing.F) {
	f.Add(strings.Repeat("Bestellung \u2014 ", 40), uint8(3))
	f.Add(strings.Repeat("\u529B", 120), uint8(0))
	f.Add("a\u00E9\"\\,.<b>", uint8(60))
	f.Add("=?utf-8?q?=FF=C3?= \xFF", uint8(90))
	f.Add("a \u2003 b \u2014 c", uint8(0))
	f.Fuzz(func(t *testing.T, text string, length uint8) {
		word := "=?utf-8?b?" + base64.StdEncoding.EncodeToString([]byte(text)) + "?="
		filler := strings.Repeat("x", int(length))
		header := "List-Id: " + word + " <" + filler + "x.org>\nList-" + filler + ": " + word + "\nSubject: " + filler + " " + word +
			"\nTo: " + filler + "@x.org, " + word + " <a@x.org>, b@x.org, " + word + " <" + filler + "c@x.org>\n\n"
		out := outerOf([]byte(header), &EncryptOptions{Headers: HeadersNoConfidentiality})
		checkLines(t, out)
		want := decoded(strings.ToValidUTF8(text, "\uFFFD"))
		if len(text) > longestLine-len("List-:")-256 || strings.Contains(text, "=?") || strings.Contains(text, "?=") || strings.ContainsFunc(text, func(r rune) bool { return (isBlankOrControl(r) || unicode.IsSpace(r)) && r != ' ' }) {
			return // not copied, or not unchanged, or not as decoded reads it
		}
		if got := decoded(value(out, "Subject")); got != strings.TrimSpace(filler+" "+want) {
			t.Errorf("outer subject %q, want %q after %d letters", got, want, length)
		}
		list, err := mail.ParseAddressList(value(out, "To"))
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range list {
			if named := strings.HasSuffix(a.Address, "a@x.org") || strings.HasSuffix(a.Address, "c@x.org"); named && len(want) <= maxDisplayName && a.Name != want {
				t.Errorf("outer name %q, want %q", a.Name, want)
			}
		}
	})
}
