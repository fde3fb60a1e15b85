package kmsim

import (
	"net/http"

	"github.com/qkdmail/qkdmail/kmclient"
)

// QMail is a simulated key manager with the QMail REST API:
//
//	GET    /api/v1/status
//	POST   /api/v1/keys/get   {"key_size", "number"[, "extension_mandatory"]}
//	GET    /api/v1/keys/{id}
//	DELETE /api/v1/keys/{id}
//
// It gives keys to anyone who can reach it, so it belongs on a loopback address.
// Keys stay until they are deleted.
type QMail struct {
	core  *core
	stock *stock
}

// NewQMail returns a key manager.
func NewQMail(o Options) (*QMail, error) {
	c, err := newCore(o)
	if err != nil {
		return nil, err
	}
	return &QMail{core: c, stock: newStock(c.o)}, nil
}

// ServeHTTP answers a request.
func (q *QMail) ServeHTTP(w http.ResponseWriter, r *http.Request) { q.core.serve(w, r, "", q.answer) }

func (q *QMail) answer(r *http.Request, info *call) (any, error) {
	s := pathSegments(r)
	if len(s) < 3 || len(s) > 4 || s[0] != "api" || s[1] != "v1" {
		return nil, noSuchPath()
	}
	reads := r.Method == http.MethodGet || r.Method == http.MethodHead
	switch {
	case len(s) == 3 && s[2] == "status":
		if !reads {
			return nil, notAllowed("GET, HEAD")
		}
		return q.status()
	case len(s) == 3 || s[2] != "keys":
		return nil, noSuchPath()
	case r.Method == http.MethodPost && s[3] == "get":
		return q.getKeys(r, info)
	case reads:
		return q.keyByID(s[3], info)
	case r.Method == http.MethodDelete:
		return q.deleteKey(s[3])
	}
	return nil, notAllowed("GET, HEAD, DELETE")
}

// qmailStatus is a status with the members that the QMail REST API adds.
type qmailStatus struct {
	State     string `json:"status"`
	Link      string `json:"qkd_link_status"`
	Available int    `json:"available_keys"`
	Queue     int    `json:"queue_length"` // requests that wait; none ever does
	statusBody
}

func (q *QMail) status() (any, error) {
	body, err := q.core.status(q.stock)
	if err != nil {
		return nil, err
	}
	s := qmailStatus{State: "operational", Link: "active", Available: body.Stored, statusBody: body}
	s.SourceKME, s.TargetKME, s.MaxSAEIDs = "SIMULATOR", "SIMULATOR", 0
	if q.core.o.Quirks.NumericTarget {
		s.TargetKME = 1
	}
	return s, nil
}

func (q *QMail) getKeys(r *http.Request, info *call) (any, error) {
	var want keyRequest
	if err := readObject(r, map[string]any{
		"key_size": &want.size, "number": &want.number, "extension_mandatory": &want.mandatory,
	}); err != nil {
		return nil, err
	}
	if err := q.core.checkExtensions(want); err != nil {
		return nil, err
	}
	size, number, err := q.core.checkAmount(want)
	if err != nil {
		return nil, err
	}
	return q.core.handOut(info, q.stock, grant{}, size, number)
}

// oneKey is the answer to a request for a key by its ID.
type oneKey struct {
	keyBody
	key *kmclient.Key
}

func (k *oneKey) wipe() { k.key.Wipe() }

func (q *QMail) keyByID(id string, info *call) (any, error) {
	k, err := q.core.held.get(id)
	if err != nil {
		return nil, q.missing()
	}
	info.keys = 1
	return &oneKey{keyBody{ID: k.ID(), Key: k.Reveal(), Size: k.Size()}, k}, nil
}

func (q *QMail) deleteKey(id string) (any, error) {
	if err := q.core.held.delete(id); err != nil {
		return nil, q.missing()
	}
	return map[string]string{"message": "key deleted"}, nil
}

func (q *QMail) missing() error {
	return q.core.unknownKey(&problem{status: http.StatusNotFound, message: "key not found"})
}
