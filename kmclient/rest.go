package kmclient

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"time"
)

// What a client of the QMail REST API asks for in one call, at most. Above, an
// answer would need more memory than a mail system should give to keys.
const (
	MaxRequestKeys = 4096    // keys
	MaxRequestSize = 8 << 20 // bits of one key

	maxRequestOctets = 64 << 20 // of all keys of one call together
	statusLimit      = 64 << 10 // octets of a status
)

// The operations, as Error.Op names them.
const (
	operationStatus   = "status"
	operationGetKeys  = "get keys"
	operationKeysByID = "keys by ID"
	operationCloseKey = "close key"
	operationListKeys = "list keys"
)

// RESTOptions says where a key manager with the QMail REST API is.
type RESTOptions struct {
	// URL is http://HOST:PORT or https://HOST:PORT; a path, beneath which
	// the API is, may follow.
	URL string
	// CAFile is a PEM file with the CAs to trust instead of the system's; only
	// with https.
	CAFile string
	// Timeout is for one request, connecting included; 30 seconds if zero. The
	// caller's context can only shorten it.
	Timeout time.Duration
	// ExtensionMandatory is sent with requests for keys as
	// "extension_mandatory", if not empty: names, or objects. GetKeysWith has
	// more for one request.
	ExtensionMandatory []any
}

// REST is a client of the QMail REST API. Its key manager knows no SAEs: peer
// is ignored. Keys stay at the key manager until [REST.CloseKey].
//
// Status and look-ups by ID are tried a second time after what may have been a
// hiccup of the network or of a gateway; getting and closing keys never are.
type REST struct {
	caller     *caller
	extensions []any
	ids        idBytes
}

var _ KeyManager = (*REST)(nil)

// NewREST returns a client; it connects to nothing yet. Options that make no
// sense are an ErrConfig.
func NewREST(o RESTOptions) (*REST, error) {
	base, secure, err := checkBase(o.URL)
	if err != nil {
		return nil, err
	}
	if o.CAFile != "" && !secure {
		return nil, fmt.Errorf("%w: CA file %s: it needs an https URL", ErrConfig, o.CAFile)
	}
	if _, err := json.Marshal(o.ExtensionMandatory); err != nil {
		return nil, fmt.Errorf("%w: mandatory extensions: %w", ErrConfig, err)
	}
	tlsConfig, err := loadTLS(o.CAFile)
	if err != nil {
		return nil, err
	}
	return &REST{caller: newCaller(base, tlsConfig, o.Timeout), extensions: o.ExtensionMandatory}, nil
}

// CloseIdle closes the connections that no request is using.
func (r *REST) CloseIdle() { r.caller.http.CloseIdleConnections() }

// Status reports what the key manager says of itself.
func (r *REST) Status(ctx context.Context, _ string) (Status, error) {
	q := call{op: operationStatus, method: http.MethodGet, path: "/api/v1/status", limit: statusLimit, again: true}
	code, body, failed := r.caller.do(ctx, q)
	if failed != nil {
		return Status{}, failed
	}
	s, err := decodeStatus(body)
	if err != nil {
		return Status{}, badAnswer(q, code, body, err)
	}
	s.KeyIDBytes = int(r.ids.Load())
	return s, nil
}

// GetKeys fetches fresh keys: at most MaxRequestKeys, of MaxRequestSize bits,
// and 64 MiB together. If the key manager gives fewer than asked for, it is asked for
// the others; if it refuses these, the keys that came are all that there are.
func (r *REST) GetKeys(ctx context.Context, peer string, size, number int) ([]*Key, error) {
	return r.GetKeysWith(ctx, peer, nil, size, number)
}

// GetKeysWith is like GetKeys; mandatory are further elements of
// "extension_mandatory", which the key manager must meet or refuse.
func (r *REST) GetKeysWith(ctx context.Context, _ string, mandatory []any, size, number int) (keys []*Key, err error) {
	if err := checkAmount(size, number); err != nil {
		return nil, &Error{Op: operationGetKeys, Err: err}
	}
	defer func() {
		if err != nil {
			WipeAll(keys)
			keys = nil
		}
	}()
	for len(keys) < number { // a key manager may give fewer than asked for
		some, err := r.getKeys(ctx, mandatory, size, number-len(keys))
		if err != nil && len(keys) > 0 {
			break
		}
		if err != nil {
			return keys, err
		}
		keys = append(keys, some...)
	}
	if err := CheckFresh(keys, size, number); err != nil {
		return keys, &Error{Op: operationGetKeys, Status: http.StatusOK, Err: err}
	}
	r.ids.note(keys)
	return keys, nil
}

// getKeys makes one request. It returns at least one key and at most as many as
// asked for, all of the right size, or an error.
func (r *REST) getKeys(ctx context.Context, mandatory []any, size, number int) ([]*Key, error) {
	request, err := json.Marshal(struct {
		Size       int   `json:"key_size"`
		Number     int   `json:"number"`
		Extensions []any `json:"extension_mandatory,omitempty"`
	}{size, number, slices.Concat(r.extensions, mandatory)})
	if err != nil {
		return nil, &Error{Op: operationGetKeys, Err: fmt.Errorf("%w: %w", ErrBadRequest, err)}
	}
	q := call{op: operationGetKeys, method: http.MethodPost, path: "/api/v1/keys/get", body: request,
		limit: answerLimit(size, number)}
	code, body, failed := r.caller.do(ctx, q)
	if failed != nil {
		return nil, failed
	}
	defer clear(body)
	keys, err := decodeKeys(body, size, number)
	if err != nil {
		return nil, badAnswer(q, code, body, err)
	}
	return keys, nil
}

