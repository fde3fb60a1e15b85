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

// encKeys asks for keys, which count as used. If it gets none that can be judged,
// the verdict says why.
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
		return nil, skip("%s: %s: %s", q, exhausted(a), a)
	case overLimit(a) && d.status.raw != nil:
		return nil, fail("%s: %s, though the status allows it (max_key_per_request %d, sizes %d to %d)", q, a,
			d.status.number["max_key_per_request"], d.status.number["min_key_size"], d.status.number["max_key_size"])
	case !a.good():
		return nil, fail("%s: %s", q, a)
	case err != nil:
		return nil, fail("%s: HTTP %d, but %v", q, a.status, err)
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

// maxLost is the number of lost answers with keys after which no more keys are
// asked for.
const maxLost = 2

// tooDear returns a verdict if a request could use up more keys than the run may.
func (d *doctor) tooDear(q request) verdict {
	cost := d.cost(q)
	switch {
	case len(d.lost) >= maxLost:
		return skip("needs answers to %s, which did not arrive and may have used up keys", strings.Join(d.lost, " and "))
	case q.keys*max(q.bits, 1)/8 > maxAnswer/2:
		return skip("%s: a KME that did not refuse it would answer with more than can be read", q)
	case d.spent+cost > d.o.MaxKeys:
		return skip("%s: it could use up %d keys of the default size, and the run may use %d, of which %d are used", q, cost, d.o.MaxKeys, d.spent)
	}
	return verdict{}
}

// cost returns how many keys a KME may give out for a request, in keys of its
// default size.
func (d *doctor) cost(q request) int { return q.keys * d.status.units(q.bits) }

// units returns how many keys of the default size so many bits are worth, at least
// one.
func (s status) units(bits int) int {
	if _, usual, _, sane := s.sizes(); sane {
		return max(1, (bits+usual-1)/usual)
	}
	return max(1, (bits+assumedSize-1)/assumedSize)
}

// assumedSize is the default size of keys, in bits, of a KME whose status has
// none.
const assumedSize = 256

// String returns one phrase about the request.
func (q request) String() string {
	switch {
	case q.query != "":
		return q.method + " ?" + q.query
	case len(q.body) > 120:
		return q.method + " with a long body"
	}
	return q.method + " " + q.body
}

// exhausted returns a phrase if a KME says that it has no key or can't serve now,
// and "" otherwise. The standard has no code for that.
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

// overLimit reports whether a KME says that a request is over one of its limits.
func overLimit(a answer) bool {
	return a.err == nil && !a.good() && errors.Is(etsi014.Refusal("get keys", a.status, a.body), kmclient.ErrLimit)
}

// sizesOf says how many keys there are, and of what size.
func sizesOf(keys []*key) string {
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
	detail := fmt.Sprintf("%s: %s", q, sizesOf(keys))
	switch {
	case len(keys) != 1:
		return fail("%s instead of 1", detail)
	case sane && !ofSize(keys, size):
		return fail("%s, but key_size is %d", detail, size)
	}
	return pass("%s", detail)
}

// amount returns the number and size of keys to ask for besides the default
// request: two keys, if the limits allow it, of a size other than the default, if
// there is one. A size of 0 is the default, for a status that does not give the
// sizes.
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

// amountNote says why amount returned the default, or part of it.
func (s status) amountNote() string {
	number, size := s.amount()
	switch {
	case size == 0:
		return " (the size is the default: status-sizes failed)"
	case number == 1 && size == s.number["key_size"]:
		return " (the limits allow only the default number and size)"
	case number == 1:
		return " (max_key_per_request allows no larger number)"
	case size == s.number["key_size"]:
		return " (the limits allow only the default size)"
	}
	return ""
}

// askAmount asks for a number and size of keys other than the default.
func (d *doctor) askAmount(ctx context.Context, method string) ([]*key, verdict) {
	number, size := d.status.amount()
	q := request{method: method, keys: number, bits: size}
	switch {
	case method == http.MethodGet && size == 0:
		q.query = fmt.Sprintf("number=%d", number)
	case method == http.MethodGet:
		q.query = fmt.Sprintf("number=%d&size=%d", number, size)
	case size == 0:
		q.body = fmt.Sprintf(`{"number":%d}`, number)
	default:
		q.body = fmt.Sprintf(`{"number":%d,"size":%d}`, number, size)
	}
	keys, v := d.encKeys(ctx, q)
	switch {
	case v.result != "":
		return keys, v
	case len(keys) != number || method == http.MethodGet && size != 0 && !ofSize(keys, size):
		return keys, fail("%s: %s", q, sizesOf(keys))
	}
	return keys, pass("%s: %s%s", q, sizesOf(keys), d.status.amountNote())
}

func (d *doctor) encNumber(ctx context.Context) (v verdict) {
	d.posted, v = d.askAmount(ctx, http.MethodPost)
	return v
}

// encSize judges the keys of encNumber.
func (d *doctor) encSize(context.Context) verdict {
	_, size := d.status.amount()
	switch detail := fmt.Sprintf("asked for %d bits: %s", size, sizesOf(d.posted)); {
	case len(d.posted) == 0:
		return skip("enc-number got no key")
	case !ofSize(d.posted, size):
		return fail("%s", detail)
	default:
		return pass("%s%s", detail, d.status.amountNote())
	}
}

func (d *doctor) encGet(ctx context.Context) (v verdict) {
	d.gotten, v = d.askAmount(ctx, http.MethodGet)
	return v
}

// extension is the value of an extension that no KME knows.
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
		return fail("%s: %s instead of 1", q, sizesOf(keys))
	}
	return pass("%s: %s", q, sizesOf(keys))
}
