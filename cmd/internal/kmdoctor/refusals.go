package kmdoctor

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/google/uuid"
)

// The standard's words for what is wrong.
const (
	wordsMultiple  = "size shall be a multiple of 8"
	wordsMandatory = "not all extension_mandatory parameters are supported"
	wordsUnmet     = "not all extension_mandatory request options could be met"
	wordsOptional  = "not all extension_optional request options handled"
	wordsNotFound  = "one or more keys specified are not found on KME"
)

// A refusal is a request for keys that should be refused.
type refusal struct {
	id, rule string
	needs    string // a check that says what to ask for; may be empty
	ask      func(*doctor) request
	codes    []int                                // 400 alone if nil
	words    []string                             // one of them; none: the standard has no words
	served   func(q request, keys []*key) verdict // judges an answer that is no refusal; nil: it fails
}

// post is a request for at most that many keys.
func post(keys int, format string, args ...any) request {
	return request{method: http.MethodPost, body: fmt.Sprintf(format, args...), keys: keys}
}

func refusals() []refusal {
	return []refusal{
		{id: "refuse-multiple", rule: general + "a size that is not a multiple of 8 is a 400 that says so, or rounded up", ask: (*doctor).noMultiple,
			words: []string{wordsMultiple}, served: roundedUp},
		{id: "refuse-number", rule: clause + "§6.1: a number over max_key_per_request is a 400", needs: "status-counts", ask: (*doctor).tooMany},
		{id: "refuse-size", rule: clause + "§6.1: a size over max_key_size is a 400", needs: "status-sizes", ask: (*doctor).tooLarge},
		{id: "refuse-mandatory", rule: clause + "§6.2: an unknown extension_mandatory is a 400 that says so",
			ask:   func(*doctor) request { return post(1, `{"extension_mandatory":%s}`, extension) },
			words: []string{wordsMandatory, wordsUnmet}},
		{id: "refuse-json", rule: general + "a body that is not JSON is a 400",
			ask: func(*doctor) request { return post(1, `{"number":1`) }},
		{id: "refuse-sae", rule: general + "keys for an unknown slave SAE are a 400 or 401",
			ask: func(*doctor) request {
				q := post(1, `{}`)
				q.sae = "unknown-" + uuid.NewString()
				return q
			},
			codes: []int{http.StatusBadRequest, http.StatusUnauthorized}},
	}
}

// noMultiple asks for a key one bit longer than the default.
func (d *doctor) noMultiple() request {
	size := assumedSize
	if _, usual, _, sane := d.status.sizes(); sane {
		size = usual
	} else if len(d.first) > 0 && d.first[0].bits() > 0 {
		size = d.first[0].bits()
	}
	q := post(1, `{"size":%d}`, size+1)
	q.bits = size + 1
	return q
}

// roundedUp judges the answer to a size that is not a multiple of 8. The standard
// has words for refusing it, but does not forbid a key that is a few bits longer.
func roundedUp(q request, keys []*key) verdict {
	if len(keys) == 1 && keys[0].bits() > q.bits && keys[0].bits() < 2*q.bits {
		return warn("%s: %s: it is rounded up, for which the standard has the error %s", q, sizesOf(keys), quote(wordsMultiple))
	}
	return verdict{}
}

// tooMany asks for one key more than the limit, of the smallest size.
func (d *doctor) tooMany() request {
	number := d.status.number["max_key_per_request"] + 1
	if least, _, _, sane := d.status.sizes(); sane {
		q := post(number, `{"number":%d,"size":%d}`, number, least)
		q.bits = least
		return q
	}
	return post(number, `{"number":%d}`, number)
}

func (d *doctor) tooLarge() request {
	size := d.status.number["max_key_size"] + 8
	q := post(1, `{"size":%d}`, size)
	q.bits = size
	return q
}

func refusalSteps() []step {
	var list []step
	for _, r := range refusals() {
		s := step{id: r.id, rule: r.rule, oneOf: served(), run: func(d *doctor, ctx context.Context) verdict { return d.refuse(ctx, r) }}
		if r.needs != "" {
			s.needs = []string{r.needs}
		}
		list = append(list, s)
	}
	return list
}

