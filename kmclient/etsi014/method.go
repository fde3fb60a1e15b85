package etsi014

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"sync/atomic"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/internal/kmhttp"
)

// A method records which HTTP methods a KME serves for an operation.
type method struct {
	getOnly atomic.Bool // it has refused POST, and served GET the last time
	post    atomic.Bool // it has served POST
}

// askForKeys sends a request for keys as POST. If the KME refuses POST, it sends the
// query with GET instead (ETSI GS QKD 014 §5.2, §5.3), and stays with GET only as long
// as that is served: a stand-in for a KME that is down may refuse POST too. query is
// nil if GET can't express the request. A refused POST gives out no keys, so nothing is
// lost. A GET does give out keys, so nothing may repeat it unseen.
func (k *kme) askForKeys(ctx context.Context, m *method, q kmhttp.Call, query url.Values) (int, []byte, *kmclient.Error) {
	get := q
	get.Method, get.Body, get.Path, get.Once = http.MethodGet, nil, q.Path+"?"+query.Encode(), true
	if query != nil && m.getOnly.Load() {
		code, answer, failed := k.ask(ctx, get)
		m.getOnly.Store(failed == nil) // else the KME may have changed: the next request is tried as POST
		if !refusesMethod(failed) {
			return code, answer, failed
		}
	}
	code, answer, failed := k.ask(ctx, q)
	if failed == nil {
		m.post.Store(true)
		return code, answer, nil
	}
	if query == nil || !refusesMethod(failed) && !m.mayReadOtherwise(q, failed) {
		return code, answer, failed
	}
	getCode, getAnswer, getFailed := k.ask(ctx, get)
	if getFailed != nil && !getFailed.Lost && (refusesMethod(getFailed) || !refusesMethod(failed) && !errors.Is(getFailed, kmclient.ErrKeyNotFound)) {
		return code, answer, failed // GET says no more
	}
	m.getOnly.Store(getFailed == nil)
	return getCode, getAnswer, getFailed
}

// mayReadOtherwise reports whether a KME that calls a request malformed may want key
// IDs in another form than the standard's. Then GET, with one ID, may work.
func (m *method) mayReadOtherwise(q kmhttp.Call, failed *kmclient.Error) bool {
	return q.Op == kmhttp.OpKeysByID && !m.post.Load() && failed.Status == http.StatusBadRequest && errors.Is(failed, kmclient.ErrBadRequest)
}

// refusesMethod reports whether a KME does not serve this method at this path.
func refusesMethod(failed *kmclient.Error) bool {
	return failed != nil && (failed.Status == http.StatusMethodNotAllowed || failed.Status == http.StatusNotImplemented)
}
