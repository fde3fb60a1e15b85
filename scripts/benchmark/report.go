package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
)

// The generated part of the report stands between these lines. What is around
// them is written by hand.
const (
	beginMark = "<!-- scripts/bench writes what follows -->"
	endMark   = "<!-- up to here -->"
)

// write puts the figures into the report, in the place of the older ones.
func (b *bench) write(path, svg string) error {
	old, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.WriteFile(path, splice(old, b.report(svg)), 0o644)
}

// splice replaces what is between the marks; without marks, all.
func splice(old, generated []byte) []byte {
	generated = fmt.Appendf(nil, "%s\n\n%s\n%s\n", beginMark, generated, endMark)
	before, rest, ok := bytes.Cut(old, []byte(beginMark))
	_, after, ok2 := bytes.Cut(rest, []byte(endMark+"\n"))
	if !ok || !ok2 {
		return generated
	}
	return bytes.Join([][]byte{before, generated, after}, nil)
}

// report is the generated part, in Markdown.
func (b *bench) report(svg string) []byte {
	var out bytes.Buffer
	p := func(format string, args ...any) { fmt.Fprintf(&out, format, args...) }
	p("Measured on %s", b.measured.Format("2 January 2006"))
	if b.quick {
		p(" with `-quick`: **these figures say nothing**")
	}
	p(".\n\n| | |\n|---|---|\n")
	for _, m := range b.machine {
		p("| %s | %s |\n", m[0], m[1])
	}
	for _, s := range b.skipped {
		p("\n**SKIPPED** %s\n", s)
	}
	p("\n## What is aimed at\n\n| | aim | measured | |\n|---|---:|---:|---|\n")
	for _, a := range b.aims(b.stream) {
		p("| %s | %s | %s | %s |\n", a.what, a.bound(), a.value(), a.verdict())
	}
	for _, op := range operations {
		p("\n## %s\n\n", map[string]string{opEncrypt: "Encrypt", opDecrypt: "Decrypt"}[op])
		b.table(p, op)
	}
	p("\n![Time and memory against the size of the message](%s)\n", svg)
	if b.relayTables != "" {
		p("\n## The relay\n\n%s\n", b.relayTables)
	}
	return out.Bytes()
}

// table has a row for each contender and size.
func (b *bench) table(p func(string, ...any), op string) {
	p("| message | | time, ms | qkdmail AES : this | CPU, ms | peak memory, MiB |\n|---|---|---:|---:|---:|---:|\n")
	for _, size := range b.sizes {
		for _, name := range b.names {
			s, ok := b.cells[cell{name, op, size}]
			if !ok {
				continue
			}
			ratio, memory := "–", "–"
			if r, ok := b.ratio(nameAES, name, op, size); ok && name != nameAES {
				ratio = digits(r)
			}
			if s.peak != 0 {
				memory = fmt.Sprintf("%.1f", mebi(s.peak))
			}
			p("| %s | %s | %s | %s | %s | %s |\n", sizeName(size), name, digits(s.wall().Seconds()*1000), ratio, digits(s.cpu().Seconds()*1000), memory)
		}
	}
}

func (a aim) bound() string {
	if a.atLeast {
		return "≥ " + number(a.limit) + a.unit
	}
	return "≤ " + number(a.limit) + a.unit
}

func (a aim) value() string {
	if !a.known {
		return "–"
	}
	return digits(a.figure) + a.unit
}

func (a aim) verdict() string {
	switch {
	case !a.known:
		return "not measured"
	case a.met():
		return "met"
	}
	return "**missed**"
}

func number(x float64) string { return strconv.FormatFloat(x, 'f', -1, 64) }

// digits is a figure with three digits, or with all before the point.
func digits(x float64) string {
	decimals := 0
	for _, limit := range []float64{100, 10, 1} {
		if x < limit {
			decimals++
		}
	}
	return strconv.FormatFloat(x, 'f', decimals, 64)
}
