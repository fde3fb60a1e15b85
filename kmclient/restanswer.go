package kmclient

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
)

// A keyAnswer is a key as the QMail REST API gives it out.
type keyAnswer struct {
	ID   string       `json:"key_ID"`
	Key  base64Octets `json:"key"`
	Size *int         `json:"key_size"` // bits; not always there
}

// key returns the key of an answer, having checked what the answer says of it.
func (a *keyAnswer) key() (*Key, error) {
	if a.Size != nil && *a.Size != len(a.Key)*8 {
		return nil, fmt.Errorf("%w: said to be of %d bits, and has %d", ErrBadKey, *a.Size, len(a.Key)*8)
	}
	return NewKey(a.ID, a.Key), nil
}

// decodeKeys reads the answer to a request for number keys of size bits. It
// returns one at least and number at most, or an error and no key.
func decodeKeys(body []byte, size, number int) ([]*Key, error) {
	keys, err := decodeKeyList(body)
	if err != nil {
		return nil, err
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("%w: an answer without keys", ErrKeyExhausted)
	}
	if err := CheckFresh(keys, size, number); err != nil {
		WipeAll(keys)
		return nil, err
	}
	return keys, nil
}

// decodeKeyList reads an answer with any number of keys, whose IDs and octets
// are still to be checked.
func decodeKeyList(body []byte) (keys []*Key, err error) {
	var answer struct {
		Keys []keyAnswer `json:"keys"`
	}
	defer func() {
		if err != nil {
			for _, k := range answer.Keys {
				clear(k.Key)
			}
			keys = nil
		}
	}()
	if err := decodeJSON(body, &answer); err != nil {
		return nil, err
	}
	if answer.Keys == nil {
		return nil, fmt.Errorf("%w: no keys in it", ErrBadAnswer)
	}
	for i := range answer.Keys {
		k, err := answer.Keys[i].key()
		if err != nil {
			return nil, err
		}
		keys = append(keys, k)
	}
	return keys, nil
}

// decodeKey reads the answer to a request for the key id.
func decodeKey(body []byte, id string) (*Key, error) {
	var answer keyAnswer
	var k *Key
	err := decodeJSON(body, &answer)
	if err == nil && CanonicalID(answer.ID) != CanonicalID(id) {
		err = fmt.Errorf("%w: it names another key than the one asked for", ErrBadAnswer)
	}
	if err == nil {
		k, err = answer.key()
	}
	if err != nil {
		clear(answer.Key)
		return nil, err
	}
	return k, nil
}

// decodeJSON is json.Unmarshal with errors that quote nothing of body, which
// may be keys, and are an ErrBadAnswer.
func decodeJSON(body []byte, v any) error {
	err := json.Unmarshal(body, v)
	if err == nil {
		return nil
	}
	if isHTML(body) {
		return fmt.Errorf("%w: an HTML page instead of JSON", ErrBadAnswer)
	}
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return fmt.Errorf("%w: JSON of another form than expected (octet %d)", ErrBadAnswer, wrong.Offset)
	}
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		return fmt.Errorf("%w: not JSON (octet %d of %d)", ErrBadAnswer, syntax.Offset, len(body))
	}
	return fmt.Errorf("%w: %w", ErrBadAnswer, err)
}

// base64Octets decodes base64 straight from JSON, with no string in between
// that could not be cleared afterwards.
type base64Octets []byte

// UnmarshalJSON takes standard base64 with its padding only (RFC 4648 §4),
// without line breaks and with the unused bits zero (§3.5).
func (o *base64Octets) UnmarshalJSON(raw []byte) error {
	if len(raw) < 2 || raw[0] != '"' {
		return errors.New("a key that is not a string")
	}
	text := raw[1 : len(raw)-1]
	if bytes.Contains(text, []byte(`\/`)) { // some JSON libraries write "/" so
		text = bytes.ReplaceAll(text, []byte(`\/`), []byte("/"))
		defer clear(text)
	}
	if bytes.ContainsAny(text, "\\\r\n") { // encoding/base64 skips line breaks
		return errors.New("a key that is not base64")
	}
	clear(*o) // the member may come twice
	octets := make([]byte, base64.StdEncoding.DecodedLen(len(text)))
	n, err := base64.StdEncoding.Strict().Decode(octets, text)
	if err != nil {
		clear(octets)
		*o = nil
		return errors.New("a key that is not base64")
	}
	*o = octets[:n]
	return nil
}
