package kmhttp

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/internal/keyjson"
)

// Limits in bytes.
const (
	MaxRequestBytes = 64 << 20 // all keys of one call together
	StatusLimit     = 64 << 10 // a status
)

// CheckAmount reports whether number keys of size bits can be asked for in one call.
func CheckAmount(size, number int) error {
	if err := kmclient.CheckSize(size); err != nil {
		return err
	}
	switch {
	case number < 1 || number > kmclient.MaxRequestKeys:
		return fmt.Errorf("%w: %d keys: must be 1 to %d", kmclient.ErrBadRequest, number, kmclient.MaxRequestKeys)
	case size > kmclient.MaxRequestSize:
		return fmt.Errorf("%w: key size %d: must be at most %d bits", kmclient.ErrBadRequest, size, kmclient.MaxRequestSize)
	case size/8*number > MaxRequestBytes:
		return fmt.Errorf("%w: %d keys of %d bits: over %d bytes together", kmclient.ErrBadRequest, number, size, MaxRequestBytes)
	}
	return nil
}

// AnswerLimit returns the size limit, in bytes, of an answer with number keys of size
// bits: base64, names and IDs, and some white space.
func AnswerLimit(size, number int) int64 {
	return int64(number)*(int64(size)/8*4/3+1<<10) + 64<<10
}

// A keyAnswer is a key in an answer of either API (ETSI GS QKD 014 §6.3).
type keyAnswer struct {
	ID   string        `json:"key_ID"`
	Key  keyjson.Bytes `json:"key"`
	Size *int          `json:"key_size"` // bits; not always present
}

// key returns the key, if it has the size that the answer names.
func (a *keyAnswer) key() (*kmclient.Key, error) {
	if a.Size != nil && *a.Size != len(a.Key)*8 {
		return nil, fmt.Errorf("%w: it has %d bits, and key_size is %d", kmclient.ErrBadKey, len(a.Key)*8, *a.Size)
	}
	return kmclient.NewKey(a.ID, a.Key), nil
}

// DecodeKeys decodes the answer to a request for number keys of size bits. It returns
// at least one and at most number of them, or an error and no key.
func DecodeKeys(body []byte, size, number int) ([]*kmclient.Key, error) {
	keys, err := DecodeKeyList(body)
	if err != nil {
		kmclient.WipeAll(keys)
		return nil, err
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("%w: an answer without keys", kmclient.ErrKeyExhausted)
	}
	if err := kmclient.CheckFresh(keys, size, number); err != nil {
		kmclient.WipeAll(keys)
		return nil, err
	}
	return keys, nil
}

// DecodeKeyList decodes an answer with any number of keys. It does not check their IDs
// and bytes. If some do not have the size that the answer names, the others are
// returned with the error.
func DecodeKeyList(body []byte) (keys []*kmclient.Key, err error) {
	var answer struct {
		Keys []keyAnswer `json:"keys"`
	}
	if err := decodeJSON(body, &answer); err != nil {
		for _, k := range answer.Keys {
			clear(k.Key)
		}
		return nil, err
	}
	if answer.Keys == nil {
		return nil, fmt.Errorf("%w: no keys in it", kmclient.ErrBadAnswer)
	}
	for i := range answer.Keys {
		k, wrong := answer.Keys[i].key()
		if wrong != nil {
			clear(answer.Keys[i].Key)
			err = wrong
			continue
		}
		keys = append(keys, k)
	}
	return keys, err
}

// DecodeKey decodes the answer to a request for the key with this ID.
func DecodeKey(body []byte, id string) (*kmclient.Key, error) {
	var answer keyAnswer
	var k *kmclient.Key
	err := decodeJSON(body, &answer)
	if err == nil && kmclient.CanonicalID(answer.ID) != kmclient.CanonicalID(id) {
		err = fmt.Errorf("%w: it names a different key from the one asked for", kmclient.ErrBadAnswer)
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

// decodeJSON is json.Unmarshal with errors that quote nothing of body, which may hold
// keys. They wrap kmclient.ErrBadAnswer. A byte order mark is ignored (RFC 8259 §8.1): a
// key that is deleted on delivery would be lost by it.
func decodeJSON(body []byte, v any) error {
	err := json.Unmarshal(bytes.TrimPrefix(body, []byte("\xEF\xBB\xBF")), v)
	if err == nil {
		return nil
	}
	if isHTML(body) {
		return fmt.Errorf("%w: an HTML page instead of JSON", kmclient.ErrBadAnswer)
	}
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return fmt.Errorf("%w: JSON in an unexpected form (byte %d)", kmclient.ErrBadAnswer, wrong.Offset)
	}
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		return fmt.Errorf("%w: not JSON (byte %d of %d)", kmclient.ErrBadAnswer, syntax.Offset, len(body))
	}
	return fmt.Errorf("%w: %w", kmclient.ErrBadAnswer, err)
}