// refuse makes a request that should be refused.
func (d *doctor) refuse(ctx context.Context, r refusal) verdict {
	q := r.ask(d)
	if v := d.tooDear(q); v.result != "" {
		return v
	}
	q.sae, q.what = cmp.Or(q.sae, d.o.Peer), "enc_keys"
	a := d.ask(ctx, d.own, q)
	defer a.wipe()
	if a.good() {
		keys, _ := d.countKeys(a, q)
		if r.served != nil {
			if v := r.served(q, keys); v.result != "" {
				return v
			}
		}
		return fail("%s: not refused: HTTP %d with %s", q, a.status, sizesOf(keys))
	}
	if why := exhausted(a); why != "" {
		return skip("%s: %s: %s", q, why, a)
	}
	return judge(q, a, r.codes, r.words)
}

// judge judges whether an answer is the right refusal.
func judge(q request, a answer, codes []int, words []string) verdict {
	if codes == nil {
		codes = []int{http.StatusBadRequest}
	}
	detail := fmt.Sprintf("%s: %s", q, a)
	if a.err != nil {
		return fail("%s", detail)
	}
	if !slices.Contains(codes, a.status) {
		return fail("%s instead of %d%s", detail, codes[0], hint(a.status))
	}
	if len(words) == 0 {
		return pass("%s", detail)
	}
	said, ok := message(a.body)
	switch {
	case !ok:
		return fail("%s, without a message in JSON that says %s", detail, quote(words[0]))
	case !slices.ContainsFunc(words, func(w string) bool { return strings.Contains(strings.ToLower(said), strings.ToLower(w)) }):
		return fail("%s instead of %s", detail, quote(words[0]))
	}
	return pass("%s", detail)
}

// hint says what clients make of a status that the standard does not have.
func hint(status int) string {
	switch {
	case status == http.StatusNotFound:
		return ": 404 is not in the standard; clients take it for a wrong URL"
	case status >= 500:
		return ": clients take it for a broken KME, and may ask again or elsewhere"
	case status == http.StatusForbidden:
		return ": the standard's code for a refused caller is 401"
	}
	return ""
}

// message returns the message of an error body.
func message(body []byte) (string, bool) {
	members, ok := asObject(body)
	if !ok {
		return "", false
	}
	return asString(members["message"])
}

// errorBodyFault says what is wrong with the body of an answer other than 2xx.
func errorBodyFault(a answer) string {
	members, isJSON := asObject(a.body)
	said, isText := message(a.body)
	switch {
	case a.status == http.StatusUnauthorized: // no body is prescribed, so any is fine
		return ""
	case isHTML(a.body):
		return fmt.Sprintf("HTTP %d has an HTML page", a.status)
	case !isJSON:
		return fmt.Sprintf("HTTP %d has no JSON object", a.status)
	case !isText || said == "":
		return fmt.Sprintf("HTTP %d has no message that is a string", a.status)
	}
	var details []map[string]json.RawMessage
	if raw, there := members["details"]; there && json.Unmarshal(raw, &details) != nil {
		return fmt.Sprintf("HTTP %d has details that are not an array of objects", a.status)
	}
	return ""
}

// contentTypeFault says what is wrong with the content type of a good answer.
func contentTypeFault(kind string) string {
	media, _, _ := strings.Cut(strings.ToLower(kind), ";")
	if strings.TrimSpace(media) != "application/json" {
		return "content type " + quote(kind)
	}
	return ""
}

// A tally counts answers, and keeps the first fault that it finds.
type tally struct {
	seen, wrong int
	fault       string
}

func (t *tally) note(fault string) {
	t.seen++
	if fault != "" {
		t.wrong++
		if t.fault == "" {
			t.fault = fault
		}
	}
}

func (t *tally) verdict(what string) verdict {
	switch {
	case t.seen == 0:
		return skip("no %s were seen", what)
	case t.wrong > 0:
		return fail("%d of %d %s: %s", t.wrong, t.seen, what, t.fault)
	}
	return pass("%d %s", t.seen, what)
}
