package main

import (
	"encoding/xml"
	"errors"
	"io"
	netmail "net/mail"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestQuick goes every way once, with all contenders that are installed.
func TestQuick(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and runs programs")
	}
	report := filepath.Join(t.TempDir(), "report.md")
	if err := os.WriteFile(report, []byte("before\n"+beginMark+"\nold\n"+endMark+"\nafter\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := run(t.Context(), filepath.Join("..", ".."), report, quickPlan()); err != nil {
		t.Fatal(err)
	}
	octets, err := os.ReadFile(report)
	if err != nil {
		t.Fatal(err)
	}
	text := string(octets)
	for _, want := range []string{"before\n", "\nafter\n", "these figures say nothing", "| encrypt 25 MB: time", "not measured"} {
		if !strings.Contains(text, want) {
			t.Errorf("the report lacks %q", want)
		}
	}
	if strings.Contains(text, "\nold\n") {
		t.Error("the report still has the old figures")
	}
	for _, name := range []string{nameCopy, nameOpenSSL, nameAge, nameGPG, nameAES, nameOTP, nameOTPREST} {
		switch rows := strings.Count(text, "kB | "+name+" |") + strings.Count(text, "MB | "+name+" |"); {
		case strings.Contains(text, "**SKIPPED** "+name):
			t.Logf("not measured: %s", name)
		case rows != 4:
			t.Errorf("%d rows of %s, want 4 (two sizes, encrypt and decrypt)", rows, name)
		}
	}
	wellFormed(t, strings.TrimSuffix(report, ".md")+".svg")
}

func wellFormed(t *testing.T, path string) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	elements := 0
	for d := xml.NewDecoder(f); ; elements++ {
		if _, err := d.Token(); err == io.EOF {
			break
		} else if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
	}
	if elements < 100 {
		t.Errorf("%s: %d elements, which can't be a plot", path, elements)
	}
}

func TestMail(t *testing.T) {
	for _, size := range []int{10 * kilo, mega} {
		text, err := io.ReadAll(mail(size))
		if err != nil {
			t.Fatal(err)
		}
		if len(text) > size || len(text) < size-100 {
			t.Errorf("%d octets, want about %d", len(text), size)
		}
		m, err := netmail.ReadMessage(strings.NewReader(string(text)))
		if err != nil {
			t.Fatal(err)
		}
		if got := m.Header.Get("Content-Type"); !strings.HasPrefix(got, "multipart/mixed") {
			t.Errorf("Content-Type %q", got)
		}
		if !strings.HasSuffix(string(text), "\n"+mailTail) {
			t.Error("the last line of the attachment is not a whole one")
		}
	}
}

