package kmdoctor

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/etsi014"
)

// encKeys asks for keys, which count as used. If there are none to judge, the
// verdict says why.
func (d *doctor) encKeys(ctx context.Context, q request) ([]*key, verdict) {
	if v := d.tooDear(q); v.result != "" {
		return nil, v
	}
	q.sae, q.what = d.o.Peer, "enc_keys"
	a := d.ask(ctx, d.own, q)
	defer a.wipe()
	keys, err := d.countKeys(a, q)
	switch {
	case exhausted(a) != "":
		return nil, skip("%s: %s: %s", q.tell(), exhausted(a), a.tell())
	case overLimit(a) && d.status.raw != nil:
		return nil, fail("%s: %s, though the status allows it (max_key_per_request %d, sizes %d to %d)", q.tell(), a.tell(),
			d.status.number["max_key_per_request"], d.status.number["min_key_size"], d.status.number["max_key_size"])
	case !a.good():
		return nil, fail("%s: %s", q.tell(), a.tell())
	case err != nil:
		return nil, fail("%s: HTTP %d, but %v", q.tell(), a.status, err)
	}
	return keys, verdict{}
}

// countKeys notes the keys of an answer, if it has any.
func (d *doctor) countKeys(a answer, q request) ([]*key, error) {
	if !a.good() {
		return nil, nil
	}
	keys, err := readKeys(a.body)
	if err != nil {
		d.report.KeysLost += q.keys
		d.spent += d.cost(q)
		return nil, err
	}
	d.report.KeysUsed += len(keys)
	for _, k := range keys {
		d.spent += d.status.units(k.bits())
	}
	d.keys = append(d.keys, keys...)
	return keys, nil
}

// maxLost is how many answers with keys may be lost until no more keys are
// asked for.
const maxLost = 2

// tooDear is a verdict if a request could use up more keys than a run may.
func (d *doctor) tooDear(q request) verdict {
	cost := d.cost(q)
	switch {
	case len(d.lost) >= maxLost:
		return skip("needs answers to %s, which did not arrive: that may have used up their keys", strings.Join(d.lost, " and "))
	case q.keys*max(q.bits, 1)/8 > maxAnswer/2:
		return skip("%s: a KME that did not refuse it would answer with more than can be read", q.tell())
	case d.spent+cost > d.o.MaxKeys:
		return skip("%s: it could use up %d keys of the default size, and the run may use %d, of which %d are gone", q.tell(), cost, d.o.MaxKeys, d.spent)
	}
	return verdict{}
}

// cost is what a KME may give out for a request, in keys of its default size.
func (d *doctor) cost(q request) int { return q.keys * d.status.units(q.bits) }

// units is how many keys of the default size have so many bits, or one for
// what has none.
func (s status) units(bits int) int {
	if _, usual, _, sane := s.sizes(); sane {
		return max(1, (bits+usual-1)/usual)
	}
	return max(1, (bits+assumedSize-1)/assumedSize)
}

// assumedSize is the default size of keys, in bits, of a KME that does not tell
// it.
const assumedSize = 256

// tell is one phrase about a request.
func (q request) tell() string {
	switch {
	case q.query != "":
		return q.method + " ?" + q.query
	case len(q.body) > 120:
		return q.method + " with a long body"
	}
	return q.method + " " + q.body
}

// exhausted returns what a KME says if it is that it has no key, or can't serve
// now, and "" otherwise. The standard assigns no code to that.
func exhausted(a answer) string {
	if a.err != nil || a.good() {
		return ""
	}
	switch err := etsi014.Refusal("get keys", a.status, a.body); {
	case errors.Is(err, kmclient.ErrKeyExhausted):
		return "the KME has no key now"
	case errors.Is(err, kmclient.ErrUnavailable) && (a.status == http.StatusServiceUnavailable || a.status/100 == 4):
		return "the KME can't serve now"
	}
	return ""
}

// overLimit reports whether a KME says that a request is over a limit of its.
func overLimit(a answer) bool {
	return a.err == nil && !a.good() && errors.Is(etsi014.Refusal("get keys", a.status, a.body), kmclient.ErrLimit)
}

// tellKeys says how many keys came, and of what size.
func tellKeys(keys []*key) string {
	if len(keys) == 0 {
		return "0 keys"
	}
	least, most := keys[0].bits(), keys[0].bits()
	for _, k := range keys {
		least, most = min(least, k.bits()), max(most, k.bits())
	}
	switch {
	case len(keys) == 1:
		return fmt.Sprintf("1 key of %d bits", most)
	case least != most:
		return fmt.Sprintf("%d keys of %d to %d bits", len(keys), least, most)
	}
	return fmt.Sprintf("%d keys of %d bits", len(keys), most)
}

