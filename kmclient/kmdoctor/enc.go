package kmdoctor

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/qkdmail/qkdmail/kmclient"
)

// encKeys asks for keys, which count as used. If there are none to judge, the
// verdict says why.
func (d *doctor) encKeys(ctx context.Context, q request) ([]*key, verdict) {
	if d.lost {
		return nil, skip("an earlier answer with keys did not arrive, and may have used them up")
	}
	q.sae, q.what = d.o.Peer, "enc_keys"
	a := d.ask(ctx, d.own, q)
	defer a.wipe()
	keys, err := d.countKeys(a, q)
	switch {
	case !a.good() && exhausted(a):
		return nil, skip("%s: the KME has no key now: %s", q.tell(), a.tell())
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
		return nil, err
	}
	d.report.KeysUsed += len(keys)
	d.keys = append(d.keys, keys...)
	return keys, nil
}

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

// exhausted reports whether a KME says that it has no key, or can't serve now.
// The standard assigns no code to that.
func exhausted(a answer) bool {
	return a.err == nil && (a.status == http.StatusServiceUnavailable ||
		errors.Is(kmclient.ETSIRefusal("get keys", a.status, a.body), kmclient.ErrKeyExhausted))
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
// as many, and of another size than the default, if there is one.
func (s status) amount() (number, size int) {
	least, usual, most, _ := s.sizes()
	number = max(1, min(2, s.number["max_key_per_request"]))
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
	q := request{method: http.MethodPost, body: fmt.Sprintf(`{"number":%d,"size":%d}`, number, size), keys: number}
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
	q := request{method: http.MethodGet, query: fmt.Sprintf("number=%d&size=%d", number, size), keys: number}
	d.gotten, v = d.encKeys(ctx, q)
	if v.result != "" {
		return v
	}
	detail := q.tell() + ": " + tellKeys(d.gotten)
	if len(d.gotten) != number || !ofSize(d.gotten, size) {
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
