package kmsim

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/qkdmail/qkdmail/kmclient"
)

// ETSI is a simulated network of KMEs with the API of ETSI GS QKD 014 V1.1.1:
//
//	GET       /api/v1/keys/{slave_SAE_ID}/status
//	POST, GET /api/v1/keys/{slave_SAE_ID}/enc_keys
//	POST, GET /api/v1/keys/{master_SAE_ID}/dec_keys
//
// A key leaves the master's KME when enc_keys hands it out, and each slave's when
// dec_keys does: nobody gets a key twice. Callers are known by their client
// certificates. A caller that has none, is not attached to this KME or may not
// have the key gets a 401 without a body.
type ETSI struct {
	core    *core
	network *network
	kmes    map[string]*kme
}

// A kme is one KME of the network.
type kme struct {
	*ETSI
	id string
}

// NewETSI returns a network of KMEs.
func NewETSI(t Topology, o Options) (*ETSI, error) {
	o, err := o.complete()
	if err != nil {
		return nil, err
	}
	n, err := t.check(o)
	if err != nil {
		return nil, err
	}
	c, err := newCore(o)
	if err != nil {
		return nil, err
	}
	e := &ETSI{core: c, network: n, kmes: map[string]*kme{}}
	for _, id := range t.KMEs {
		e.kmes[id] = &kme{e, id}
	}
	return e, nil
}

// Handler returns the handler of the KME with this ID, to be served over
// mutual TLS.
func (e *ETSI) Handler(id string) (http.Handler, error) {
	k, ok := e.kmes[id]
	if !ok {
		return nil, fmt.Errorf("%w: no KME %q", kmclient.ErrConfig, id)
	}
	return k, nil
}

// ServeHTTP answers a request.
func (k *kme) ServeHTTP(w http.ResponseWriter, r *http.Request) { k.core.serve(w, r, k.id, k.answer) }

func (k *kme) answer(r *http.Request, info *call) (any, error) {
	s := pathSegments(r)
	if len(s) != 5 || s[0] != "api" || s[1] != "v1" || s[2] != "keys" {
		return nil, noSuchPath()
	}
	var do func(*http.Request, *call, string) (any, error)
	other := http.MethodPost // besides GET; HEAD would use up keys without returning them
	switch s[4] {
	case "status":
		do, other = k.status, http.MethodHead
	case "enc_keys":
		do = k.encKeys
	case "dec_keys":
		do = k.decKeys
	default:
		return nil, noSuchPath()
	}
	if r.Method != http.MethodGet && r.Method != other {
		return nil, notAllowed("GET, " + other)
	}
	if status := k.core.o.Quirks.refusal(r.Method, s[4]); status != 0 {
		return nil, &problem{status: status, message: "method not allowed"}
	}
	sae, ok := k.network.caller(r)
	if !ok || k.network.home[sae] != k.id {
		return nil, unauthorized()
	}
	info.sae = sae
	return do(r, info, s[3])
}

// refusal returns the HTTP status with which a method is refused, or 0.
func (q Quirks) refusal(method, operation string) int {
	switch {
	case operation == "status":
		return 0
	case method == http.MethodPost:
		return q.POSTStatus
	}
	return q.GETStatus
}

// checkPeer reports whether the caller may have keys together with peer.
func (k *kme) checkPeer(caller, peer, what string) error {
	if _, ok := k.network.home[peer]; !ok {
		return badRequest("%s %s is not known", what, shorten(peer))
	}
	if !k.network.paired(caller, peer) {
		return unauthorized()
	}
	return nil
}

func (k *kme) status(r *http.Request, info *call, slave string) (any, error) {
	if err := k.checkPeer(info.sae, slave, "slave_SAE_ID"); err != nil {
		return nil, err
	}
	if r.URL.RawQuery != "" {
		return nil, badRequest("a status has no query")
	}
	s, err := k.core.status(k.network.stocks[poolOf(info.sae, slave)])
	if err != nil {
		return nil, err
	}
	s.SourceKME, s.TargetKME, s.MasterSAE, s.SlaveSAE = k.id, k.network.home[slave], info.sae, slave
	if k.core.o.Quirks.NumericTarget {
		s.TargetKME = len(k.network.home[slave])
	}
	return s, nil
}

