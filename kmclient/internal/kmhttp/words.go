package kmhttp

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/qkdmail/qkdmail/kmclient/internal/redact"
)

const (
	maxDetails = 8    // shown
	maxWords   = 4096 // bytes of all words, which are judged but not shown
)

// kmWords are the words of a refusal. message and details go into logs, so they hold
// nothing that could be a key; see package redact.
type kmWords struct {
	message string
	details []string
	all     string // all texts of the answer, as sentences
}

// readWords reads the words of an answer: JSON of any form, or plain text. ids are
// the key IDs that were asked for, which may be shown.
func readWords(body []byte, ids []string) kmWords {
	root, isJSON := parseWords(body)
	if !isJSON {
		if isHTML(body) || !isPlainText(body) {
			return kmWords{}
		}
		text := strings.ReplaceAll(string(body[:min(len(body), maxWords)]), `\/`, "/")
		return kmWords{message: redact.Words(text, ids), all: text}
	}
	w := kmWords{message: redact.Words(messageOf(root), ids)}
	if members, ok := root.(map[string]any); ok {
		if list, ok := members["details"].([]any); ok {
			w.details = detailsOf(list, ids)
		}
	}
	var all []string
	size := 0
	eachText(root, func(text string) {
		if size += len(text) + 2; size <= maxWords {
			all = append(all, text)
		}
	})
	w.all = strings.Join(all, ". ")
	return w
}

// parseWords parses JSON and drops members that hold keys.
func parseWords(body []byte) (root any, ok bool) {
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	if d.Decode(&root) != nil || d.More() {
		return nil, false
	}
	return withoutKeys(root), true
}

// withoutKeys returns a JSON value without members "key" and "keys", in any case,
// and without arrays that may be the bytes of a key.
func withoutKeys(value any) any {
	switch v := value.(type) {
	case map[string]any:
		for name, member := range v {
			if strings.EqualFold(name, "key") || strings.EqualFold(name, "keys") {
				delete(v, name)
				continue
			}
			v[name] = withoutKeys(member)
		}
	case []any:
		if numbersIn(v) > redact.FewBytes {
			return nil
		}
		for i := range v {
			v[i] = withoutKeys(v[i])
		}
	}
	return value
}

// numbersIn counts the numbers in a JSON array and in the arrays in it.
func numbersIn(v []any) (n int) {
	for _, e := range v {
		switch e := e.(type) {
		case json.Number:
			n++
		case []any:
			n += numbersIn(e)
		}
	}
	return n
}

// messageOf returns the text that is most likely to say what is wrong.
func messageOf(value any) string {
	switch v := value.(type) {
	case string:
		return v
	case []any:
		for _, e := range v {
			if text := messageOf(e); text != "" {
				return text
			}
		}
	case map[string]any:
		for _, name := range []string{"message", "error", "detail", "error_description", "description", "reason", "msg", "title"} {
			if text := messageOf(v[name]); text != "" {
				return text
			}
		}
	}
	return ""
}

// detailsOf returns the "details" of ETSI GS QKD 014 §6.5, each as one line of JSON,
// since they may be any objects.
func detailsOf(list []any, ids []string) (details []string) {
	for _, detail := range list[:min(len(list), maxDetails)] {
		var line bytes.Buffer
		e := json.NewEncoder(&line)
		e.SetEscapeHTML(false)
		if detail == nil || e.Encode(detail) != nil {
			continue
		}
		if text := redact.Words(line.String(), ids); text != "" {
			details = append(details, text)
		}
	}
	return details
}

// eachText calls use with every string in a JSON value. It visits an object's members
// in the order of their names.
func eachText(value any, use func(string)) {
	switch v := value.(type) {
	case string:
		use(v)
	case []any:
		for _, e := range v {
			eachText(e, use)
		}
	case map[string]any:
		for _, name := range slices.Sorted(maps.Keys(v)) {
			eachText(v[name], use)
		}
	}
}

// isHTML reports whether a body is HTML or XML: no JSON begins with "<".
func isHTML(body []byte) bool {
	return bytes.HasPrefix(bytes.TrimSpace(body), []byte("<"))
}

// isPlainText reports whether a body is text for people, and not broken JSON or raw
// bytes.
func isPlainText(body []byte) bool {
	body = bytes.TrimSpace(body)
	return len(body) > 0 && utf8.Valid(body) && !bytes.ContainsAny(body[:1], `{["`) &&
		!bytes.ContainsFunc(body, func(r rune) bool { return !unicode.IsPrint(r) && !unicode.IsSpace(r) })
}
