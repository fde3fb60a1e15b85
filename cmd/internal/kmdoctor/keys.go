package kmdoctor

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"slices"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/qkdmail/qkdmail/kmclient"
)

// A key is one that a KME gave out.
type key struct {
	id      string
	secret  []byte // nil if it is not base64
	fetched bool   // by anyone, or an attempt was made
}

func (k *key) wipe() { clear(k.secret) }

// bits is the size of the key.
func (k *key) bits() int { return 8 * len(k.secret) }

func wipeAll(keys []*key) {
	for _, k := range keys {
		k.wipe()
	}
}

// asObject returns the members of a JSON object. Their names keep their case,
// which encoding/json ignores with a struct.
func asObject(body []byte) (members map[string]json.RawMessage, ok bool) {
	ok = utf8.Valid(body) && json.Unmarshal(body, &members) == nil && members != nil
	return members, ok
}

// wipeMembers clears the values of an object; they may be keys.
func wipeMembers(members map[string]json.RawMessage) {
	for _, raw := range members {
		clear(raw)
	}
}

// readKeys reads a key container. Its error never quotes it.
func readKeys(body []byte) ([]*key, error) {
	top, ok := asObject(body)
	defer wipeMembers(top)
	if !ok {
		return nil, errors.New("the answer is not a JSON object in UTF-8")
	}
	var list []map[string]json.RawMessage
	defer func() {
		for _, members := range list {
			wipeMembers(members)
		}
	}()
	if json.Unmarshal(top["keys"], &list) != nil || list == nil {
		return nil, errors.New("the answer has no array of objects named keys")
	}
	keys := make([]*key, len(list))
	for i, members := range list {
		id, isText := asString(members["key_ID"])
		text := members["key"]
		if !isText || len(text) == 0 || text[0] != '"' {
			wipeAll(keys[:i])
			return nil, errors.New("an element of keys has no key_ID or no key that is a string")
		}
		keys[i] = &key{id: id, secret: fromBase64(text)}
	}
	return keys, nil
}

// fromBase64 decodes a JSON string. It returns nil if the string is not base64.
func fromBase64(raw json.RawMessage) []byte {
	text := raw[1 : len(raw)-1]
	if bytes.IndexByte(text, '\\') >= 0 { // as "\/", which is "/"
		var s string
		if json.Unmarshal(raw, &s) != nil {
			return nil
		}
		text = []byte(s)
		defer clear(text)
	}
	secret := make([]byte, base64.StdEncoding.DecodedLen(len(text)))
	n, err := base64.StdEncoding.Strict().Decode(secret, text)
	if err != nil || bytes.ContainsAny(text, "\r\n") {
		clear(secret)
		return nil
	}
	return secret[:n]
}

// waiting returns the keys that the peer has not fetched, latest first, each ID
// once.
func (d *doctor) waiting() (keys []*key) {
	seen := map[string]bool{}
	for _, k := range slices.Backward(d.keys) {
		id := kmclient.CanonicalID(k.id)
		if !seen[id] && !k.fetched && k.secret != nil {
			keys = append(keys, k)
		}
		seen[id] = true
	}
	return keys
}

// take returns number keys that the peer has not fetched, latest first, and
// counts them as fetched; nil if there are too few.
func (d *doctor) take(number int) []*key {
	keys := d.waiting()
	if len(keys) < number {
		return nil
	}
	for _, k := range keys[:number] {
		k.fetched = true
	}
	return keys[:number]
}

func (d *doctor) keyID(context.Context) verdict {
	for _, k := range d.keys {
		// Such an ID is not shown: it may be the key.
		if len(k.id) != 36 || uuid.Validate(k.id) != nil {
			return fail("a key_ID of %d bytes that is not a UUID in its usual form", len(k.id))
		}
	}
	return pass("of %d keys", len(d.keys))
}

func (d *doctor) keyIDOnce(context.Context) verdict {
	ids := map[string]bool{}
	for _, k := range d.keys {
		ids[kmclient.CanonicalID(k.id)] = true
	}
	if len(ids) < len(d.keys) {
		return fail("%d keys with %d different IDs: a key used twice is no secret", len(d.keys), len(ids))
	}
	return pass("of %d keys", len(d.keys))
}

func (d *doctor) keyBase64(context.Context) verdict {
	for _, k := range d.keys {
		if k.secret == nil {
			return fail("a key that is not base64 with padding, on one line")
		}
	}
	return pass("of %d keys", len(d.keys))
}

// judged is the smallest size of keys, in bytes, that can't be equal by chance.
const judged = 8

func (d *doctor) keyRandom(context.Context) verdict {
	n := 0
	for i, k := range d.keys {
		if len(k.secret) < judged {
			continue
		}
		n++
		if bytes.Count(k.secret, k.secret[:1]) == len(k.secret) {
			return fail("all bytes of a key of %d bits are the same", k.bits())
		}
		for _, other := range d.keys[:i] {
			if other.id != k.id && bytes.Equal(other.secret, k.secret) {
				return fail("two keys with different IDs are the same")
			}
		}
	}
	if n == 0 {
		return skip("no key of at least %d bits was given out", 8*judged)
	}
	return pass("of %d keys", n)
}
