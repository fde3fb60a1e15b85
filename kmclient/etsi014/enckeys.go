package etsi014

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"

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

// query returns the request in the form for GET, or nil if that form can't express it.
func (r encRequest) query() url.Values {
	if len(r.Additional)+len(r.Mandatory)+len(r.Optional) > 0 {
		return nil
	}
	return url.Values{"number": {strconv.Itoa(r.Number)}, "size": {strconv.Itoa(r.Size)}}
}

// GetKeys fetches fresh keys (enc_keys, ETSI GS QKD 014 §5.2): at most
// kmclient.MaxRequestKeys of at most kmclient.MaxRequestSize bits, and 64 MiB in all.
// It makes as many requests as the limits of the KME require. If one of them fails, it
// returns the keys from those before.
func (c *Client) GetKeys(ctx context.Context, peer string, size, number int) ([]*kmclient.Key, error) {
	return c.getKeys(ctx, c.request, peer, size, number)
}

// GetKeysWith is GetKeys with more elements of "extension_mandatory" (ETSI GS QKD
// 014 §6.2): objects that the KME must honor, or else refuse the request.
func (c *Client) GetKeysWith(ctx context.Context, peer string, mandatory []any, size, number int) ([]*kmclient.Key, error) {
	r := c.request
	r.Mandatory = slices.Concat(r.Mandatory, mandatory)
	return c.getKeys(ctx, r, peer, size, number)
}

// GetMulticastKeys is GetKeys for keys that the SAEs in additional can also fetch by
// their IDs ("additional_slave_SAE_IDs", §6.2). Each of these SAEs can forge what the
// keys authenticate.
func (c *Client) GetMulticastKeys(
	ctx context.Context, peer string, additional []string, size, number int,
) ([]*kmclient.Key, error) {
	r := c.request
	r.Additional = additional
	return c.getKeys(ctx, r, peer, size, number)
}

func (c *Client) getKeys(ctx context.Context, r encRequest, peer string, size, number int) ([]*kmclient.Key, error) {
	r.Number, r.Size, r.peer = number, size, peer
	err := kmhttp.CheckAmount(size, number)
	if err == nil {
		r.path, err = Path(peer, "enc_keys")
	}
	for _, sae := range r.Additional {
		if err == nil {
			_, err = Path(sae, "enc_keys")
		}
	}
	if err != nil {
		return nil, &kmclient.Error{Op: kmhttp.OpGetKeys, Err: err}
	}
	keys, failed := c.getAnywhere(ctx, r)
	if failed != nil {
		return nil, failed
	}
	return keys, nil
}

// getAnywhere asks the KMEs in order. After a lost answer, whose keys may be gone, it
// asks for new ones, once.
func (c *Client) getAnywhere(ctx context.Context, r encRequest) ([]*kmclient.Key, *kmclient.Error) {
	var failed *kmclient.Error
	anew := false
	order := c.order()
	for i := 0; i < len(order); i++ {
		keys, err := c.getFrom(ctx, order[i], r)
		if err == nil {
			return keys, nil
		}
		failed = graver(failed, err)
		switch last := i+1 == len(order); {
		case ctx.Err() != nil, err.Lost && anew, !err.Lost && !gaveNone(err):
			return nil, failed
		case err.Lost && last:
			if c.pause(ctx) != nil {
				return nil, failed
			}
			order = append(order, order[i])
		}
		anew = anew || err.Lost
		c.noteFailover(order[i:], err)
	}
	return nil, failed
}

// gaveNone reports whether a failed KME gave out no key and another one may serve the
// same request.
func gaveNone(e *kmclient.Error) bool {
	switch {
	case errors.Is(e, kmclient.ErrBadRequest), errors.Is(e, kmclient.ErrUnsupported): // the request itself is wrong
		return false
	case e.Status/100 == 2: // keys came that can't be used
		return errors.Is(e, kmclient.ErrKeyExhausted)
	}
	return true
}

// getFrom gets all keys from one KME.
func (c *Client) getFrom(ctx context.Context, k *kme, r encRequest) (keys []*kmclient.Key, failed *kmclient.Error) {
	defer func() {
		if failed != nil {
			c.waste(keys)
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
		some, err := c.encKeys(ctx, k, r)
		if err != nil && errors.Is(err, kmclient.ErrLimit) && r.Number > 1 {
			most = r.Number / 2 // there is a limit that its status does not name
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
		err = c.given.claim(r.peer, keys)
	}
	if err != nil {
		return keys, &kmclient.Error{Op: kmhttp.OpGetKeys, Status: http.StatusOK, Err: err}
	}
	c.ids.Note(keys)
	return keys, nil
}

// encKeys makes one request. It returns at least one key and at most as many as
// asked for, all of the right size, or an error.
func (c *Client) encKeys(ctx context.Context, k *kme, r encRequest) ([]*kmclient.Key, *kmclient.Error) {
	body, err := json.Marshal(r)
	if err != nil {
		return nil, &kmclient.Error{Op: kmhttp.OpGetKeys, Err: fmt.Errorf("%w: %w", kmclient.ErrBadRequest, err)}
	}
	q := kmhttp.Call{Op: kmhttp.OpGetKeys, Method: http.MethodPost, Path: r.path, Body: body, Limit: kmhttp.AnswerLimit(r.Size, r.Number)}
	code, answer, failed := k.askForKeys(ctx, &k.enc, q, r.query())
	if failed != nil {
		c.noteRefusal(k, r, failed)
		return nil, failed
	}
	defer clear(answer)
	keys, err := kmhttp.DecodeKeyList(answer)
	switch {
	case err != nil:
		c.wasted.Add(int64(r.Number)) // as far as we know: the answer can't be read
		return nil, kmhttp.BadAnswer(q, code, answer, err)
	case len(keys) == 0:
		return nil, &kmclient.Error{Op: q.Op, Status: code, Retry: true, Err: fmt.Errorf("%w: an answer without keys", kmclient.ErrKeyExhausted)}
	default:
		err = kmclient.CheckFresh(keys, r.Size, r.Number)
	}
	if err != nil {
		c.waste(keys)
		return nil, kmhttp.BadAnswer(q, code, answer, err)
	}
	return keys, nil
}

// noteRefusal counts the keys that are lost with a failed request, and forgets the
// limits that it may have exceeded.
func (c *Client) noteRefusal(k *kme, r encRequest, failed *kmclient.Error) {
	switch {
	case failed.Lost:
		c.burned.Add(int64(r.Number))
		c.logger.Warn("the answer to a key request was lost: the KME may have given the keys out",
			"kme", k.name, "peer", r.peer, "keys", r.Number, "bits", r.Size, "error", failed)
	case errors.Is(failed, kmclient.ErrBadAnswer) && failed.Status/100 == 2: // too large
		c.wasted.Add(int64(r.Number))
	case errors.Is(failed, kmclient.ErrBadRequest):
		k.forget(r.peer)
	}
}

// waste wipes and counts keys that can't be used.
func (c *Client) waste(keys []*kmclient.Key) {
	kmclient.WipeAll(keys)
	c.wasted.Add(int64(len(keys)))
}
