package etsi014

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/internal/kmhttp"
	"github.com/qkdmail/qkdmail/kmclient/internal/redact"
)

// A lookup is one call of KeysByID, and what has come of it so far.
type lookup struct {
	peer, path string
	found      map[string]*kmclient.Key // keys that were asked for, by canonical ID
	others     []*kmclient.Key          // from a refused answer, under the IDs that they came with
}

// missing returns the ids whose keys have not been found.
func (l *lookup) missing(ids []string) []string {
	return slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return l.found[kmclient.CanonicalID(id)] != nil })
}

// arrived returns the keys that came: those with these IDs, in this order, and
// then the others.
func (l *lookup) arrived(ids []string) (keys []*kmclient.Key) {
	for _, id := range ids {
		if k := l.found[kmclient.CanonicalID(id)]; k != nil {
			keys = append(keys, k)
		}
	}
	return append(keys, l.others...)
}

// KeysByID fetches the keys that peer encrypted with (ETSI GS QKD 014 §5.3, dec_keys):
// at most kmclient.MaxRequestKeys IDs, all different, in as many requests as the KME's
// limits require.
//
// A KME deletes what it gives out, so keys that arrived are returned even with an
// error: those that came before a failure or the end of ctx, and those in a refused
// answer, under the IDs that they came with. They are whole, and the caller stores or
// wipes them. A keystore.Store does this; without one, a call that is cancelled or
// answered in part loses keys.
func (c *Client) KeysByID(ctx context.Context, peer string, ids ...string) ([]*kmclient.Key, error) {
	path, err := Path(peer, "dec_keys")
	if err == nil {
		err = kmclient.CheckIDs(ids)
	}
	if err != nil {
		return nil, &kmclient.Error{Op: kmhttp.OpKeysByID, Err: err}
	}
	if ctx.Err() != nil {
		return nil, &kmclient.Error{Op: kmhttp.OpKeysByID, Retry: true, Err: kmclient.Canceled(ctx)}
	}
	l := &lookup{peer: peer, path: path, found: make(map[string]*kmclient.Key, len(ids))}
	failed := c.lookUp(ctx, l, ids)
	keys := l.arrived(ids)
	if failed != nil {
		return keys, failed
	}
	if err := kmclient.CheckKeys(keys, 0, len(ids)); err != nil {
		return keys, &kmclient.Error{Op: kmhttp.OpKeysByID, Status: http.StatusOK, Err: err}
	}
	return keys, nil
}

// lookUp asks the KMEs for keys. A KME refuses a request as a whole. So if some of the
// keys are at another KME of this site, or if the KME takes fewer IDs than its status
// says, lookUp asks for them one by one.
func (c *Client) lookUp(ctx context.Context, l *lookup, ids []string) *kmclient.Error {
	failed := c.ask(ctx, l, ids)
	if failed == nil || len(l.others) > 0 {
		return failed
	}
	missing := l.missing(ids)
	elsewhere := len(c.kmes) > 1 && errors.Is(failed, kmclient.ErrKeyNotFound)
	if len(missing) < 2 || !elsewhere && !errors.Is(failed, kmclient.ErrBadRequest) && !refusesMethod(failed) {
		return failed
	}
	for _, id := range missing { // ends at the first that no KME has
		if failed := c.ask(ctx, l, []string{id}); failed != nil {
			return failed
		}
	}
	return nil
}

// ask asks the KMEs in order for the ids that are missing. Then it asks once more those
// KMEs whose answer was lost or that were busy.
func (c *Client) ask(ctx context.Context, l *lookup, ids []string) *kmclient.Error {
	order := c.order()
	last := make(map[*kme]*kmclient.Error, len(order))
	lost := false
	for round := 1; round <= 2; round++ {
		var again []*kme
		for i, k := range order {
			err := c.lookUpAt(ctx, k, l, l.missing(ids))
			if err == nil || ctx.Err() != nil || len(l.others) > 0 { // l.others can only be returned with an error
				return err
			}
			last[k] = err
			lost = lost || err.Lost
			if err.Lost || err.Status == http.StatusServiceUnavailable {
				again = append(again, k)
			}
			c.noteFailover(order[i:], err)
		}
		if order = again; len(order) == 0 || c.pause(ctx) != nil {
			break
		}
	}
	return c.notFound(l, last, len(l.missing(ids)), lost)
}

// notFound picks the error to report from the last ones of all KMEs, with this many
// keys missing. lost means that an answer was lost, maybe with keys in it.
func (c *Client) notFound(l *lookup, last map[*kme]*kmclient.Error, missing int, lost bool) *kmclient.Error {
	var failed *kmclient.Error
	for _, k := range c.kmes {
		failed = graver(failed, last[k])
	}
	if lost && errors.Is(failed, kmclient.ErrKeyNotFound) {
		c.gone.Add(int64(missing))
		failed.Err = fmt.Errorf("%w, after an answer that may have held it was lost", failed.Err)
		c.logger.Warn("keys are gone: an answer was lost, and the KME no longer knows them", "peer", l.peer, "keys", missing)
	}
	return failed
}

