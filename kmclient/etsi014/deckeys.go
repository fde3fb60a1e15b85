package etsi014

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/internal/kmhttp"
	"github.com/qkdmail/qkdmail/kmclient/internal/redact"
)

// A lookup asks for the keys with some IDs.
type lookup struct {
	peer, path string
	ids        []string
	found      map[string]*kmclient.Key // by canonical ID
}

// missing returns the IDs of the keys that have not been found.
func (l *lookup) missing() []string {
	return slices.DeleteFunc(slices.Clone(l.ids), func(id string) bool { return l.found[kmclient.CanonicalID(id)] != nil })
}

// KeysByID fetches the keys that peer encrypted with, of at most kmclient.MaxRequestKeys
// IDs that are all different, in as many requests as the KME's limits make
// necessary. If some are not found, the others are not lost: they wait in
// memory, up to an hour, for a call that asks for them again. So do all of
// them if ctx ends before they arrive, and those of an answer that is refused,
// as for a key in it that was not asked for. [Client.KeepWith] makes more of
// that.
func (e *Client) KeysByID(ctx context.Context, peer string, ids ...string) ([]*kmclient.Key, error) {
	path, err := saePath(peer, "dec_keys")
	if err == nil {
		err = kmclient.CheckIDs(ids)
	}
	if err != nil {
		return nil, &kmclient.Error{Op: kmhttp.OpKeysByID, Err: err}
	}
	if ctx.Err() != nil {
		return nil, gaveUp(ctx)
	}
	l := &lookup{peer: peer, path: path, ids: ids}
	result := make(chan *kmclient.Error)
	go func() {
		failed := e.lookUp(ctx, l)
		select {
		case result <- failed:
		case <-ctx.Done():
			e.setAside(l.peer, l.found)
		}
	}()
	select {
	case failed := <-result:
		return e.deliver(l, failed)
	case <-ctx.Done():
		return nil, gaveUp(ctx)
	}
}

// gaveUp is the error for a caller whose ctx has ended.
func gaveUp(ctx context.Context) *kmclient.Error {
	return &kmclient.Error{Op: kmhttp.OpKeysByID, Retry: true, Err: kmclient.GaveUp(ctx)}
}

// deliver hands out the keys of a look-up in the order of its IDs, if it has
// found all.
func (e *Client) deliver(l *lookup, failed *kmclient.Error) ([]*kmclient.Key, error) {
	if failed != nil {
		e.setAside(l.peer, l.found)
		return nil, failed
	}
	keys := make([]*kmclient.Key, 0, len(l.ids))
	for _, id := range l.ids {
		keys = append(keys, l.found[kmclient.CanonicalID(id)])
	}
	if err := kmclient.CheckKeys(keys, 0, len(keys)); err != nil {
		e.rescue(l.peer, keys)
		return nil, &kmclient.Error{Op: kmhttp.OpKeysByID, Status: http.StatusOK, Err: err}
	}
	return keys, nil
}

