package main

import (
	"bytes"
	_ "embed" // the template
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"text/template"
)

//go:embed report.tmpl
var reportTemplate string

// The report is between these lines of a document; people write the rest.
const (
	beginMark = "<!-- scripts/bench writes what follows -->"
	endMark   = "<!-- up to here -->"
)

// write writes the report, with the plot beside it, and the JSON.
func (b *bench) write() error {
	if b.json != "" {
		text, err := json.MarshalIndent(b.results, "", "  ")
		if err != nil {
			return err
		}
		if err := os.WriteFile(b.json, append(text, '\n'), 0o644); err != nil {
			return err
		}
	}
	svg := strings.TrimSuffix(b.out, filepath.Ext(b.out)) + ".svg"
	report, err := b.report(filepath.Base(svg))
	if err != nil {
		return err
	}
	if b.out == "" {
		_, err := os.Stdout.Write(report)
		return err
	}
	old, err := os.ReadFile(b.out)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return errors.Join(os.WriteFile(svg, b.plot(), 0o644), os.WriteFile(b.out, splice(old, report), 0o644))
}

// splice replaces the text between the marks, or everything if there are none.
func splice(old, report []byte) []byte {
	report = fmt.Appendf(nil, "%s\n\n%s\n%s\n", beginMark, report, endMark)
	before, rest, ok := bytes.Cut(old, []byte(beginMark))
	_, after, ok2 := bytes.Cut(rest, []byte(endMark+"\n"))
	if !ok || !ok2 {
		return report
	}
	return bytes.Join([][]byte{before, report, after}, nil)
}

// report returns what was measured, in Markdown.
func (b *bench) report(svg string) ([]byte, error) {
	t, err := template.New("report").Option("missingkey=zero").Funcs(template.FuncMap{
		"figure": figure, "size": sizeName,
		"thousandth": func(x float64) float64 { return x / 1000 },
	}).Parse(reportTemplate)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	err = t.Execute(&out, map[string]any{
		"Results": &b.results, "Quick": b.quick, "Aims": b.aims(), "Plot": svg, "Rounds": b.rounds, "Sessions": sessions,
		"Encrypt": b.in(opEncrypt), "Decrypt": b.in(opDecrypt),
		"Kept": b.in(wayKept), "New": b.in(wayNew), "Pipelined": b.in(wayPipelined),
	})
	return append(bytes.TrimSpace(out.Bytes()), '\n'), err
}

// figure formats a number with three digits, or with all those before the
// point; 0 stands for an unknown one.
func figure(x float64) string {
	if x == 0 {
		return "–"
	}
	decimals := 0
	for _, limit := range []float64{100, 10, 1} {
		if x < limit {
			decimals++
		}
	}
	return strconv.FormatFloat(x, 'f', decimals, 64)
}
