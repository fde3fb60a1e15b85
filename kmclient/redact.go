package kmclient

import (
	"regexp"
	"slices"
	"strings"
	"sync"
)

// redacted stands in a text in the place of what could be a key.
const redacted = "[removed]"

// redact removes from a key manager's text what could be the bytes of a key:
// every run of 16 characters or more of base64, base64url or hexadecimal, also
// percent-encoded, and bytes in hexadecimal with something in between. Left are
// UUIDs, the key IDs ids, and what is made of words.
func redact(text string, ids []string) string {
	p := redactPatterns()
	text = p.pairs.ReplaceAllString(text, redacted)
	return p.run.ReplaceAllStringFunc(text, func(run string) string {
		if slices.Contains(ids, run) || p.readable.MatchString(run) || p.isWords(run) {
			return run
		}
		return redacted
	})
}

// showID returns a key ID that came in an answer, for a text: an answer with ID
// and key in each other's place must not show the key.
func showID(id string) string { return redact(oneLine(id), nil) }

type redactors struct {
	pairs    *regexp.Regexp // bytes in hexadecimal, with something between them
	run      *regexp.Regexp // what could be base64, base64url or hexadecimal
	readable *regexp.Regexp // a run that is a UUID or an ID of the mock
	short    *regexp.Regexp // a run of a word or name that is too short for a key of 16 bytes
	words    *regexp.Regexp // the words of a run
}

var redactPatterns = sync.OnceValue(func() *redactors {
	return &redactors{
		pairs:    regexp.MustCompile(`(?:(?:0x)?[0-9A-Fa-f]{2}[ :,._-]{1,2}){7,}(?:0x)?[0-9A-Fa-f]{2}|(?:\\x[0-9A-Fa-f]{2}){8,}`),
		run:      regexp.MustCompile(`[A-Za-z0-9+/_=%-]{16,}`),
		readable: regexp.MustCompile(`^(?:[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}|MOCK-KEY-\d{8,12}-\d{14})$`),
		short:    regexp.MustCompile(`^[A-Za-z][a-z_/-]{15,20}$`),
		words:    regexp.MustCompile(`[A-Z]*[a-z]+|[A-Z]+|\d+`),
	}
})

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