// ofSize reports whether all keys have that size.
func ofSize(keys []*key, bits int) bool {
	for _, k := range keys {
		if k.bits() != bits {
			return false
		}
	}
	return true
}

func (d *doctor) encDefault(ctx context.Context) verdict {
	if !d.answered {
		return d.needs("status")
	}
	q := request{method: http.MethodPost, body: "{}", keys: 1}
	keys, v := d.encKeys(ctx, q)
	if v.result != "" {
		return v
	}
	d.first = keys
	_, size, _, sane := d.status.sizes()
	detail := q.tell() + ": " + tellKeys(keys)
	switch {
	case len(keys) != 1:
		return fail("%s instead of 1", detail)
	case sane && !ofSize(keys, size):
		return fail("%s, but key_size is %d", detail, size)
	}
	return pass("%s", detail)
}

// amount is what keys are asked for beside the default: two, if there may be
// as many, and of another size than the default, if there is one. A size of 0 is
// the default, where the status does not tell which sizes there are.
func (s status) amount() (number, size int) {
	least, usual, most, sane := s.sizes()
	number = max(1, min(2, s.number["max_key_per_request"]))
	if !sane {
		return number, 0
	}
	switch small := min(max(least, 8*judged), most); {
	case small != usual:
		return number, small
	case most >= 2*usual:
		return number, 2 * usual
	}
	return number, most
}

// tellAmount is what is to be said if the default is all that can be asked
// for.
func (s status) tellAmount() string {
	number, size := s.amount()
	switch {
	case size == 0:
		return " (the size is the default: status-sizes failed)"
	case number == 1 && size == s.number["key_size"]:
		return " (the limits allow no other number and size than the default)"
	case number == 1:
		return " (max_key_per_request allows no larger number)"
	case size == s.number["key_size"]:
		return " (the limits allow no other size than the default)"
	}
	return ""
}

func (d *doctor) encNumber(ctx context.Context) (v verdict) {
	number, size := d.status.amount()
	q := request{method: http.MethodPost, body: fmt.Sprintf(`{"number":%d,"size":%d}`, number, size), keys: number, bits: size}
	if size == 0 {
		q.body = fmt.Sprintf(`{"number":%d}`, number)
	}
	d.posted, v = d.encKeys(ctx, q)
	if v.result != "" {
		return v
	}
	detail := q.tell() + ": " + tellKeys(d.posted)
	if len(d.posted) != number {
		return fail("%s", detail)
	}
	return pass("%s%s", detail, d.status.tellAmount())
}

func (d *doctor) encSize(context.Context) verdict {
	_, size := d.status.amount()
	switch detail := fmt.Sprintf("asked for %d bits: %s", size, tellKeys(d.posted)); {
	case len(d.posted) == 0:
		return skip("enc-number has got no key")
	case !ofSize(d.posted, size):
		return fail("%s", detail)
	default:
		return pass("%s%s", detail, d.status.tellAmount())
	}
}

func (d *doctor) encGet(ctx context.Context) (v verdict) {
	number, size := d.status.amount()
	q := request{method: http.MethodGet, query: fmt.Sprintf("number=%d&size=%d", number, size), keys: number, bits: size}
	if size == 0 {
		q.query = fmt.Sprintf("number=%d", number)
	}
	d.gotten, v = d.encKeys(ctx, q)
	if v.result != "" {
		return v
	}
	detail := q.tell() + ": " + tellKeys(d.gotten)
	if len(d.gotten) != number || size != 0 && !ofSize(d.gotten, size) {
		return fail("%s", detail)
	}
	return pass("%s%s", detail, d.status.tellAmount())
}

// extension is one that no KME knows.
const extension = `[{"qkdmail_doctor":true}]`

func (d *doctor) encOptional(ctx context.Context) verdict {
	q := request{method: http.MethodPost, body: `{"extension_optional":` + extension + `}`, keys: 1}
	keys, v := d.encKeys(ctx, q)
	switch {
	case v.result == Fail && strings.Contains(v.detail, wordsOptional):
		return warn("%s, for which the standard has these words", v.detail)
	case v.result != "":
		return v
	case len(keys) != 1:
		return fail("%s: %s instead of 1", q.tell(), tellKeys(keys))
	}
	return pass("%s: %s", q.tell(), tellKeys(keys))
}
