package kmdoctor

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"

	"github.com/google/uuid"

	"github.com/qkdmail/qkdmail/kmclient"
)

// byID returns the POST that asks for master's keys with these IDs.
func byID(master string, ids ...string) request {
	type keyID struct {
		ID string `json:"key_ID"`
	}
	var body struct {
		IDs []keyID `json:"key_IDs"`
	}
	for _, id := range ids {
		body.IDs = append(body.IDs, keyID{id})
	}
	text, _ := json.Marshal(body) // can't fail
	return request{method: http.MethodPost, sae: master, what: "dec_keys", body: string(text)}
}

// oneByID returns the GET that asks for a key of master.
func oneByID(master, id string) request {
	return request{method: http.MethodGet, sae: master, what: "dec_keys", query: "key_ID=" + url.QueryEscape(id)}
}

func ids(keys []*key) (list []string) {
	for _, k := range keys {
		list = append(list, k.id)
	}
	return list
}

// fetch asks the peer's KME for keys. Its error says how they differ from want.
func (d *doctor) fetch(ctx context.Context, q request, want []*key) error {
	a := d.ask(ctx, d.peer, q)
	defer a.wipe()
	if overLimit(a) {
		return fmt.Errorf("%s (%w)", a, errOverLimit)
	}
	if !a.good() {
		return errors.New(a.String())
	}
	got, err := readKeys(a.body)
	if err != nil {
		return err
	}
	defer wipeAll(got)
	if len(got) != len(want) {
		return errors.New(sizesOf(got) + " came")
	}
	for _, w := range want {
		switch k := find(got, w.id); {
		case k == nil:
			return errors.New("a key with another ID came")
		case !bytes.Equal(k.secret, w.secret):
			return errors.New("the two sites have different keys with the same ID")
		}
	}
	return nil
}

func find(keys []*key, id string) *key {
	for _, k := range keys {
		if kmclient.CanonicalID(k.id) == kmclient.CanonicalID(id) {
			return k
		}
	}
	return nil
}

const noKeyLeft = "too few keys are left that the peer has not fetched"

// decKeys fetches two keys in one request, or one if enc_keys gives no more.
func (d *doctor) decKeys(ctx context.Context) verdict {
	number, _ := d.status.amount()
	if !d.peerThere {
		return d.needs("peer-status")
	}
	number = max(1, min(number, len(d.waiting())))
	keys := d.take(number)
	if keys == nil {
		return skip(noKeyLeft)
	}
	d.delivered = keys
	return d.fetchAll(ctx, keys, fmt.Sprintf("POST with %s", countIDs(number)))
}

// fetchAll fetches keys in one request, or one by one if the KME has a limit of
// its own.
func (d *doctor) fetchAll(ctx context.Context, keys []*key, asked string) verdict {
	err := d.fetch(ctx, byID(d.self(), ids(keys)...), keys)
	switch {
	case err == nil:
		return pass("%s: the same %s", asked, sizesOf(keys))
	case !errors.Is(err, errOverLimit) || len(keys) == 1:
		return fail("%s: %v", asked, err)
	}
	for _, k := range keys {
		if alone := d.fetch(ctx, byID(d.self(), k.id), []*key{k}); alone != nil {
			return fail("%s: %v; with one: %v", asked, err, alone)
		}
	}
	return warn("%s: %v; one by one the same keys come", asked, err)
}

func countIDs(number int) string {
	if number == 1 {
		return "1 ID"
	}
	return fmt.Sprintf("%d IDs", number)
}

// errOverLimit marks the refusal of a request for too many keys.
var errOverLimit = errors.New("a limit of the KME")

func (d *doctor) decDeleted(ctx context.Context) verdict {
	a := d.ask(ctx, d.peer, byID(d.self(), d.delivered[0].id))
	defer a.wipe()
	return notGiven("the same ID again", a)
}

// notGiven passes if an answer is a refusal of any kind.
func notGiven(asked string, a answer) verdict {
	switch {
	case a.good():
		return fail("%s: HTTP %d, a key is given out", asked, a.status)
	case a.err != nil:
		return fail("%s: %s", asked, a)
	}
	return pass("%s: %s", asked, a)
}

func (d *doctor) decGet(ctx context.Context) verdict {
	keys := d.take(1)
	if keys == nil {
		return skip(noKeyLeft)
	}
	if err := d.fetch(ctx, oneByID(d.self(), keys[0].id), keys); err != nil {
		return fail("GET with key_ID: %v", err)
	}
	return pass("GET with key_ID: the same key of %d bits", keys[0].bits())
}

// decWhole asks for a key together with one that does not exist, and then for
// the first alone.
func (d *doctor) decWhole(ctx context.Context) verdict {
	keys := d.take(1)
	if keys == nil {
		return skip(noKeyLeft)
	}
	a := d.ask(ctx, d.peer, byID(d.self(), keys[0].id, uuid.NewString()))
	defer a.wipe()
	v := notGiven("a known and an unknown ID", a)
	if v.result != Pass {
		return v
	}
	if err := d.fetch(ctx, byID(d.self(), keys[0].id), keys); err != nil {
		return fail("%s; then the known one alone: %v", v.detail, err)
	}
	return pass("%s; then the known one alone is given out", v.detail)
}

// decLater fetches the keys that have waited longest.
func (d *doctor) decLater(ctx context.Context) verdict {
	keys := slices.DeleteFunc(d.waiting(), func(k *key) bool { return !slices.Contains(d.first, k) && !slices.Contains(d.gotten, k) })
	if len(keys) == 0 {
		return skip(noKeyLeft)
	}
	most := max(1, d.status.number["max_key_per_request"])
	keys = keys[max(0, len(keys)-most):]
	for _, k := range keys {
		k.fetched = true
	}
	return d.fetchAll(ctx, keys, fmt.Sprintf("POST with %s of earlier requests", countIDs(len(keys))))
}

func (d *doctor) decUnknown(ctx context.Context) verdict {
	q := byID(d.o.Peer, uuid.NewString())
	a := d.ask(ctx, d.own, q)
	defer a.wipe()
	if a.good() {
		return fail("%s: HTTP %d", q, a.status)
	}
	return judge(q, a, nil, []string{wordsNotFound})
}

// noteAsked counts a key as fetched if an answer may have given it out: it is
// then no fault of the peer's KME if the peer can't fetch it.
func (k *key) noteAsked(a answer) { k.fetched = k.fetched || a.good() || a.err != nil }

// decStranger asks as the master, which is not a slave of its own key.
func (d *doctor) decStranger(ctx context.Context) verdict {
	keys := d.waiting()
	if len(keys) == 0 {
		return skip(noKeyLeft)
	}
	a := d.ask(ctx, d.own, byID(d.self(), keys[0].id))
	defer a.wipe()
	keys[0].noteAsked(a)
	v := notGiven("asked by its master", a)
	if v.result == Pass && a.status != http.StatusUnauthorized {
		return fail("asked by its master: refused, but with %s instead of 401", a)
	}
	return v
}

// decOwn asks as the slave of a key that it was the master of.
func (d *doctor) decOwn(ctx context.Context) verdict {
	keys := d.waiting()
	if len(keys) == 0 {
		return skip(noKeyLeft)
	}
	a := d.ask(ctx, d.own, byID(d.o.Peer, keys[0].id))
	defer a.wipe()
	keys[0].noteAsked(a)
	return notGiven("asked by its master as if it were the peer's", a)
}
