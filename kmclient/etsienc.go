package kmclient

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
)

// An encRequest is a key request (ETSI GS QKD 014 §6.2).
type encRequest struct {
	Number     int      `json:"number"`
	Size       int      `json:"size"` // bits
	Additional []string `json:"additional_slave_SAE_IDs,omitempty"`
	Mandatory  []any    `json:"extension_mandatory,omitempty"`
	Optional   []any    `json:"extension_optional,omitempty"`

	peer, path string
}

// GetKeys fetches fresh keys: at most MaxRequestKeys, of MaxRequestSize bits,
// and 64 MiB together, in as many requests as the KME's limits make necessary. If
// one of them fails, the keys of those before are all that there are.
func (e *ETSI014) GetKeys(ctx context.Context, peer string, size, number int) ([]*Key, error) {
	return e.getKeys(ctx, e.request, peer, size, number)
}

// GetKeysWith is like GetKeys; mandatory are further elements of
// "extension_mandatory" (ETSI GS QKD 014 §6.2), objects that the KME must meet
// or refuse.
func (e *ETSI014) GetKeysWith(ctx context.Context, peer string, mandatory []any, size, number int) ([]*Key, error) {
	r := e.request
	r.Mandatory = slices.Concat(r.Mandatory, mandatory)
	return e.getKeys(ctx, r, peer, size, number)
}

// GetMulticastKeys is like GetKeys; the SAEs in additional, too, can fetch the
// keys by their IDs ("additional_slave_SAE_IDs"). Any of them could then
// forge what the keys authenticate.
func (e *ETSI014) GetMulticastKeys(
	ctx context.Context, peer string, additional []string, size, number int,
) ([]*Key, error) {
	r := e.request
	r.Additional = additional
	return e.getKeys(ctx, r, peer, size, number)
}

func (e *ETSI014) getKeys(ctx context.Context, r encRequest, peer string, size, number int) ([]*Key, error) {
	r.Number, r.Size, r.peer = number, size, peer
	err := checkAmount(size, number)
	if err == nil {
		r.path, err = saePath(peer, "enc_keys")
	}
	for _, sae := range r.Additional {
		if err == nil {
			_, err = saePath(sae, "enc_keys")
		}
	}
	if err != nil {
		return nil, &Error{Op: operationGetKeys, Err: err}
	}
	keys, failed := e.getAnywhere(ctx, r)
	if failed != nil {
		return nil, failed
	}
	return keys, nil
}

// getAnywhere asks the KMEs in their order. A lost answer may have held keys,
// which are then gone; new ones are asked for once.
func (e *ETSI014) getAnywhere(ctx context.Context, r encRequest) ([]*Key, *Error) {
	var failed *Error
	anew := false
	order := e.order()
	for i := 0; i < len(order); i++ {
		keys, err := e.getFrom(ctx, order[i], r)
		if err == nil {
			return keys, nil
		}
		failed = graver(failed, err)
		switch last := i+1 == len(order); {
		case ctx.Err() != nil, err.lost && anew, !err.lost && !handedNone(err):
			return nil, failed
		case err.lost && last:
			if e.pause(ctx) != nil {
				return nil, failed
			}
			order = append(order, order[i])
		}
		anew = anew || err.lost
		e.noteFailover(order[i:], err)
	}
	return nil, failed
}

// handedNone reports whether another KME may do what one could not, which has
// given out no key.
func handedNone(e *Error) bool {
	switch {
	case errors.Is(e, ErrBadRequest), errors.Is(e, ErrUnsupported): // it is the request that is wrong
		return false
	case e.Status/100 == 2: // keys came, and can't be used
		return errors.Is(e, ErrKeyExhausted)
	}
	return true
}

