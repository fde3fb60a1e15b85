package kmdoctor

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
)

// A status is what a KME says about itself. Members of the wrong type are left
// out.
type status struct {
	raw    map[string]json.RawMessage
	text   map[string]string
	number map[string]int
}

// The fields that a status must have.
func textFields() []string {
	return []string{"source_KME_ID", "target_KME_ID", "master_SAE_ID", "slave_SAE_ID"}
}

func numberFields() []string {
	return []string{"key_size", "stored_key_count", "max_key_count", "max_key_per_request",
		"max_key_size", "min_key_size", "max_SAE_ID_count"}
}

func newStatus(raw map[string]json.RawMessage) status {
	s := status{raw: raw, text: map[string]string{}, number: map[string]int{}}
	for _, name := range textFields() {
		if text, ok := asString(raw[name]); ok {
			s.text[name] = text
		}
	}
	for _, name := range numberFields() {
		var n *int
		if json.Unmarshal(raw[name], &n) == nil && n != nil {
			s.number[name] = *n
		}
	}
	return s
}

// asString returns raw as a string.
func asString(raw json.RawMessage) (string, bool) {
	var text *string
	if json.Unmarshal(raw, &text) != nil || text == nil {
		return "", false
	}
	return *text, true
}

// readStatus asks a KME for its status with the given SAE.
func (d *doctor) readStatus(ctx context.Context, at *site, sae string) (status, verdict) {
	a := d.ask(ctx, at, request{method: http.MethodGet, sae: sae, what: "status"})
	defer a.wipe()
	if a.err == nil {
		d.answered = d.answered || at == d.own && !(a.good() && isHTML(a.body))
		d.peerThere = d.peerThere || at == d.peer
	}
	asked := "GET status: "
	if !a.good() {
		v := fail("%s%s", asked, a)
		switch {
		case a.err != nil && isAlert(a.err):
			v.detail += ": does it take the client certificate?"
		case a.status == http.StatusUnauthorized:
			v.detail += ": is it the certificate of an SAE that this KME serves, and may have keys with the peer?"
		case a.status == http.StatusNotFound:
			v.detail += ": is the URL that of a KME?"
		}
		return status{}, v
	}
	raw, ok := asObject(a.body)
	switch {
	case isHTML(a.body):
		return status{}, fail("%sHTTP %d with an HTML page: is this a KME?", asked, a.status)
	case !ok:
		return status{}, fail("%sHTTP %d, but no JSON object in UTF-8", asked, a.status)
	case a.status != http.StatusOK:
		return status{}, fail("%sHTTP %d instead of 200", asked, a.status)
	}
	return newStatus(raw), pass("%sHTTP 200", asked)
}

func (d *doctor) statusAnswer(ctx context.Context) (v verdict) {
	if d.hand.id != nil {
		return skip("needs tls-kme-id, which failed")
	}
	d.status, v = d.readStatus(ctx, d.own, d.o.Peer)
	return v
}

func (d *doctor) statusFields(context.Context) verdict {
	var wrong []string
	check := func(name, want string, right bool) {
		switch raw, there := d.status.raw[name]; {
		case !there:
			wrong = append(wrong, name+" is missing")
		case !right:
			wrong = append(wrong, fmt.Sprintf("%s is %s and should be %s", name, kindOf(raw), want))
		}
	}
	for _, name := range textFields() {
		_, right := d.status.text[name]
		check(name, "a string", right)
	}
	for _, name := range numberFields() {
		_, right := d.status.number[name]
		check(name, "an integer", right)
	}
	if raw, there := d.status.raw["status_extension"]; there {
		_, right := asObject(raw)
		check("status_extension", "an object", right)
	}
	if wrong != nil {
		return fail("%s: clients that follow the standard may refuse it", strings.Join(wrong, "; "))
	}
	return pass("all %d fields", len(textFields())+len(numberFields()))
}

// kindOf names the type of a JSON value.
func kindOf(raw json.RawMessage) string {
	switch raw[0] {
	case '"':
		return "a string"
	case '{':
		return "an object"
	case '[':
		return "an array"
	case 't', 'f':
		return "a boolean"
	case 'n':
		return "null"
	}
	return "a number"
}

