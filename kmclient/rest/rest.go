// Package rest is a client of the QMail REST API, over HTTP or HTTPS.
package rest

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/internal/kmhttp"
)

// Options say where a key manager with the QMail REST API is.
type Options struct {
	// URL is http://HOST:PORT or https://HOST:PORT, with or without a base path.
	URL string
	// CAFile is a PEM file with the CAs to trust instead of the system's; only
	// with https.
	CAFile string
	// Timeout is for one request, including connecting; 30 seconds if zero. The context
	// of a call can only shorten it.
	Timeout time.Duration
	// ExtensionMandatory is sent with key requests as "extension_mandatory" if it is
	// not empty: names or objects.
	ExtensionMandatory []any
}

// A Client asks a key manager that does not know SAEs, so it ignores peer. Keys stay at
// the key manager until [Client.CloseKey].
//
// A status and a look-up by ID are tried a second time if the network or a gateway
// fails; a key request and CloseKey are not.
type Client struct {
	caller     *kmhttp.Client
	extensions []any
	ids        kmhttp.IDBytes
}

var _ kmclient.KeyManager = (*Client)(nil)

// New returns a client, which connects when it is used. If options are invalid, the
// error is kmclient.ErrConfig.
func New(o Options) (*Client, error) {
	base, secure, err := kmhttp.CheckBase(o.URL)
	if err != nil {
		return nil, err
	}
	if o.CAFile != "" && !secure {
		return nil, fmt.Errorf("%w: CA file %s: an http URL has no TLS: give an https URL, or no CA", kmclient.ErrConfig, o.CAFile)
	}
	if _, err := json.Marshal(o.ExtensionMandatory); err != nil {
		return nil, fmt.Errorf("%w: mandatory extensions: %w", kmclient.ErrConfig, err)
	}
	tlsConfig, err := kmhttp.TLS(o.CAFile)
	if err != nil {
		return nil, err
	}
	return &Client{caller: kmhttp.New(base, tlsConfig, o.Timeout), extensions: o.ExtensionMandatory}, nil
}

// CloseIdle closes the connections that no request is using.
func (c *Client) CloseIdle() { c.caller.HTTP.CloseIdleConnections() }

// Status returns the status of the key manager.
func (c *Client) Status(ctx context.Context, _ string) (kmclient.Status, error) {
	q := kmhttp.Call{Op: kmhttp.OpStatus, Method: http.MethodGet, Path: "/api/v1/status", Limit: kmhttp.StatusLimit, Again: true}
	code, body, failed := c.caller.Do(ctx, q)
	if failed != nil {
		return kmclient.Status{}, failed
	}
	s, err := kmhttp.DecodeStatus(body)
	if err != nil {
		return kmclient.Status{}, kmhttp.BadAnswer(q, code, body, err)
	}
	s.KeyIDBytes, s.Connections = int(c.ids.Load()), []kmclient.Connection{*c.caller.Reached()}
	return s, nil
}

// GetKeys fetches fresh keys: at most kmclient.MaxRequestKeys of at most
// kmclient.MaxRequestSize bits, and 64 MiB in all. If the key manager gives fewer than
// asked for, GetKeys asks for the rest; if that fails, it returns those that came.
func (c *Client) GetKeys(ctx context.Context, peer string, size, number int) ([]*kmclient.Key, error) {
	return c.GetKeysWith(ctx, peer, nil, size, number)
}

// GetKeysWith is GetKeys with more elements of "extension_mandatory", which the key
// manager must honor, or else refuse the request.
func (c *Client) GetKeysWith(ctx context.Context, _ string, mandatory []any, size, number int) (keys []*kmclient.Key, err error) {
	if err := kmhttp.CheckAmount(size, number); err != nil {
		return nil, &kmclient.Error{Op: kmhttp.OpGetKeys, Err: err}
	}
	defer func() {
		if err != nil {
			kmclient.WipeAll(keys)
			keys = nil
		}
	}()
	for len(keys) < number { // a key manager may give fewer than asked for
		some, err := c.getKeys(ctx, mandatory, size, number-len(keys))
		if err != nil && len(keys) > 0 {
			break
		}
		if err != nil {
			return keys, err
		}
		keys = append(keys, some...)
	}
	if err := kmclient.CheckFresh(keys, size, number); err != nil {
		return keys, &kmclient.Error{Op: kmhttp.OpGetKeys, Status: http.StatusOK, Err: err}
	}
	c.ids.Note(keys)
	return keys, nil
}

