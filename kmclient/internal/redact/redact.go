// Package redact makes key managers' texts fit for logs: on one line, short, and
// without anything that could be a key.
package redact

import (
	"regexp"
	"slices"
	"strings"
	"sync"
	"unicode"
)

// MaxLength is the length in characters to which a text is cut.
const MaxLength = 200

// Words returns a key manager's text for a log. ids are key IDs that may be shown.
func Words(text string, ids []string) string {
	odd := func(r rune) bool { return r == unicode.ReplacementChar || unicode.IsControl(r) && !unicode.IsSpace(r) }
	if len(strings.FieldsFunc(text, odd)) > FewBytes { // raw bytes
		return redacted
	}
	return shorten(redact(oneLine(text), ids))
}

// Line returns a text on one line, shortened. It removes nothing: the text must hold no
// key.
func Line(s string) string { return shorten(oneLine(s)) }

// oneLine returns a text with single spaces and printable characters only.
func oneLine(s string) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
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

// redacted replaces what could be a key.
const redacted = "[removed]"

// redact removes from a text what could be the bytes of a key:
//
//   - runs of 16 or more characters of base64, base64url or hexadecimal, also
//     percent-encoded, and several shorter ones in a row;
//   - bytes as decimal or hexadecimal numbers with separators;
//   - everything after escaped bytes, as more bytes may follow unescaped.
//
// It keeps UUIDs, the key IDs in ids, and anything made of words.
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

// ID returns a key ID from an answer for a log. An answer may have ID and key swapped,
// and the key must not be shown then.
func ID(id string) string { return redact(oneLine(id), nil) }

// FewBytes is how many bytes of a key may be shown.
const FewBytes = 4

type redactors struct {
	escape   *regexp.Regexp // an escaped byte
	escaped  *regexp.Regexp // everything from the word with the first escaped byte
	numbers  *regexp.Regexp // bytes as numbers, with separators
	piece    *regexp.Regexp // base64 or hexadecimal of any length
	plain    *regexp.Regexp // a piece that is made of words and numbers
	run      *regexp.Regexp // base64, base64url or hexadecimal, as long as a key
	readable *regexp.Regexp // a run that is a UUID or an ID of the mock
	short    *regexp.Regexp // a run of one word or name, too short for a key of 16 bytes
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

// removePieces removes what could be a key in pieces: several pieces in a row that are
// not words and have 16 or more characters together.
func (p *redactors) removePieces(text string, ids []string) string {
	const gap = 4 // most characters between two pieces
	var out strings.Builder
	copied := 0
	var from, to, pieces, size int // of the pieces so far; numbers may be between them
	var end int                    // of the last piece or number
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

// isWords reports whether a run is made of words, like an error code or the name of a
// member. No key looks like that by chance, since the vocabulary is small.
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

// vocabulary are the words of names and codes in the answers of key managers.
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
