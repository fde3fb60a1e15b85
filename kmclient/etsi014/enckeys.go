package etsi014

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/internal/kmhttp"
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

// GetKeys fetches fresh keys: at most kmclient.MaxRequestKeys, of kmclient.MaxRequestSize bits,
// and 64 MiB together, in as many requests as the KME's limits make necessary. If
// one of them fails, the keys of those before are all that there are.
func (e *Client) GetKeys(ctx context.Context, peer string, size, number int) ([]*kmclient.Key, error) {
	return e.getKeys(ctx, e.request, peer, size, number)
}

// GetKeysWith is like GetKeys; mandatory are further elements of
// "extension_mandatory" (ETSI GS QKD 014 §6.2), objects that the KME must meet
// or refuse.
func (e *Client) GetKeysWith(ctx context.Context, peer string, mandatory []any, size, number int) ([]*kmclient.Key, error) {
	r := e.request
	r.Mandatory = slices.Concat(r.Mandatory, mandatory)
	return e.getKeys(ctx, r, peer, size, number)
}

// GetMulticastKeys is like GetKeys; the SAEs in additional, too, can fetch the
// keys by their IDs ("additional_slave_SAE_IDs"). Any of them could then
// forge what the keys authenticate.
func (e *Client) GetMulticastKeys(
	ctx context.Context, peer string, additional []string, size, number int,
) ([]*kmclient.Key, error) {
	r := e.request
	r.Additional = additional
	return e.getKeys(ctx, r, peer, size, number)
}

func (e *Client) getKeys(ctx context.Context, r encRequest, peer string, size, number int) ([]*kmclient.Key, error) {
	r.Number, r.Size, r.peer = number, size, peer
	err := kmhttp.CheckAmount(size, number)
	if err == nil {
		r.path, err = saePath(peer, "enc_keys")
	}
	for _, sae := range r.Additional {
		if err == nil {
			_, err = saePath(sae, "enc_keys")
		}
	}
	if err != nil {
		return nil, &kmclient.Error{Op: kmhttp.OpGetKeys, Err: err}
	}
	keys, failed := e.getAnywhere(ctx, r)
	if failed != nil {
		return nil, failed
	}
	return keys, nil
}

// getAnywhere asks the KMEs in their order. A lost answer may have held keys,
// which are then gone; new ones are asked for once.
func (e *Client) getAnywhere(ctx context.Context, r encRequest) ([]*kmclient.Key, *kmclient.Error) {
	var failed *kmclient.Error
	anew := false
	order := e.order()
	for i := 0; i < len(order); i++ {
		keys, err := e.getFrom(ctx, order[i], r)
		if err == nil {
			return keys, nil
		}
		failed = graver(failed, err)
		switch last := i+1 == len(order); {
		case ctx.Err() != nil, err.Lost && anew, !err.Lost && !handedNone(err):
			return nil, failed
		case err.Lost && last:
			if e.pause(ctx) != nil {
				return nil, failed
			}
			order = append(order, order[i])
		}
		anew = anew || err.Lost
		e.noteFailover(order[i:], err)
	}
	return nil, failed
}

// handedNone reports whether another KME may do what one could not, which has
// given out no key.
func handedNone(e *kmclient.Error) bool {
	switch {
	case errors.Is(e, kmclient.ErrBadRequest), errors.Is(e, kmclient.ErrUnsupported): // it is the request that is wrong
		return false
	case e.Status/100 == 2: // keys came, and can't be used
		return errors.Is(e, kmclient.ErrKeyExhausted)
	}
	return true
}