// KeysByID fetches stored keys, one request each, of at most MaxRequestKeys
// IDs that are all different.
func (r *REST) KeysByID(ctx context.Context, _ string, ids ...string) (keys []*Key, err error) {
	if err := checkIDs(ids); err != nil {
		return nil, &Error{Op: operationKeysByID, Err: err}
	}
	paths := make([]string, len(ids))
	for i, id := range ids {
		if paths[i], err = keyPath(id); err != nil {
			return nil, &Error{Op: operationKeysByID, Err: err}
		}
	}
	defer func() {
		if err != nil {
			WipeAll(keys)
			keys = nil
		}
	}()
	for i, id := range ids {
		k, err := r.keyByID(ctx, paths[i], id)
		if err != nil {
			return keys, err
		}
		keys = append(keys, k)
	}
	if err := CheckKeys(keys, 0, len(ids)); err != nil {
		return keys, &Error{Op: operationKeysByID, Status: http.StatusOK, Err: err}
	}
	return keys, nil
}

func (r *REST) keyByID(ctx context.Context, path, id string) (*Key, error) {
	q := call{op: operationKeysByID, method: http.MethodGet, path: path, limit: answerLimit(MaxRequestSize, 1),
		again: true, ids: []string{id}}
	code, body, failed := r.caller.do(ctx, q)
	if failed != nil {
		return nil, failed
	}
	defer clear(body)
	k, err := decodeKey(body, id)
	if err != nil {
		return nil, badAnswer(q, code, body, err)
	}
	return k, nil
}

// CloseKey deletes a key at the key manager.
func (r *REST) CloseKey(ctx context.Context, id string) error {
	path, err := keyPath(id)
	if err != nil {
		return &Error{Op: operationCloseKey, Err: err}
	}
	q := call{op: operationCloseKey, method: http.MethodDelete, path: path, limit: errorLimit, ids: []string{id}}
	_, body, failed := r.caller.do(ctx, q)
	if failed != nil {
		return failed
	}
	clear(body) // a key manager may show once more what it has deleted
	return nil
}

// keyPath returns the path of one key. The ID comes from a message, so it must
// not lead to another path: PathEscape encodes everything that could, but
// servers and gateways that decode before they resolve "..", as many do, would
// climb all the same. An ID of that kind is refused.
func keyPath(id string) (string, error) {
	if err := CheckID(id); err != nil {
		return "", err
	}
	if climbs(id) {
		return "", fmt.Errorf("%w: key ID %q: a dot or two between slashes", ErrBadKey, id)
	}
	return "/api/v1/keys/" + url.PathEscape(id), nil
}

// checkAmount reports whether number keys of size bits can be asked for.
func checkAmount(size, number int) error {
	if err := CheckSize(size); err != nil {
		return err
	}
	switch {
	case number < 1 || number > MaxRequestKeys:
		return fmt.Errorf("%w: %d keys: must be 1 to %d", ErrBadRequest, number, MaxRequestKeys)
	case size > MaxRequestSize:
		return fmt.Errorf("%w: key size %d: must be at most %d bits", ErrBadRequest, size, MaxRequestSize)
	case size/8*number > maxRequestOctets:
		return fmt.Errorf("%w: %d keys of %d bits: over %d octets together", ErrBadRequest, number, size, maxRequestOctets)
	}
	return nil
}

// checkIDs reports whether ids can be asked for.
func checkIDs(ids []string) error {
	if len(ids) < 1 || len(ids) > MaxRequestKeys {
		return fmt.Errorf("%w: %d key IDs: must be 1 to %d", ErrBadRequest, len(ids), MaxRequestKeys)
	}
	seen := make(map[string]struct{}, len(ids))
	for _, id := range ids {
		if err := CheckID(id); err != nil {
			return err
		}
		seen[CanonicalID(id)] = struct{}{}
	}
	if len(seen) != len(ids) {
		return fmt.Errorf("%w: the same key ID twice", ErrBadRequest)
	}
	return nil
}

// answerLimit returns how many octets an answer with number keys of size bits
// may have: base64, the names and ID around it, and some white space.
func answerLimit(size, number int) int64 {
	return int64(number)*(int64(size)/8*4/3+1<<10) + 64<<10
}

// badAnswer is the error for a 2xx answer that can't be used. What the key
// manager says in it is worth telling: some say "error" and 200.
func badAnswer(q call, status int, body []byte, err error) *Error {
	e := &Error{Op: q.op, Status: status, Err: err, Retry: errors.Is(err, ErrKeyExhausted)}
	if root, isJSON := parseWords(body); isJSON && errors.Is(err, ErrBadAnswer) {
		e.Message = show(messageOf(root), q.ids)
	}
	return e
}