func TestSame(t *testing.T) {
	long := strings.Repeat("x", 3<<20)
	broken := errors.New("broken")
	for name, tt := range map[string]struct {
		a, b io.Reader
		ok   bool
	}{
		"empty":          {strings.NewReader(""), strings.NewReader(""), true},
		"equal":          {strings.NewReader(long), strings.NewReader(long), true},
		"shorter":        {strings.NewReader(long), strings.NewReader(long[1:]), false},
		"a block less":   {strings.NewReader(long), strings.NewReader(long[1<<20:]), false},
		"last differs":   {strings.NewReader(long + "a"), strings.NewReader(long + "b"), false},
		"failing reader": {io.MultiReader(strings.NewReader(long), errReader{broken}), strings.NewReader(long), false},
	} {
		if err := same(tt.a, tt.b); (err == nil) != tt.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

type errReader struct{ err error }

func (r errReader) Read([]byte) (int, error) { return 0, r.err }

func TestRatio(t *testing.T) {
	r := newResults()
	for _, ms := range [][2]time.Duration{{1, 2}, {30, 40}, {3, 1}} {
		for i, who := range []string{nameAES, nameAge} {
			s := r.at(cell{who, opEncrypt, mega})
			s.samples = append(s.samples, sample{wall: ms[i]})
		}
	}
	if got, ok := r.ratio(nameAES, nameAge, opEncrypt, mega); !ok || got != 0.75 {
		t.Errorf("ratio %v, %v; want the median of 0.5, 0.75 and 3", got, ok)
	}
	if _, ok := r.ratio(nameAES, nameGPG, opEncrypt, mega); ok {
		t.Error("a ratio to what was not measured")
	}
	four := []float64{4, 1, 3, 2}
	if got := median(four, func(x float64) float64 { return x }); got != 2.5 {
		t.Errorf("median of 1 to 4 is %v", got)
	}
}

func TestParseShares(t *testing.T) {
	got := parseShares(`goos: linux
BenchmarkShare/AES-256-GCM/encrypt         	      62	  18113812 ns/op	         0.4012 of-gcm
BenchmarkShare/OTP/decrypt-2     	      62	  18113812 ns/op	         1 of-poly1305
BenchmarkOther/OTP/encrypt     	      62	  18113812 ns/op	         0.9 of-poly1305
PASS`)
	want := map[string]float64{"AES-256-GCM/encrypt": 0.4012, "OTP/decrypt": 1}
	if len(got) != len(want) || got["AES-256-GCM/encrypt"] != 0.4012 || got["OTP/decrypt"] != 1 {
		t.Errorf("%v, want %v", got, want)
	}
}

func TestSplice(t *testing.T) {
	generated := beginMark + "\n\nnew\n" + endMark + "\n"
	for old, want := range map[string]string{
		"": generated,
		"A\n" + beginMark + "\nold\n" + endMark + "\nB\n": "A\n" + generated + "B\n",
		generated: generated,
	} {
		if got := string(splice([]byte(old), []byte("new"))); got != want {
			t.Errorf("%q became %q, want %q", old, got, want)
		}
	}
}

func TestAim(t *testing.T) {
	for _, tt := range []struct {
		aim
		want string
	}{
		{aim{limit: 0.5, figure: 0.5, known: true}, "≤ 0.5 0.500 met"},
		{aim{limit: 0.5, figure: 0.51, known: true}, "≤ 0.5 0.510 **missed**"},
		{aim{limit: 0.5, atLeast: true, figure: 0.49, known: true}, "≥ 0.5 0.490 **missed**"},
		{aim{limit: 32, unit: " MiB", figure: 12.34, known: true}, "≤ 32 MiB 12.3 MiB met"},
		{aim{limit: 0.5}, "≤ 0.5 – not measured"},
	} {
		if got := tt.bound() + " " + tt.value() + " " + tt.verdict(); got != tt.want {
			t.Errorf("%q, want %q", got, tt.want)
		}
	}
}

func TestRelayAims(t *testing.T) {
	rows, err := readRelay([]byte(`{"rounds": 1, "rows": [
		{"target": "qkdmail, encrypt", "mode": "kept", "octets": 50000, "ratio": 1.46, "messages_per_second": 4000},
		{"target": "Postfix, with its queue", "mode": "kept", "octets": 50000, "messages_per_second": 800},
		{"target": "qkdmail, encrypt, ETSI 014", "mode": "kept", "octets": 4000, "km_requests": 0.008},
		{"target": "qkdmail, encrypt, ETSI 014", "mode": "new", "octets": 4000, "km_requests": 0.009},
		{"target": "qkdmail, decrypt, ETSI 014, SQLite", "mode": "pipelined", "octets": 4000, "ratio": 0.23, "km_requests": 1}]}`))
	if err != nil {
		t.Fatal(err)
	}
	r := results{relayRows: rows}
	want := map[string]string{
		"qkdmail, encrypt, connections kept, 50 kB: messages a second, of the pass-through's":                       "1.46 **missed**",
		"qkdmail, encrypt, connections kept, 50 kB: messages a second, of Postfix's":                                "5.00 met",
		"qkdmail, decrypt, ETSI 014, SQLite, connections pipelined, 4 kB: messages a second, of the pass-through's": "0.230 **missed**",
		"encrypting relay: requests to the key manager for a message":                                               "0.009 met",
		"qkdmail, decrypt, connections kept, 4 kB: messages a second, of the pass-through's":                        "– not measured",
	}
	for _, a := range r.relayAims() {
		if w, ok := want[a.what]; ok {
			if got := a.value() + " " + a.verdict(); got != w {
				t.Errorf("%s: %q, want %q", a.what, got, w)
			}
			delete(want, a.what)
		}
	}
	if len(want) > 0 {
		t.Errorf("no such aims: %v", want)
	}
	if rows, err := readRelay([]byte(`{"rows": []}`)); err == nil {
		t.Errorf("%v of a measurement of nothing", rows)
	}
}
