package kmdoctor

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"unicode"
)

// A Result is the outcome of a check.
type Result string

// The results.
const (
	Pass Result = "pass" // the rule is kept
	Fail Result = "fail" // the rule is broken
	Warn Result = "warn" // not what the rule says, but not forbidden by it; or unclear
	Skip Result = "skip" // not checked
)

// A Check is one rule, and whether the KME keeps it.
type Check struct {
	ID     string `json:"id"`     // short and stable, such as "enc-default"
	Rule   string `json:"rule"`   // its source, a colon and the rule
	Result Result `json:"result"` // pass, fail, warn or skip
	Detail string `json:"detail"` // one line: the request and its answer, or why none was made
	Keys   int    `json:"keys"`   // that the KME gave out for this check
}

// A Report is the result of a run.
type Report struct {
	KME  string `json:"kme"`  // URL
	SAE  string `json:"sae"`  // who asked: the SAE ID that was given, or the one that the KME reports
	Peer string `json:"peer"` // whose keys were asked for

	KeysUsed int     `json:"keys_used"` // that enc_keys gave out
	KeysLost int     `json:"keys_lost"` // asked for in requests without a whole answer, which may have used up keys
	Checks   []Check `json:"checks"`    // in the order in which they were made
	Times    []Time  `json:"times"`     // of good answers, by request
}

// Check returns the check with this ID, or the zero Check.
func (r *Report) Check(id string) Check {
	for _, c := range r.Checks {
		if c.ID == id {
			return c
		}
	}
	return Check{}
}

// Count returns how many checks had that result.
func (r *Report) Count(result Result) int {
	n := 0
	for _, c := range r.Checks {
		if c.Result == result {
			n++
		}
	}
	return n
}

// Checked returns how many rules were checked, and how many of them are kept,
// with or without a warning.
func (r *Report) Checked() (kept, checked int) {
	kept = r.Count(Pass) + r.Count(Warn)
	return kept, kept + r.Count(Fail)
}

// Conforms reports whether rules were checked and none is broken. It says
// nothing about rules that could not be checked.
func (r *Report) Conforms() bool {
	kept, checked := r.Checked()
	return checked > 0 && kept == checked
}

// Summary returns one line, which begins with "N of M rules kept, K keys used".
func (r *Report) Summary() string {
	kept, checked := r.Checked()
	s := fmt.Sprintf("%d of %d rules kept, %d keys used", kept, checked, r.KeysUsed)
	if r.KeysLost > 0 {
		s += fmt.Sprintf(", up to %d lost", r.KeysLost)
	}
	if n := r.Count(Warn); n > 0 {
		s += fmt.Sprintf("; %d with a warning", n)
	}
	if n := r.Count(Skip); n > 0 {
		s += fmt.Sprintf("; %d not checked", n)
	}
	return s
}

// WriteTable prints a report: a line for each check with its result, the rule
// and the detail, and the summary. Nothing in it can control a terminal.
func WriteTable(w io.Writer, r *Report) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	if _, err := fmt.Fprintf(t, "RESULT\tRULE OF %s\tDETAIL\n", standard); err != nil {
		return err
	}
	for _, c := range r.Checks {
		rule := strings.TrimPrefix(strings.TrimPrefix(c.Rule, standard+": "), clause)
		if _, err := fmt.Fprintf(t, "%s\t%s\t%s\n", printable(string(c.Result)), printable(rule), printable(c.Detail)); err != nil {
			return err
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, time := range r.Times {
		if _, err := fmt.Fprintf(w, "\n%s", time); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(w, "\n%s\n", r.Summary())
	return err
}

// How much of a text is shown, in characters.
const (
	maxLine = 300
	maxWord = 100
)

// printable makes one line of a text, without anything that could control a
// terminal.
func printable(s string) string { return shorten(s, maxLine) }

// quote quotes what a KME says.
func quote(s string) string { return `"` + strings.ReplaceAll(shorten(s, maxWord), `"`, "'") + `"` }

func shorten(s string, most int) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case unicode.IsPrint(r) && r != unicode.ReplacementChar:
			return r
		}
		return -1
	}, s)
	s = strings.Join(strings.Fields(s), " ")
	if r := []rune(s); len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return s
}
