package kmsim

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/qkdmail/qkdmail/kmclient"
)

// A problem is an error as an answer.
type problem struct {
	status  int
	message string // none with a 401
	details []map[string]string
	allow   string // methods, with a 405
}

func (p *problem) Error() string { return p.message }

func badRequest(format string, args ...any) *problem {
	return &problem{status: http.StatusBadRequest, message: fmt.Sprintf(format, args...)}
}

func notAllowed(methods string) *problem {
	return &problem{status: http.StatusMethodNotAllowed, message: "method not allowed", allow: methods}
}

func noSuchPath() *problem { return &problem{status: http.StatusNotFound, message: "no such path"} }

func unauthorized() *problem { return &problem{status: http.StatusUnauthorized} }

// unknownKey returns the answer for a key that does not exist, with its quirk.
func (c *core) unknownKey(p *problem) *problem {
	if status := c.o.Quirks.UnknownKeyStatus; status != 0 {
		p.status = status
	}
	return p
}

// problemOf turns any error into an answer.
func (c *core) problemOf(err error) *problem {
	if p, ok := errors.AsType[*problem](err); ok {
		return p
	}
	if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return &problem{status: http.StatusRequestEntityTooLarge, message: fmt.Sprintf("the body shall have at most %d bytes", tooLarge.Limit)}
	}
	return &problem{status: c.o.ExhaustedStatus, message: "key store exhausted: " + err.Error()} // errFull
}

// write sends an answer: a string as an HTML page, anything else as JSON.
func (c *core) write(w http.ResponseWriter, status int, answer any) {
	var body []byte
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	switch a := answer.(type) {
	case nil:
	case string:
		h.Set("Content-Type", "text/html; charset=utf-8")
		body = []byte(a)
	default:
		body, _ = json.Marshal(a) // can't fail: all are types of this package
		h.Set("Content-Type", "application/json")
	}
	defer clear(body)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body) // an error: the caller has gone
}

// statusBody is the status of a link, with the names of ETSI GS QKD 014.
type statusBody struct {
	SourceKME  string `json:"source_KME_ID"`
	TargetKME  any    `json:"target_KME_ID"` // a string, except with the quirk NumericTarget
	MasterSAE  string `json:"master_SAE_ID"`
	SlaveSAE   string `json:"slave_SAE_ID"`
	KeySize    int    `json:"key_size"`
	Stored     int    `json:"stored_key_count"`
	Max        int    `json:"max_key_count"`
	PerRequest int    `json:"max_key_per_request,omitempty"` // never 0, except with the quirk HideLimits
	MaxSize    int    `json:"max_key_size,omitempty"`
	MinSize    int    `json:"min_key_size,omitempty"`
	MaxSAEIDs  int    `json:"max_SAE_ID_count"`
}

func (c *core) status(s *stock) (statusBody, error) {
	quirks := c.o.Quirks
	if quirks.StatusStatus != 0 {
		return statusBody{}, &problem{status: quirks.StatusStatus, message: "the status is not available"}
	}
	ready, capacity := s.count()
	body := statusBody{
		KeySize: c.o.KeySize, Stored: ready, Max: capacity, PerRequest: c.o.MaxKeysPerRequest,
		MaxSize: c.o.MaxKeySize, MinSize: c.o.MinKeySize, MaxSAEIDs: c.o.MaxSAEIDs,
	}
	if quirks.ZeroStock {
		body.Stored = 0
	}
	if quirks.HideLimits {
		body.PerRequest, body.MaxSize, body.MinSize = 0, 0, 0
	}
	return body, nil
}

// A wiper is an answer that has keys.
type wiper interface{ wipe() }

// A container is the form of keys in an answer.
type container struct {
	Keys []keyBody `json:"keys"`
	keys []*kmclient.Key
}

type keyBody struct {
	ID   string `json:"key_ID"`
	Key  []byte `json:"key"`                // base64
	Size int    `json:"key_size,omitempty"` // bits; QMail only
}

// newContainer returns an answer with keys, and counts them for the access log.
func newContainer(info *call, keys []*kmclient.Key) *container {
	info.keys = len(keys)
	a := &container{Keys: make([]keyBody, len(keys)), keys: keys}
	for i, k := range keys {
		a.Keys[i] = keyBody{ID: k.ID(), Key: k.Reveal()}
	}
	return a
}

func (a *container) wipe() { kmclient.WipeAll(a.keys) }
