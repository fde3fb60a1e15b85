package main

import (
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestMain(m *testing.M) {
	if text := os.Getenv(relayEnv); text != "" { // the program has started itself
		if err := serveRelay(context.Background(), text); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// TestQuick measures everything once, with all contenders that are installed.
func TestQuick(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: builds and runs programs; skipped in short mode")
	}
	if _, err := os.Stat("/usr/bin/time"); err != nil {
		t.Skip("SKIPPED: GNU time is not installed; scripts/bench installs it")
	}
	dir := t.TempDir()
	b := &bench{quick: true, out: filepath.Join(dir, "report.md"), json: filepath.Join(dir, "report.json")}
	if err := os.WriteFile(b.out, []byte("before\n"+beginMark+"\nold\n"+endMark+"\nafter\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := b.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	report := read(t, b.out)
	for _, want := range []string{"before\n", "\nafter\n", "these figures mean nothing", "| encrypt 25 MB: time", "not measured"} {
		if !strings.Contains(report, want) {
			t.Errorf("the report lacks %q", want)
		}
	}
	if strings.Contains(report, "\nold\n") {
		t.Error("the report still has the old figures")
	}
	rows := map[string]int{} // two sizes, two or three ways
	for _, p := range programs {
		rows[p.name] = 4
	}
	for _, h := range hops(nil) {
		rows[h.name] = 6
	}
	for name, want := range rows {
		if got := strings.Count(report, "B | "+name+" | "); strings.Contains(report, "**SKIPPED** "+name) {
			t.Logf("not measured: %s", name)
		} else if got != want {
			t.Errorf("%d rows of %s, want %d", got, name, want)
		}
	}
	var figures results
	if err := json.Unmarshal([]byte(read(t, b.json)), &figures); err != nil || len(figures.Rows) == 0 {
		t.Errorf("JSON: %d rows, %v", len(figures.Rows), err)
	}
	elements := 0
	for d := xml.NewDecoder(strings.NewReader(read(t, filepath.Join(dir, "report.svg")))); ; elements++ {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("plot: %v", err)
		}
	}
	if elements < 100 {
		t.Errorf("plot: %d elements", elements)
	}
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestRatio(t *testing.T) {
	r := new(results)
	for _, ms := range [][2]float64{{1, 2}, {30, 40}, {3, 1}} {
		for i, who := range []string{nameAES, nameAge} {
			r.add(who, opEncrypt, mega, sample{figTime: ms[i]})
		}
	}
	r.conclude()
	if got := r.find(nameAge, opEncrypt, mega).Ratio; got != 0.75 {
		t.Errorf("ratio %v, want the median of 0.5, 0.75 and 3", got)
	}
	if got := r.find(nameGPG, opEncrypt, mega).Ratio; got != 0 {
		t.Errorf("ratio %v to something that was not measured", got)
	}
	if got := median([]float64{4, 1, 3, 2}); got != 2.5 {
		t.Errorf("the median of 1 to 4 is %v", got)
	}
}

func TestAims(t *testing.T) {
	for _, tt := range []struct {
		aim
		want string
	}{
		{aim{sign: "≤", limit: 0.5, got: 0.5}, "≤ 0.5 0.500 met"},
		{aim{sign: "≤", limit: 0.5, got: 0.51}, "≤ 0.5 0.510 **missed**"},
		{aim{sign: "≥", limit: 0.5, got: 0.49}, "≥ 0.5 0.490 **missed**"},
		{aim{sign: "≥", limit: 4, got: 12.34}, "≥ 4 12.3 met"},
		{aim{sign: "≤", limit: 0.5}, "≤ 0.5 – not measured"},
	} {
		if got := tt.Bound() + " " + tt.Value() + " " + tt.Verdict(); got != tt.want {
			t.Errorf("%q, want %q", got, tt.want)
		}
	}
}

func TestParseShares(t *testing.T) {
	got := parseShares(`goos: linux
BenchmarkShare/AES-256-GCM/encrypt         	      62	  18113812 ns/op	         0.4012 of-gcm
BenchmarkShare/OTP/decrypt-2     	      62	  18113812 ns/op	         1 of-poly1305
BenchmarkOther/OTP/encrypt     	      62	  18113812 ns/op	         0.9 of-poly1305
PASS`)
	if len(got) != 2 || got["AES-256-GCM/encrypt"] != 0.4012 || got["OTP/decrypt"] != 1 {
		t.Errorf("%v", got)
	}
}

func TestSplice(t *testing.T) {
	report := beginMark + "\n\nnew\n" + endMark + "\n"
	for old, want := range map[string]string{
		"": report,
		"A\n" + beginMark + "\nold\n" + endMark + "\nB\n": "A\n" + report + "B\n",
		report: report,
	} {
		if got := string(splice([]byte(old), []byte("new"))); got != want {
			t.Errorf("%q became %q, want %q", old, got, want)
		}
	}
}
