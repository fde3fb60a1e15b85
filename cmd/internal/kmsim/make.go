package kmsim

import (
	"cmp"
	"crypto/rand"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"slices"

	"github.com/google/uuid"

	"github.com/qkdmail/qkdmail/kmclient"
)

// The words of errors that both APIs have.
const (
	wrongMultiple = "size shall be a multiple of 8"
	notMandatory  = "not all extension_mandatory parameters are supported"
	notMet        = "not all extension_mandatory request options could be met"
	notHandled    = "not all extension_optional request options handled"
	notFound      = "one or more keys specified are not found on KME"
)

// A keyRequest is what a caller wants.
type keyRequest struct {
	size, number        *int // bits, keys; nil: not said
	mandatory, optional []extension
}

// An extension of a request: an object, as ETSI GS QKD 014 §6.2 has it, or a
// name alone, as clients of the QMail REST API write it. It is its names.
type extension []string

// UnmarshalJSON reads an object or a string.
func (e *extension) UnmarshalJSON(raw []byte) error {
	if len(raw) > 0 && raw[0] == '"' {
		*e = extension{""}
		return json.Unmarshal(raw, &(*e)[0])
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(raw, &members); err != nil || members == nil {
		return errors.New("an extension that is neither an object nor a string")
	}
	*e = slices.Sorted(maps.Keys(members))
	return nil
}

// A container is keys as an answer has them.
type container struct {
	Keys []keyBody `json:"keys"`
	keys []*kmclient.Key
}

type keyBody struct {
	ID   string `json:"key_ID"`
	Key  []byte `json:"key"`                // base64
	Size int    `json:"key_size,omitempty"` // bits; QMail only
}

func newContainer(keys []*kmclient.Key) *container {
	a := &container{Keys: make([]keyBody, len(keys)), keys: keys}
	for i, k := range keys {
		a.Keys[i] = keyBody{ID: k.ID(), Key: k.Reveal()}
	}
	return a
}

func (a *container) wipe() { kmclient.WipeAll(a.keys) }

// checkAmount returns the size and number of keys that a request is for.
func (c *core) checkAmount(q keyRequest) (size, number int, err error) {
	size, number = c.o.KeySize, 1
	if q.size != nil {
		size = *q.size
	}
	if q.number != nil {
		number = *q.number
	}
	quirks := c.o.Quirks
	if quirks.RoundSize > 0 {
		size = (size + quirks.RoundSize - 1) / quirks.RoundSize * quirks.RoundSize
	}
	switch {
	case size%8 != 0:
		return 0, 0, badRequest(wrongMultiple)
	case quirks.IgnoreLimits && size > 0 && size <= maxKeySize && number > 0 && number <= kmclient.MaxRequestKeys:
	case size < c.o.MinKeySize || size > c.o.MaxKeySize:
		return 0, 0, badRequest("size shall be %d to %d bits", c.o.MinKeySize, c.o.MaxKeySize)
	case number < 1 || number > c.o.MaxKeysPerRequest:
		return 0, 0, badRequest("number shall be 1 to %d", c.o.MaxKeysPerRequest)
	}
	if quirks.IgnoreSize {
		size = c.o.KeySize
	}
	return size, number, nil
}

// checkExtensions reports whether the extensions of a request are served.
func (c *core) checkExtensions(q keyRequest) error {
	unknown, unmet := c.extensions(q.mandatory)
	switch {
	case len(unknown) > 0:
		return &problem{status: http.StatusBadRequest, message: notMandatory, details: unknown}
	case len(unmet) > 0:
		return &problem{status: http.StatusBadRequest, message: notMet, details: unmet}
	}
	unknown, unmet = c.extensions(q.optional)
	if all := append(unknown, unmet...); c.o.StrictOptional && len(all) > 0 {
		return &problem{status: http.StatusBadRequest, message: notHandled, details: all}
	}
	return nil
}

// extensions returns those that the simulator does not know or can't meet.
func (c *core) extensions(list []extension) (unknown, unmet []map[string]string) {
	for _, names := range list {
		if len(names) == 0 {
			unknown = append(unknown, map[string]string{"extension": ""})
		}
		for _, name := range names {
			detail := map[string]string{"extension": name}
			if met, known := c.o.Extensions[name]; !known {
				unknown = append(unknown, detail)
			} else if !met {
				unmet = append(unmet, detail)
			}
		}
	}
	return unknown, unmet
}

// handOut makes keys and keeps copies of them for those who may fetch them later.
func (c *core) handOut(from *stock, to grant, size, number int) ([]*kmclient.Key, error) {
	if most := c.o.Quirks.MostKeys; most > 0 {
		number = min(number, most)
	}
	if c.o.Quirks.ForgetEarlier {
		c.held.forget(to.pool)
	}
	var keys []*kmclient.Key
	if c.o.Quirks.RepeatKeys {
		keys = c.held.earlier(to.pool, size, number)
	}
	each := (size + c.o.KeySize - 1) / c.o.KeySize
	cost := (number - len(keys)) * each
	for !from.take(cost) {
		if c.o.Quirks.GiveRest && number-1 > len(keys) {
			number, cost = number-1, cost-each
			continue
		}
		kmclient.WipeAll(keys)
		return nil, &problem{status: c.o.ExhaustedStatus, message: cmp.Or(c.o.Quirks.ExhaustedMessage, "no keys available: the key pool is exhausted")}
	}
	fresh := make([]*kmclient.Key, 0, number)
	for len(keys)+len(fresh) < number {
		octets := make([]byte, size/8)
		_, _ = rand.Read(octets) // never fails
		fresh = append(fresh, kmclient.NewKey(uuid.NewString(), octets))
	}
	err := c.held.put(to, fresh...)
	keys = append(keys, fresh...)
	if err != nil {
		from.giveBack(cost)
		kmclient.WipeAll(keys)
		return nil, err
	}
	if c.o.Quirks.FewerKeys {
		keys[number-1].Wipe()
		keys = keys[:number-1]
	}
	return keys, nil
}
