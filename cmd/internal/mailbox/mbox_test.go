package mailbox_test

import (
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/qkdmail/qkdmail/cmd/internal/mailbox"
)

// split returns the messages of an mbox file, unquoted, and the file joined together
// again.
func split(t testing.TB, file string, q mailbox.Quoting) (messages []string, joined string, err error) {
	t.Helper()
	s := mailbox.NewScanner(strings.NewReader(file), 0, q)
	var out strings.Builder
	at := int64(0)
	for {
		m, err := s.Next()
		if err == io.EOF {
			return messages, out.String(), nil
		}
		if err != nil {
			return messages, out.String(), err
		}
		if m.Start != at || m.Body < m.Start || m.End < m.Body || m.Next < m.End {
			t.Fatalf("%q: %+v after offset %d", file, m, at)
		}
		at = m.Next
		text, err := io.ReadAll(q.Unquote(iotest.HalfReader(strings.NewReader(file[m.Body:m.End]))))
		if err != nil {
			t.Fatalf("%q: unquote: %v", file, err)
		}
		messages = append(messages, string(text))
		out.WriteString(file[m.Start:m.Body])
		out.WriteString(quote(t, q, string(text)))
		out.WriteString(file[m.End:m.Next])
	}
}

// quote quotes a message that arrives in small pieces.
func quote(t testing.TB, q mailbox.Quoting, message string) string {
	t.Helper()
	var out strings.Builder
	w := q.Quote(&out)
	for piece := range slices.Chunk([]byte(message), 7) {
		if _, err := w.Write(piece); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

const (
	first  = "From a@example.org Sat Nov 28 07:00:00 2026\n"
	second = "From b@example.org Sat Nov 28 07:00:01 2026\n"
)

// Splitting and joining an mbox file makes no difference, whatever is in it.
func TestSplit(t *testing.T) {
	long := strings.Repeat("x", 200<<10)
	for _, tt := range []struct {
		name, file string
		q          mailbox.Quoting
		want       []string
	}{
		{"empty file", "", mailbox.Rd, nil},
		{"two", first + "A: 1\n\na\n\n" + second + "B: 1\n\nb\n\n", mailbox.Rd, []string{"A: 1\n\na\n", "B: 1\n\nb\n"}},
		{"no final newline", first + "A: 1\n\na", mailbox.Rd, []string{"A: 1\n\na"}},
		{"no final blank line", first + "A: 1\n\na\n", mailbox.Rd, []string{"A: 1\n\na\n"}},
		{"no blank line between", first + "a\n" + second + "b\n\n", mailbox.Rd, []string{"a\n", "b\n"}},
		{"several blank lines between", first + "a\n\n\n\n" + second + "b\n", mailbox.Rd, []string{"a\n\n\n", "b\n"}},
		{"CRLF", "From a 7:00\r\nA: 1\r\n\r\na\r\n\r\nFrom b 7:00\r\n>From c\r\n\r\n", mailbox.Rd, []string{"A: 1\r\n\r\na\r\n", "From c\r\n"}},
		{"CR alone is no line end", first + "a\rFrom b 7:00\rc\n", mailbox.Rd, []string{"a\rFrom b 7:00\rc\n"}},
		{"empty messages", first + second + "\n" + first, mailbox.Rd, []string{"", "", ""}},
		{"From_ line cut short", "From ", mailbox.Rd, []string{""}},
		{"blank lines first", "\n\r\n" + first + "a\n", mailbox.Rd, []string{"a\n"}},
		{"NUL", first + "a\x00\n\x00\n\n" + second + "\x00", mailbox.Rd, []string{"a\x00\n\x00\n", "\x00"}},
		{"8-bit", first + "\xff\xfe \xc3\xa4\n\n", mailbox.Rd, []string{"\xff\xfe \xc3\xa4\n"}},
		{"a header alone", first + "A: 1\n\n" + second + "B: 1\n\n\n", mailbox.Rd, []string{"A: 1\n", "B: 1\n\n"}},
		{"levels in mboxrd", first + ">From a\n>>From b\n>>>From c\n> From d\n>from e\n>Fromf\n", mailbox.Rd, []string{"From a\n>From b\n>>From c\n> From d\n>from e\n>Fromf\n"}},
		{"levels in mboxo", first + ">From a\n>>From b\n>>>From c\n> From d\n", mailbox.O, []string{"From a\n>>From b\n>>>From c\n> From d\n"}},
		{"levels unquoted", first + "From the start\n>From here\n>From x 7:00\n>>From x 7:00\n", mailbox.None, []string{"From the start\n>From here\nFrom x 7:00\n>From x 7:00\n"}},
		{"From in a text, mboxrd", first + "a\nFrom the start\nb\n", mailbox.Rd, []string{"a\n", "b\n"}},
		{"From in a text, unquoted", first + "a\n\nFrom the start\nb\n\n" + second, mailbox.None, []string{"a\n\nFrom the start\nb\n", ""}},
		{"many levels", first + strings.Repeat(">", 70000) + "From a\n", mailbox.Rd, []string{strings.Repeat(">", 69999) + "From a\n"}},
		{"long lines", first + long + "\n" + long + "\n\n" + second + long, mailbox.Rd, []string{long + "\n" + long + "\n", long}},
		{"a long From_ line", "From " + long + "\na\n", mailbox.Rd, []string{"a\n"}},
		{"a long line From", first + "From " + long + " 7:00\na\n", mailbox.None, []string{"From " + long + " 7:00\na\n"}},
	} {
		messages, joined, err := split(t, tt.file, tt.q)
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
		if joined != tt.file {
			t.Errorf("%s: joined again, the file differs: %.200q", tt.name, joined)
		}
		if len(messages) != len(tt.want) {
			t.Errorf("%s: %d messages, want %d: %.200q", tt.name, len(messages), len(tt.want), messages)
			continue
		}
		for i, want := range tt.want {
			if messages[i] != want {
				t.Errorf("%s: message %d is %.200q, want %.200q", tt.name, i+1, messages[i], want)
			}
		}
	}
}

// A file that is not an mbox file is refused before any message.
func TestNotMbox(t *testing.T) {
	for _, file := range []string{"x", "A: 1\n\na\n", "\n", "\n\n x\n" + first, ">From a 7:00\n", "from a 7:00\n", "From:a\n", "\uFEFF" + first} {
		if messages, _, err := split(t, file, mailbox.Rd); !errors.Is(err, mailbox.ErrNotMbox) || len(messages) > 0 {
			t.Errorf("%q: %d messages, %v, want ErrNotMbox", file, len(messages), err)
		}
	}
	if _, _, err := split(t, "From the start\n", mailbox.None); !errors.Is(err, mailbox.ErrNotMbox) {
		t.Errorf("a From_ line without a time: %v, want ErrNotMbox", err)
	}
	if _, err := mailbox.ParseQuoting("cl2"); err == nil {
		t.Error("there is a quoting cl2")
	}
}

// A file that can't be read to its end yields no last message.
func TestUnreadable(t *testing.T) {
	fails := errors.New("fails")
	r := struct {
		io.Reader
		io.ReaderAt
	}{ReaderAt: failsAt{strings.NewReader(first + "a\n\n" + second + "b\n"), 60, fails}}
	s := mailbox.NewScanner(r, 0, mailbox.Rd)
	for {
		m, err := s.Next()
		if errors.Is(err, fails) {
			return
		}
		if err != nil || m.Next > 60 {
			t.Fatalf("%+v, %v, want the error of the file", m, err)
		}
	}
}

// failsAt fails when read beyond an offset.
type failsAt struct {
	r   io.ReaderAt
	end int64
	err error
}

func (f failsAt) ReadAt(p []byte, off int64) (int, error) {
	n, err := f.r.ReadAt(p[:max(0, min(int64(len(p)), f.end-off))], off)
	if err == nil && n < len(p) {
		err = f.err
	}
	return n, err
}

// Splitting and joining an mbox file makes no difference. Neither does quoting and
// unquoting a message under mboxrd. A quoted message remains one message.
func FuzzSplit(f *testing.F) {
	for _, file := range []string{
		"", first + "A: 1\n\na\n\n" + second + "b", "From \r\n\r\nFrom \n>From \n>>From \nFrom 7:00", first + "From x 1:1\n>From x 1:1\n", "\n\nFrom a\n\n\n", "x\n",
	} {
		f.Add(file)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, q := range []mailbox.Quoting{mailbox.Rd, mailbox.O, mailbox.None} {
			if _, joined, err := split(t, text, q); err == nil && joined != text {
				t.Errorf("%s: split and joined again, %q is %q", q, text, joined)
			}
			quoted := quote(t, q, text)
			messages, _, err := split(t, first+quoted+"\n\n"+second, q)
			if err != nil || len(messages) != 2 {
				t.Fatalf("%s: the message %q becomes %d, %v", q, text, len(messages)-1, err)
			}
			if got := strings.TrimSuffix(messages[0], "\n"); q != mailbox.O && got != text {
				t.Errorf("%s: quoted and unquoted again, %q is %q", q, text, got)
			}
		}
	})
}
