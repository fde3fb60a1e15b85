package rawheader

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

func TestFields(t *testing.T) {
	tests := []struct {
		name, in string
		mode     Mode
		want     string // name=text|…
		n        int    // bytes of the header, -1: all
		done     bool
	}{
		{"empty", "", Strict, "", 0, false},
		{"only a blank line", "\n", Strict, "", 1, true},
		{"no line end", "x", Strict, "", 1, false},
		{"cut in a name", "A: 1\nFro", Strict, "A=1", 8, false},
		{"cut in a fold", "A: 1\n ", Strict, "A=1", 6, false},
		{"LF", "A: 1\nB:2\n\nbody", Strict, "A=1|B=2", 10, true},
		{"CRLF", "A: 1\r\nB:2\r\n\r\nbody", Strict, "A=1|B=2", 13, true},
		{"bare CR", "A: 1\rB:2\r\rbody", Strict, "A=1|B=2", 10, true},
		{"CR CR LF is one line end", "A: 1\r\r\nB:2\r\r\n\r\r\nbody", Strict, "A=1|B=2", 16, true},
		{"bare CR in a value", "A: 1\nB: x\ry\n\n", Strict, "A=1|B=xy", 13, true},
		{"folded", "A: 1\n 2\n\t3\nB: 4\n\n", Strict, "A=1 2\t3|B=4", 17, true},
		{"blank before colon", "A \t: 1\n\n", Strict, "A=1", 8, true},
		{"mbox line", "From a@b Mon\nA: 1\n\n", Strict, "A=1", 19, true},
		{"quoted mbox line", ">From a@b Mon\nA: 1\n\n", Strict, "A=1", 20, true},
		{"quoted mbox lines below it", "From a@b Mon\n>From - Mon\n>>From c@d Mon\nA: 1\n\n", Strict, "A=1", -1, true},
		{"quoted mbox lines only", ">From - Mon\r\n>From c@d 10:00\r\nA: 1\r\n\r\n", Strict, "A=1", -1, true},
		{"mbox lines, bare CR", "From a@b Mon\r>From - Mon\rA: 1\r\r", Strict, "A=1", -1, true},
		{"mbox lines, lenient", "From a@b Mon\n>From - Mon\nA: 1\n\n", Lenient, "A=1", -1, true},
		{"mbox line with a fold", "From a@b Mon\n more\nA: 1\n\n", Strict, "A=1", -1, true},
		{"second mbox line that is not quoted", "From a@b Mon\nFrom - Mon\nA: 1\n\n", Strict, "", 13, true},
		{"From with a blank before the colon", "From : a@b\n>From - Mon\nA: 1\n\n", Strict, "From=a@b", 11, true},
		{"only mbox lines", "From a@b Mon\n>From - Mon\n\nbody", Strict, "", 26, true},
		{"cut in an mbox line", "From a@b Mon\n>From -", Strict, "", -1, false},
		{"byte order mark", "\uFEFFA: 1\nB: 2\n\n", Strict, "A=1|B=2", -1, true},
		{"byte order mark, CRLF, lenient", "\uFEFFA: 1\r\nB: 2\r\n\r\n", Lenient, "A=1|B=2", -1, true},
		{"byte order mark, bare CR", "\uFEFFA: 1\rB: 2\r\r", Strict, "A=1|B=2", -1, true},
		{"byte order mark above an mbox line", "\uFEFFFrom a@b Mon\n>From - Mon\nA: 1\n\n", Strict, "A=1", -1, true},
		{"byte order mark below an mbox line", "From a@b Mon\n\uFEFFA: 1\n\n", Strict, "A=1", -1, true},
		{"byte order mark and no header", "\uFEFF\nbody", Strict, "", 4, true},
		{"byte order mark further down", "A: 1\n\uFEFFB: 2\n\n", Strict, "A=1", 5, true},
		{"fold first, with a byte order mark", "\uFEFF x\nA: 1\n\n", Strict, "", 3, true},
		{"cut in a byte order mark", "\xef\xbb", Strict, "", -1, false},
		{"mbox line further down", "A: 1\nFrom a@b\nB: 2\n\n", Strict, "A=1", 5, true},
		{"no blank line before the body", "A: 1\nhello\nB: 2\n\n", Strict, "A=1", 5, true},
		{"the same, lenient", "A: 1\nhello\n more\nB: 2\n\n", Lenient, "A=1|B=2", -1, true},
		{"fold first", " x\nA: 1\n\n", Strict, "", 0, true},
		{"fold first, lenient", " x\nA: 1\n\n", Lenient, "A=1", -1, true},
		{"blank in the name", "a b: 1\nA: 1\n\n", Strict, "", 0, true},
		{"no name", ": 1\n\n", Strict, "", 0, true},
		{"NUL in the name", "A\x00: 1\n\n", Strict, "", 0, true},
		{"no end", "A: 1\nB: 2", Strict, "A=1|B=2", -1, false},
		{"no end after CR", "A: 1\r\nB: 2\r", Strict, "A=1|B=2", -1, false},
		{"blanks only is a fold", "A: 1\n \nB: 2\n\n", Strict, "A=1|B=2", -1, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			n, done := End([]byte(tt.in), tt.mode)
			var got []string
			for f := range Fields([]byte(tt.in), tt.mode) {
				got = append(got, fmt.Sprintf("%s=%s", f.Name, f.Text()))
			}
			if tt.n < 0 {
				tt.n = len(tt.in)
			}
			if g := strings.Join(got, "|"); g != tt.want || n != tt.n || done != tt.done {
				t.Errorf("%q: %q, %d, %v; want %q, %d, %v", tt.in, g, n, done, tt.want, tt.n, tt.done)
			}
		})
	}
}