// getFrom gets all keys from one KME.
func (e *Client) getFrom(ctx context.Context, k *kme, r encRequest) (keys []*kmclient.Key, failed *kmclient.Error) {
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
		if err != nil && errors.Is(err, kmclient.ErrLimit) && r.Number > 1 {
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
	err := kmclient.CheckFresh(keys, r.Size, number)
	if err == nil {
		err = e.handed.claim(r.peer, keys)
	}
	if err != nil {
		return keys, &kmclient.Error{Op: kmhttp.OpGetKeys, Status: http.StatusOK, Err: err}
	}
	e.ids.Note(keys)
	return keys, nil
}

// limitsFor returns the limits for a request, and an error if it exceeds them.
// A request for one key has no need to know them.
func (k *kme) limitsFor(ctx context.Context, r encRequest) (limits, *kmclient.Error) {
	if r.Number == 1 && len(r.Additional) == 0 {
		return limits{}, nil
	}
	l, failed := k.limitsOf(ctx, r.peer)
	var err error
	switch {
	case failed != nil:
		failed.Op = kmhttp.OpGetKeys
		return limits{}, failed
	case l.maxSize > 0 && r.Size > l.maxSize:
		err = fmt.Errorf("%w: key size %d: the KME gives keys of at most %d bits", kmclient.ErrBadRequest, r.Size, l.maxSize)
	case r.Size < l.minSize:
		err = fmt.Errorf("%w: key size %d: the KME gives keys of at least %d bits", kmclient.ErrBadRequest, r.Size, l.minSize)
	case l.known && l.additional == 0 && len(r.Additional) > 0:
		err = fmt.Errorf("%w: the KME gives no keys to several SAEs", kmclient.ErrUnsupported)
	case l.known && len(r.Additional) > l.additional:
		err = fmt.Errorf("%w: %d additional SAEs: the KME takes at most %d", kmclient.ErrBadRequest, len(r.Additional), l.additional)
	}
	if err != nil {
		return limits{}, &kmclient.Error{Op: kmhttp.OpGetKeys, Err: err}
	}
	return l, nil
}

// encKeys makes one request. It returns at least one key and at most as many
// as asked for, all of the right size, or an error.
func (e *Client) encKeys(ctx context.Context, k *kme, r encRequest) ([]*kmclient.Key, *kmclient.Error) {
	body, err := json.Marshal(r)
	if err != nil {
		return nil, &kmclient.Error{Op: kmhttp.OpGetKeys, Err: fmt.Errorf("%w: %w", kmclient.ErrBadRequest, err)}
	}
	q := kmhttp.Call{Op: kmhttp.OpGetKeys, Method: http.MethodPost, Path: r.path, Body: body, Limit: kmhttp.AnswerLimit(r.Size, r.Number)}
	code, answer, failed := k.ask(ctx, q)
	if failed != nil {
		e.noteRefusal(k, r, failed)
		return nil, failed
	}
	defer clear(answer)
	keys, err := kmhttp.DecodeKeyList(answer)
	switch {
	case err != nil:
		e.wasted.Add(int64(r.Number)) // or however many there were in what can't be read
		return nil, kmhttp.BadAnswer(q, code, answer, err)
	case len(keys) == 0:
		return nil, &kmclient.Error{Op: q.Op, Status: code, Retry: true, Err: fmt.Errorf("%w: an answer without keys", kmclient.ErrKeyExhausted)}
	default:
		err = kmclient.CheckFresh(keys, r.Size, r.Number)
	}
	if err != nil {
		e.waste(keys)
		return nil, kmhttp.BadAnswer(q, code, answer, err)
	}
	return keys, nil
}

// noteRefusal draws the conclusions from a request that brought no keys.
func (e *Client) noteRefusal(k *kme, r encRequest, failed *kmclient.Error) {
	switch {
	case failed.Lost:
		e.burned.Add(int64(r.Number))
		e.logger.Warn("the answer to a request for keys was lost: the KME may have given them out",
			"kme", k.name, "peer", r.peer, "keys", r.Number, "bits", r.Size, "error", failed)
	case errors.Is(failed, kmclient.ErrBadAnswer) && failed.Status/100 == 2: // too large
		e.wasted.Add(int64(r.Number))
	case errors.Is(failed, kmclient.ErrBadRequest):
		k.forget(r.peer)
	}
}

// waste wipes keys that nobody will use.
func (e *Client) waste(keys []*kmclient.Key) {
	kmclient.WipeAll(keys)
	e.wasted.Add(int64(len(keys)))
}
