// Package redact makes what a key manager says fit for logs: without what could
// be a key, on one line, and short.
package redact

import (
	"regexp"
	"slices"
	"strings"
	"sync"
	"unicode"
)

// MaxLength is how many characters of a message, or of one detail, are kept.
const MaxLength = 200

// Words returns a key manager's text for a log.
func Words(text string, ids []string) string {
	odd := func(r rune) bool { return r == unicode.ReplacementChar || unicode.IsControl(r) && !unicode.IsSpace(r) }
	if len(strings.FieldsFunc(text, odd)) > FewBytes { // bytes as they are
		return redacted
	}
	return shorten(redact(oneLine(text), ids))
}

// Line returns a text for a log, or for a terminal.
func Line(s string) string { return shorten(oneLine(s)) }

// oneLine returns a text with single blanks and printable characters only.
func oneLine(s string) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r): // a line break is a blank
			return ' '
		case unicode.IsPrint(r) && r != unicode.ReplacementChar:
			return r
		}
		return -1
	}, s)
	return strings.Join(strings.Fields(s), " ")
}

func shorten(s string) string {
	if r := []rune(s); len(r) > MaxLength {
		return string(r[:MaxLength-1]) + "…"
	}
	return s
}

// redacted stands in a text in the place of what could be a key.
const redacted = "[removed]"

// redact removes from a key manager's text what could be the bytes of a key:
// every run of 16 characters or more of base64, base64url or hexadecimal, also
// percent-encoded, or of several shorter ones; bytes as numbers, decimal or
// hexadecimal, with something in between; and all that follows escaped bytes, among
// which others may stand as they are. Left are UUIDs, the key IDs ids, and what is
// made of words.
func redact(text string, ids []string) string {
	p := redactPatterns()
	if len(p.escape.FindAllStringIndex(text, FewBytes)) == FewBytes {
		text = p.escaped.ReplaceAllString(text, redacted)
	}
	text = p.numbers.ReplaceAllString(text, redacted)
	text = p.removePieces(text, ids)
	return p.run.ReplaceAllStringFunc(text, func(run string) string {
		if slices.Contains(ids, run) || p.readable.MatchString(run) || p.isWords(run) {
			return run
		}
		return redacted
	})
}

// ID returns a key ID that came in an answer, for a text: an answer with ID
// and key in each other's place must not show the key.
func ID(id string) string { return redact(oneLine(id), nil) }

// FewBytes is how many bytes of a key may be seen.
const FewBytes = 4

type redactors struct {
	escape   *regexp.Regexp // an escaped byte
	escaped  *regexp.Regexp // from the first of them on, with what stands before it without a blank
	numbers  *regexp.Regexp // bytes as numbers, with something between them
	piece    *regexp.Regexp // what could be base64 or hexadecimal, of any length
	plain    *regexp.Regexp // one that is made of words and numbers
	run      *regexp.Regexp // what could be base64, base64url or hexadecimal
	readable *regexp.Regexp // a run that is a UUID or an ID of the mock
	short    *regexp.Regexp // a run of a word or name that is too short for a key of 16 bytes
	words    *regexp.Regexp // the words of a run
}

var redactPatterns = sync.OnceValue(func() *redactors {
	return &redactors{
		escape:   regexp.MustCompile(`\\x[0-9A-Fa-f]{2}`),
		escaped:  regexp.MustCompile(`(?s)\S*\\x[0-9A-Fa-f]{2}.*`),
		numbers:  regexp.MustCompile(`(?:\b(?:0x)?[0-9A-Fa-f]{1,3}\b[^0-9A-Za-z]{1,4}){7,}(?:0x)?[0-9A-Fa-f]{1,3}\b`),
		piece:    regexp.MustCompile(`[A-Za-z0-9+/_=-]+`),
		plain:    regexp.MustCompile(`^[_/-]*(?:(?:[A-Za-z][a-z]*|[A-Z]+|[0-9]+)(?:[_/-]+|$))+$`),
		run:      regexp.MustCompile(`[A-Za-z0-9+/_=%-]{16,}`),
		readable: regexp.MustCompile(`^(?:[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}|MOCK-KEY-\d{8,12}-\d{14})$`),
		short:    regexp.MustCompile(`^[A-Za-z][a-z_/-]{15,20}$`),
		words:    regexp.MustCompile(`[A-Z]*[a-z]+|[A-Z]+|\d+`),
	}
})

// removePieces removes what could be a key in pieces: such as are no words, one after
// the other, of 16 characters or more together.
func (p *redactors) removePieces(text string, ids []string) string {
	const gap = 4 // characters between two pieces
	var out strings.Builder
	copied := 0
	var from, to, pieces, size int // of the pieces so far, with numbers between them
	var end int                    // of the last of either
	flush := func() {
		if pieces > 1 && size >= 16 {
			out.WriteString(text[copied:from] + redacted)
			copied = to
		}
		pieces, size = 0, 0
	}
	for _, at := range p.piece.FindAllStringIndex(text, -1) {
		piece := text[at[0]:at[1]]
		if at[0]-end > gap {
			flush()
		}
		end = at[1]
		if strings.Trim(piece, "0123456789") == "" {
			continue
		}
		if p.plain.MatchString(piece) || p.readable.MatchString(piece) || slices.Contains(ids, piece) {
			flush()
			continue
		}
		if pieces == 0 {
			from = at[0]
		}
		to, pieces, size = at[1], pieces+1, size+len(piece)
	}
	flush()
	return out.String() + text[copied:]
}

// isWords reports whether a run is made of words, as an error code or the name
// of a member is: so few that no key comes out so.
func (p *redactors) isWords(run string) bool {
	if p.short.MatchString(run) {
		return true
	}
	for _, word := range p.words.FindAllString(strings.ReplaceAll(run, "SAE_ID", "sae"), -1) {
		if !slices.Contains(vocabulary(), strings.ToLower(word)) {
			return false
		}
	}
	return true
}

// vocabulary is what names and codes in the answers of key managers are made
// of.
var vocabulary = sync.OnceValue(func() []string {
	return strings.Fields(`a additional agreement all already and api are at available bad be buffer cannot code content could count
		data database dec default denied deleted detail details empty enc entity error exception exceeded exhausted expired
		extension extensions failed failure for found generated handled http id ids in insufficient internal invalid is json
		key keys kme length limit link management mandatory manager master material max maximum message met min minimum missing
		more multiple no not number of operation optional or out parameter parameters per pool present qkd quantum range
		request requested required resource response sae saes server service shall shortage size slave source stock storage
		store stored supported target temporarily time timeout to too type unauthorized unavailable unknown unsupported v 1 2
		value was while with`)
})
