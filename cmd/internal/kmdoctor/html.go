package kmdoctor

import (
	_ "embed" // the template
	"html/template"
	"io"
	"strings"
)

//go:embed report.html
var page string

// WriteHTML prints a report as one self-contained HTML page, to send to a vendor
// or to keep.
func WriteHTML(w io.Writer, r *Report) error {
	rule := func(c Check) string { return strings.TrimPrefix(c.Rule, general) }
	t, err := template.New("report").Funcs(template.FuncMap{"rule": rule}).Parse(page)
	if err != nil {
		return err
	}
	return t.Execute(w, r)
}