func TestFirst(t *testing.T) {
	header := []byte("A: 1\r\nfrom: a\r\n b\r\nFrom: c\r\n\r\nTo: d\r\n")
	if f, ok := First(header, Strict, "From"); !ok || f.Text() != "a b" || string(header[f.Offset:][:len(f.Raw)]) != string(f.Raw) {
		t.Errorf("%q at %d, %v; want the first From", f.Raw, f.Offset, ok)
	}
	if f, ok := First(header, Strict, "To"); ok {
		t.Errorf("%q of the body is read as a field", f.Raw)
	}
}

// TestFieldsAllocate checks that a header of many small fields takes no memory.
func TestFieldsAllocate(t *testing.T) {
	header := append(bytes.Repeat([]byte("a:\n"), 100_000), '\n')
	allocs := testing.AllocsPerRun(5, func() {
		n := 0
		for f := range Fields(header, Lenient) {
			n += len(f.Name)
		}
		if n != 100_000 {
			t.Errorf("%d fields, want 100000", n)
		}
	})
	if allocs > 2 {
		t.Errorf("%v allocations, want at most 2", allocs)
	}
}

// FuzzFields checks that fields are slices of the header at their offsets, in order
// and without overlap.
func FuzzFields(f *testing.F) {
	f.Add([]byte("A: 1\r\n b\r\n\r\nbody"), true)
	f.Add([]byte("From x\rA: 1\r\rbody"), false)
	f.Add([]byte(" fold\n\x00: \n:\n"), false)
	f.Add([]byte("\uFEFFFrom x\n>From y\nA: 1\n\n"), true)
	f.Fuzz(func(t *testing.T, b []byte, strict bool) {
		mode := Lenient
		if strict {
			mode = Strict
		}
		n, _ := End(b, mode)
		if n < 0 || n > len(b) {
			t.Fatalf("header of %d bytes in an input of %d", n, len(b))
		}
		rest := b[:n]
		for fd := range Fields(b, mode) {
			if !bytes.HasPrefix(b[fd.Offset:], fd.Raw) {
				t.Fatalf("field %q is not at its offset %d", fd.Raw, fd.Offset)
			}
			i := bytes.Index(rest, fd.Raw)
			if i < 0 {
				t.Fatalf("field %q is not in the rest of the header", fd.Raw)
			}
			rest = rest[i+len(fd.Raw):]
			if !bytes.HasPrefix(fd.Raw, fd.Name) || !bytes.Contains(fd.Raw, fd.Value) {
				t.Fatalf("name %q or value %q outside %q", fd.Name, fd.Value, fd.Raw)
			}
			if strings.ContainsAny(fd.Text(), "\r\n") {
				t.Fatalf("line end in the text of %q", fd.Raw)
			}
		}
	})
}