// lookUpAt asks one KME for keys.
func (c *Client) lookUpAt(ctx context.Context, k *kme, l *lookup, ids []string) *kmclient.Error {
	batch := max(len(ids), 1)
	if k.dec.getOnly.Load() {
		batch = 1
	}
	if batch > 1 {
		limits, failed := k.limitsOf(ctx, l.peer)
		if failed != nil && failed.Status == 0 {
			failed.Op = kmhttp.OpKeysByID
			return failed
		}
		batch = limits.batch(batch)
	}
	for some := range slices.Chunk(ids, batch) {
		found, err := c.decKeys(ctx, k, l, some)
		if err != nil {
			return err
		}
		maps.Copy(l.found, found)
		if len(found) < len(some) {
			return &kmclient.Error{Op: kmhttp.OpKeysByID, Status: http.StatusOK,
				Err: fmt.Errorf("%w: %d of %d keys came", kmclient.ErrKeyNotFound, len(found), len(some))}
		}
	}
	return nil
}

// decKeys makes one request for the keys with these IDs. Fewer may come, but none that
// was not asked for.
func (c *Client) decKeys(ctx context.Context, k *kme, l *lookup, ids []string) (map[string]*kmclient.Key, *kmclient.Error) {
	type keyID struct {
		ID string `json:"key_ID"`
	}
	var request struct {
		IDs []keyID `json:"key_IDs"`
	}
	for _, id := range ids {
		request.IDs = append(request.IDs, keyID{id})
	}
	body, err := json.Marshal(request)
	if err != nil {
		return nil, &kmclient.Error{Op: kmhttp.OpKeysByID, Err: fmt.Errorf("%w: %w", kmclient.ErrBadRequest, err)}
	}
	q := kmhttp.Call{Op: kmhttp.OpKeysByID, Method: http.MethodPost, Path: l.path, Body: body, Limit: decLimit(len(ids)), IDs: ids}
	var query url.Values
	if len(ids) == 1 {
		query = url.Values{"key_ID": ids}
	}
	code, answer, failed := k.askForKeys(ctx, &k.dec, q, query)
	if failed != nil {
		switch {
		case errors.Is(failed, kmclient.ErrBadRequest):
			k.forget(l.peer)
		case failed.Status/100 == 2: // too large
			c.wasted.Add(int64(len(ids)))
		}
		return nil, failed
	}
	defer clear(answer)
	keys, err := kmhttp.DecodeKeyList(answer)
	if err != nil {
		c.wasted.Add(int64(max(len(ids)-len(keys), 0)))
		c.salvage(l, keys)
		return nil, kmhttp.BadAnswer(q, code, answer, err)
	}
	found, err := match(keys, ids)
	if err != nil {
		c.salvage(l, keys)
		return nil, kmhttp.BadAnswer(q, code, answer, err)
	}
	c.given.note(l.peer, keys)
	return found, nil
}

// salvage keeps the usable keys of a refused answer, since the KME no longer has them.
// A KME that reads IDs differently than we do answers with another message's key.
func (c *Client) salvage(l *lookup, keys []*kmclient.Key) {
	seen := make(map[string]bool, len(keys))
	for _, k := range keys {
		id := kmclient.CanonicalID(k.ID())
		if seen[id] || kmclient.CheckKeys([]*kmclient.Key{k}, 0, 1) != nil {
			c.waste([]*kmclient.Key{k})
			continue
		}
		seen[id] = true
		l.others = append(l.others, k)
	}
	c.given.note(l.peer, l.others)
}

// match checks keys and returns them by their canonical IDs; ids are those asked for.
func match(keys []*kmclient.Key, ids []string) (map[string]*kmclient.Key, error) {
	if err := kmclient.CheckKeys(keys, 0, len(keys)); err != nil {
		return nil, err
	}
	asked := make(map[string]bool, len(ids))
	for _, id := range ids {
		asked[kmclient.CanonicalID(id)] = true
	}
	found := make(map[string]*kmclient.Key, len(keys))
	for _, k := range keys {
		id := kmclient.CanonicalID(k.ID())
		if !asked[id] {
			return nil, fmt.Errorf("%w: key %s, which was not asked for", kmclient.ErrBadAnswer, redact.ID(k.ID()))
		}
		found[id] = k
	}
	return found, nil
}

// decLimit is AnswerLimit, in bytes, for number keys of unknown size.
func decLimit(number int) int64 {
	return min(kmhttp.AnswerLimit(kmclient.MaxRequestSize, number), kmhttp.AnswerLimit(kmhttp.MaxRequestBytes*8, 1)+int64(number)<<10)
}