// sizes returns the sizes of keys in bits, and whether they make sense.
func (s status) sizes() (least, usual, most int, sane bool) {
	least, usual, most = s.number["min_key_size"], s.number["key_size"], s.number["max_key_size"]
	return least, usual, most, 0 < least && least <= usual && usual <= most && least%8 == 0 && usual%8 == 0 && most%8 == 0
}

func (d *doctor) statusSizes(context.Context) verdict {
	least, usual, most, sane := d.status.sizes()
	detail := fmt.Sprintf("min_key_size %d, key_size %d, max_key_size %d", least, usual, most)
	if !sane {
		return fail("%s", detail)
	}
	return pass("%s", detail)
}

func (d *doctor) statusCounts(context.Context) verdict {
	n := d.status.number
	detail := fmt.Sprintf("max_key_per_request %d, stored_key_count %d, max_key_count %d, max_SAE_ID_count %d",
		n["max_key_per_request"], n["stored_key_count"], n["max_key_count"], n["max_SAE_ID_count"])
	if n["max_key_per_request"] < 1 || n["stored_key_count"] < 0 || n["max_key_count"] < 0 || n["max_SAE_ID_count"] < 0 {
		return fail("%s", detail)
	}
	return pass("%s", detail)
}

func (d *doctor) statusSAE(context.Context) verdict {
	master, slave := d.status.text["master_SAE_ID"], d.status.text["slave_SAE_ID"]
	detail := fmt.Sprintf("master %s, slave %s", quote(master), quote(slave))
	switch {
	case master == "":
		return fail("%s: clients can't tell whether the KME takes them for the right SAE", detail)
	case d.o.SAE != "" && master != d.o.SAE:
		return fail("%s; the caller is %s: is it the right certificate?", detail, quote(d.self()))
	case slave != d.o.Peer:
		return fail("%s; asked about %s", detail, quote(d.o.Peer))
	}
	return pass("%s", detail)
}

// peerStatus compares the status with that of the other site.
func (d *doctor) peerStatus(ctx context.Context) verdict {
	theirs, v := d.readStatus(ctx, d.peer, d.self())
	if v.result != Pass {
		return v
	}
	ours := d.status.text
	switch got := theirs.text["master_SAE_ID"]; got {
	case d.o.Peer:
	case "":
		return warn("its KME does not say which SAE it takes the peer to be")
	default:
		return fail("its KME takes the peer for %s, not %s: is it the right certificate?", quote(got), quote(d.o.Peer))
	}
	detail := fmt.Sprintf("own KME: %s to %s, peer's KME: %s to %s", quote(ours["source_KME_ID"]), quote(ours["target_KME_ID"]),
		quote(theirs.text["source_KME_ID"]), quote(theirs.text["target_KME_ID"]))
	if ours["source_KME_ID"] != theirs.text["target_KME_ID"] || ours["target_KME_ID"] != theirs.text["source_KME_ID"] {
		return warn("%s", detail)
	}
	return pass("%s", detail)
}

func (d *doctor) storedCount(ctx context.Context) verdict {
	after, v := d.readStatus(ctx, d.own, d.o.Peer)
	if v.result != Pass {
		return warn("at the end, %s", v.detail)
	}
	was, known := d.status.number["stored_key_count"]
	is, knownAgain := after.number["stored_key_count"]
	most, bounded := after.number["max_key_count"]
	if !known || !knownAgain {
		return skip("the status has no stored_key_count that is a number: see status-fields")
	}
	detail := fmt.Sprintf("%d at first, %d after %d keys, max_key_count %d", was, is, d.report.KeysUsed, most)
	switch {
	case was == 0 && d.report.KeysUsed > 0:
		return warn("%s: 0 stored, yet keys are given: a client that relies on it asks for none", detail)
	case is < 0 || bounded && is > most:
		return warn("%s", detail)
	}
	return pass("%s", detail)
}