// getKeys makes one request. It returns at least one key and at most number, all of
// this size, or an error.
func (c *Client) getKeys(ctx context.Context, mandatory []any, size, number int) ([]*kmclient.Key, error) {
	request, err := json.Marshal(struct {
		Size       int   `json:"key_size"`
		Number     int   `json:"number"`
		Extensions []any `json:"extension_mandatory,omitempty"`
	}{size, number, slices.Concat(c.extensions, mandatory)})
	if err != nil {
		return nil, &kmclient.Error{Op: kmhttp.OpGetKeys, Err: fmt.Errorf("%w: %w", kmclient.ErrBadRequest, err)}
	}
	q := kmhttp.Call{Op: kmhttp.OpGetKeys, Method: http.MethodPost, Path: "/api/v1/keys/get", Body: request,
		Limit: kmhttp.AnswerLimit(size, number)}
	code, body, failed := c.caller.Do(ctx, q)
	if failed != nil {
		return nil, failed
	}
	defer clear(body)
	keys, err := kmhttp.DecodeKeys(body, size, number)
	if err != nil {
		return nil, kmhttp.BadAnswer(q, code, body, err)
	}
	return keys, nil
}

// KeysByID fetches stored keys, with one request for each. On an error it returns none,
// since they stay at the key manager.
func (c *Client) KeysByID(ctx context.Context, _ string, ids ...string) (keys []*kmclient.Key, err error) {
	if err := kmclient.CheckIDs(ids); err != nil {
		return nil, &kmclient.Error{Op: kmhttp.OpKeysByID, Err: err}
	}
	paths := make([]string, len(ids))
	for i, id := range ids {
		if paths[i], err = keyPath(id); err != nil {
			return nil, &kmclient.Error{Op: kmhttp.OpKeysByID, Err: err}
		}
	}
	defer func() {
		if err != nil {
			kmclient.WipeAll(keys)
			keys = nil
		}
	}()
	for i, id := range ids {
		k, err := c.keyByID(ctx, paths[i], id)
		if err != nil {
			return keys, err
		}
		keys = append(keys, k)
	}
	if err := kmclient.CheckKeys(keys, 0, len(ids)); err != nil {
		return keys, &kmclient.Error{Op: kmhttp.OpKeysByID, Status: http.StatusOK, Err: err}
	}
	return keys, nil
}

func (c *Client) keyByID(ctx context.Context, path, id string) (*kmclient.Key, error) {
	q := kmhttp.Call{Op: kmhttp.OpKeysByID, Method: http.MethodGet, Path: path, Limit: kmhttp.AnswerLimit(kmclient.MaxRequestSize, 1),
		Again: true, IDs: []string{id}}
	code, body, failed := c.caller.Do(ctx, q)
	if failed != nil {
		return nil, failed
	}
	defer clear(body)
	k, err := kmhttp.DecodeKey(body, id)
	if err != nil {
		return nil, kmhttp.BadAnswer(q, code, body, err)
	}
	return k, nil
}

// CloseKey deletes a key at the key manager.
func (c *Client) CloseKey(ctx context.Context, id string) error {
	path, err := keyPath(id)
	if err != nil {
		return &kmclient.Error{Op: kmhttp.OpCloseKey, Err: err}
	}
	q := kmhttp.Call{Op: kmhttp.OpCloseKey, Method: http.MethodDelete, Path: path, Limit: kmhttp.ErrorLimit, IDs: []string{id}}
	_, body, failed := c.caller.Do(ctx, q)
	if failed != nil {
		return failed
	}
	clear(body) // it may hold the key again
	return nil
}

// DeletesOnDelivery returns false: the key manager keeps a key until it is closed.
func (c *Client) DeletesOnDelivery() bool { return false }

// keyPath returns the path of one key. The ID comes from a message, and must not
// lead to another path. PathEscape encodes it, but many servers and gateways decode
// a path before they resolve "..", so such an ID is refused.
func keyPath(id string) (string, error) {
	if err := kmclient.CheckIDs([]string{id}); err != nil {
		return "", err
	}
	if kmhttp.Climbs(id) {
		return "", fmt.Errorf("%w: key ID %q: a dot or two between slashes", kmclient.ErrBadRequest, id)
	}
	return "/api/v1/keys/" + url.PathEscape(id), nil
}