func (k *kme) encKeys(r *http.Request, info *call, slave string) (any, error) {
	if err := k.checkPeer(info.sae, slave, "slave_SAE_ID"); err != nil {
		return nil, err
	}
	q, additional, err := readEncRequest(r)
	if err != nil {
		return nil, err
	}
	size, number, err := k.core.checkAmount(q)
	if err == nil {
		err = k.core.checkExtensions(q)
	}
	if err == nil {
		err = k.checkAdditional(info.sae, slave, additional)
	}
	if err != nil {
		return nil, err
	}
	if k.core.o.Quirks.IgnoreQuery && r.Method == http.MethodGet {
		size, number = k.core.o.KeySize, 1
	}
	pool := poolOf(info.sae, slave)
	to := grant{pool, info.sae, append([]string{slave}, additional...)}
	return k.core.handOut(info, k.network.stocks[pool], to, size, number)
}

// readEncRequest returns what a request for keys asks for, and the slaves that it
// names besides the one in the path.
func readEncRequest(r *http.Request) (q keyRequest, additional []string, err error) {
	if r.Method == http.MethodGet {
		q, err = queryAmount(r)
		return q, nil, err
	}
	if err := noQuery(r); err != nil {
		return q, nil, err
	}
	err = readObject(r, map[string]any{
		"number": &q.number, "size": &q.size, "additional_slave_SAE_IDs": &additional,
		"extension_mandatory": &q.mandatory, "extension_optional": &q.optional,
	})
	return q, additional, err
}

// checkAdditional checks the additional slaves of a multicast request.
func (k *kme) checkAdditional(master, slave string, additional []string) error {
	if most := k.core.o.MaxSAEIDs; len(additional) > most {
		return badRequest("additional_slave_SAE_IDs shall have at most %d IDs", most)
	}
	seen := map[string]bool{master: true, slave: true}
	for _, id := range additional {
		if seen[id] {
			return badRequest("additional_slave_SAE_IDs shall name each SAE once, and neither master nor slave: %s", shorten(id))
		}
		seen[id] = true
		if err := k.checkPeer(master, id, "additional slave_SAE_ID"); err != nil {
			return err
		}
	}
	return nil
}

// A keyID is how a request names a key; extensions of an ID are ignored.
type keyID struct {
	ID        *string        `json:"key_ID"`
	Extension map[string]any `json:"key_ID_extension"`
}

func (k *kme) decKeys(r *http.Request, info *call, master string) (any, error) {
	if _, ok := k.network.home[master]; !ok || !k.network.paired(info.sae, master) {
		return nil, unauthorized() // whether or not the SAE exists
	}
	ids, err := readKeyIDs(r, k.core.o.Quirks.StringIDs)
	if err != nil {
		return nil, err
	}
	if most := k.core.o.MaxKeysPerRequest; len(ids) < 1 || len(ids) > most {
		return nil, badRequest("key_IDs shall have 1 to %d IDs", most)
	}
	keys, err := k.core.held.fetch(master, info.sae, k.core.o.Quirks.KeepKeys, ids)
	switch {
	case errors.Is(err, errNotGranted):
		return nil, unauthorized()
	case errors.Is(err, kmclient.ErrKeyNotFound):
		return nil, k.core.unknownKey(badRequest(notFound))
	case err != nil:
		return nil, err
	}
	return newContainer(info, keys), nil
}

// readKeyIDs returns the IDs that a request for keys names.
func readKeyIDs(r *http.Request, asStrings bool) (ids []string, err error) {
	if r.Method == http.MethodGet {
		return queryKeyID(r)
	}
	if err := noQuery(r); err != nil {
		return nil, err
	}
	if asStrings {
		err := readObject(r, map[string]any{"key_IDs": &ids})
		return ids, err
	}
	var list []keyID
	var extension map[string]any
	if err := readObject(r, map[string]any{"key_IDs": &list, "key_IDs_extension": &extension}); err != nil {
		return nil, err
	}
	for _, k := range list {
		if k.ID == nil {
			return nil, badRequest("key_IDs is malformed: an element without key_ID")
		}
		ids = append(ids, *k.ID)
	}
	return ids, nil
}

func queryAmount(r *http.Request) (want keyRequest, err error) {
	q, err := readQuery(r, "number", "size")
	if err != nil {
		return want, err
	}
	for name, into := range map[string]**int{"number": &want.number, "size": &want.size} {
		text, ok := q[name]
		if !ok {
			continue
		}
		n, err := strconv.Atoi(text)
		if err != nil {
			return want, badRequest("%s shall be an integer", name)
		}
		*into = &n
	}
	return want, nil
}

func queryKeyID(r *http.Request) ([]string, error) {
	q, err := readQuery(r, "key_ID")
	if err != nil {
		return nil, err
	}
	id, ok := q["key_ID"]
	if !ok {
		return nil, badRequest("key_ID is missing")
	}
	return []string{id}, nil
}