// lookUp asks the KMEs for the keys that are missing. A KME refuses a request
// as a whole: if some of the keys are at another one of this site, or if it
// takes fewer IDs than its status says, they have to be asked for one by one.
func (e *Client) lookUp(ctx context.Context, l *lookup) *kmclient.Error {
	l.found = e.kept.take(l.peer, l.ids)
	failed := e.ask(ctx, l)
	missing := l.missing()
	if failed == nil || len(missing) < 2 || !errors.Is(failed, kmclient.ErrBadRequest) && (len(e.kmes) == 1 || !errors.Is(failed, kmclient.ErrKeyNotFound)) {
		return failed
	}
	for _, id := range missing { // ends with the first that no KME has
		one := &lookup{peer: l.peer, path: l.path, ids: []string{id}, found: map[string]*kmclient.Key{}}
		err := e.ask(ctx, one)
		maps.Copy(l.found, one.found)
		if err == nil {
			err = e.secure(l, one.found)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// ask asks the KMEs in their order for the keys that are missing, and then once
// more those whose answer was lost or that were busy. A request that has begun
// goes on to its end even if its caller gives up: its answer may be the only
// copy of the keys.
func (e *Client) ask(ctx context.Context, l *lookup) *kmclient.Error {
	order := e.order()
	last := make(map[*kme]*kmclient.Error, len(order))
	lost := false
	for round := 1; round <= 2; round++ {
		var again []*kme
		for i, k := range order {
			err := e.lookUpAt(ctx, k, l)
			if err == nil || ctx.Err() != nil || errors.Is(err, kmclient.ErrStore) {
				return err
			}
			last[k] = err
			lost = lost || err.Lost
			if err.Lost || err.Status == http.StatusServiceUnavailable {
				again = append(again, k)
			}
			e.noteFailover(order[i:], err)
		}
		if order = again; len(order) == 0 || e.pause(ctx) != nil {
			break
		}
	}
	return e.notFound(l, last, lost)
}

// notFound returns the error to tell of those that the KMEs gave last. lost
// says that an answer was lost, maybe with keys in it.
func (e *Client) notFound(l *lookup, last map[*kme]*kmclient.Error, lost bool) *kmclient.Error {
	var failed *kmclient.Error
	for _, k := range e.kmes {
		failed = graver(failed, last[k])
	}
	if lost && errors.Is(failed, kmclient.ErrKeyNotFound) {
		missing := len(l.missing())
		e.gone.Add(int64(missing))
		failed.Err = fmt.Errorf("%w, after an answer that may have held it was lost", failed.Err)
		e.logger.Warn("keys are gone: the KME does not know them after an answer was lost", "peer", l.peer, "keys", missing)
	}
	return failed
}

// lookUpAt asks one KME for the keys that are missing.
func (e *Client) lookUpAt(ctx context.Context, k *kme, l *lookup) *kmclient.Error {
	missing := l.missing()
	batch := max(len(missing), 1)
	if batch > 1 {
		limits, failed := k.limitsOf(ctx, l.peer)
		if failed != nil && failed.Status == 0 {
			failed.Op = kmhttp.OpKeysByID
			return failed
		}
		batch = limits.batch(batch)
	}
	for ids := range slices.Chunk(missing, batch) {
		found, err := e.decKeys(context.WithoutCancel(ctx), k, l, ids)
		maps.Copy(l.found, found)
		if err == nil {
			err = e.secure(l, found)
		}
		switch {
		case err != nil:
			return err
		case len(found) < len(ids):
			return &kmclient.Error{Op: kmhttp.OpKeysByID, Status: http.StatusOK,
				Err: fmt.Errorf("%w: %d of %d keys came", kmclient.ErrKeyNotFound, len(found), len(ids))}
		case ctx.Err() != nil && len(l.missing()) > 0:
			return gaveUp(ctx)
		}
	}
	return nil
}

// decKeys makes one request for keys that are named by their IDs. Fewer may
// come, but none that was not asked for.
func (e *Client) decKeys(ctx context.Context, k *kme, l *lookup, ids []string) (map[string]*kmclient.Key, *kmclient.Error) {
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
	code, answer, failed := k.ask(ctx, q)
	if failed != nil {
		switch {
		case errors.Is(failed, kmclient.ErrBadRequest):
			k.forget(l.peer)
		case failed.Status/100 == 2: // too large
			e.wasted.Add(int64(len(ids)))
		}
		return nil, failed
	}
	defer clear(answer)
	keys, err := kmhttp.DecodeKeyList(answer)
	if err != nil {
		e.wasted.Add(int64(len(ids)))
		return nil, kmhttp.BadAnswer(q, code, answer, err)
	}
	found, err := match(keys, ids)
	if err != nil {
		e.rescue(l.peer, keys)
		return nil, kmhttp.BadAnswer(q, code, answer, err)
	}
	e.handed.note(l.peer, keys)
	return found, nil
}

// match returns keys by their canonical IDs, having checked them; ids are
// those asked for.
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

// decLimit is answerLimit for number keys of unknown size.
func decLimit(number int) int64 {
	return min(kmhttp.AnswerLimit(kmclient.MaxRequestSize, number), kmhttp.AnswerLimit(kmhttp.MaxRequestOctets*8, 1)+int64(number)<<10)
}