// getFrom gets all keys from one KME.
func (e *ETSI014) getFrom(ctx context.Context, k *kme, r encRequest) (keys []*Key, failed *Error) {
	defer func() {
		if failed != nil {
			e.waste(keys)
			keys = nil
		}
	}()
	limits, failed := k.limitsFor(ctx, r)
	if failed != nil {
		return nil, failed
	}
	number := r.Number
	most := limits.batch(number)
	for len(keys) < number { // a KME may give fewer than asked for
		r.Number = min(most, number-len(keys))
		some, err := e.encKeys(ctx, k, r)
		if err != nil && errors.Is(err, ErrLimit) && r.Number > 1 {
			most = r.Number / 2 // a limit that its status does not tell
			continue
		}
		if err != nil && len(keys) > 0 {
			break
		}
		if err != nil {
			return nil, err
		}
		keys = append(keys, some...)
	}
	err := CheckFresh(keys, r.Size, number)
	if err == nil {
		err = e.handed.claim(r.peer, keys)
	}
	if err != nil {
		return keys, &Error{Op: operationGetKeys, Status: http.StatusOK, Err: err}
	}
	e.ids.note(keys)
	return keys, nil
}

// limitsFor returns the limits for a request, and an error if it exceeds them.
// A request for one key has no need to know them.
func (k *kme) limitsFor(ctx context.Context, r encRequest) (limits, *Error) {
	if r.Number == 1 && len(r.Additional) == 0 {
		return limits{}, nil
	}
	l, failed := k.limitsOf(ctx, r.peer)
	var err error
	switch {
	case failed != nil:
		failed.Op = operationGetKeys
		return limits{}, failed
	case l.maxSize > 0 && r.Size > l.maxSize:
		err = fmt.Errorf("%w: key size %d: the KME gives keys of at most %d bits", ErrBadRequest, r.Size, l.maxSize)
	case r.Size < l.minSize:
		err = fmt.Errorf("%w: key size %d: the KME gives keys of at least %d bits", ErrBadRequest, r.Size, l.minSize)
	case l.known && l.additional == 0 && len(r.Additional) > 0:
		err = fmt.Errorf("%w: the KME gives no keys to several SAEs", ErrUnsupported)
	case l.known && len(r.Additional) > l.additional:
		err = fmt.Errorf("%w: %d additional SAEs: the KME takes at most %d", ErrBadRequest, len(r.Additional), l.additional)
	}
	if err != nil {
		return limits{}, &Error{Op: operationGetKeys, Err: err}
	}
	return l, nil
}

// encKeys makes one request. It returns at least one key and at most as many
// as asked for, all of the right size, or an error.
func (e *ETSI014) encKeys(ctx context.Context, k *kme, r encRequest) ([]*Key, *Error) {
	body, err := json.Marshal(r)
	if err != nil {
		return nil, &Error{Op: operationGetKeys, Err: fmt.Errorf("%w: %w", ErrBadRequest, err)}
	}
	q := call{op: operationGetKeys, method: http.MethodPost, path: r.path, body: body, limit: answerLimit(r.Size, r.Number)}
	code, answer, failed := k.ask(ctx, q)
	if failed != nil {
		e.noteRefusal(k, r, failed)
		return nil, failed
	}
	defer clear(answer)
	keys, err := decodeKeyList(answer)
	switch {
	case err != nil:
		e.wasted.Add(int64(r.Number)) // or however many there were in what can't be read
		return nil, badAnswer(q, code, answer, err)
	case len(keys) == 0:
		return nil, &Error{Op: q.op, Status: code, Retry: true, Err: fmt.Errorf("%w: an answer without keys", ErrKeyExhausted)}
	default:
		err = CheckFresh(keys, r.Size, r.Number)
	}
	if err != nil {
		e.waste(keys)
		return nil, badAnswer(q, code, answer, err)
	}
	return keys, nil
}

// noteRefusal draws the conclusions from a request that brought no keys.
func (e *ETSI014) noteRefusal(k *kme, r encRequest, failed *Error) {
	switch {
	case failed.lost:
		e.burned.Add(int64(r.Number))
		e.logger.Warn("the answer to a request for keys was lost: the KME may have given them out",
			"kme", k.name, "peer", r.peer, "keys", r.Number, "bits", r.Size, "error", failed)
	case errors.Is(failed, ErrBadAnswer) && failed.Status/100 == 2: // too large
		e.wasted.Add(int64(r.Number))
	case errors.Is(failed, ErrBadRequest):
		k.forget(r.peer)
	}
}

// waste wipes keys that nobody will use.
func (e *ETSI014) waste(keys []*Key) {
	WipeAll(keys)
	e.wasted.Add(int64(len(keys)))
}
