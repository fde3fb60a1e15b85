package sim

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
)

// A qkdLink is the key managers of two sites and the keys between them. Keys exist once
// enc_keys hands them out, reach the other site's KME some time later, and are gone from
// there once dec_keys hands them out.
type qkdLink struct {
	w     *world
	sites [2]*site

	mu    sync.Mutex
	made  [2]int // keys for each site
	keys  map[string]*qkdKey
	order [2][]*qkdKey // that each site was given to encrypt with
	again [2][]*qkdKey // that its KME hands out next, having been restored from a backup
	since [2]time.Time // when its stock was last counted
	stock [2]float64   // keys
}

// A qkdKey is a key and where it has been.
type qkdKey struct {
	id     string
	bytes  []byte
	master int       // which site it was made for
	there  time.Time // when it reaches the other site's KME

	waits bool // at the other site's KME
	lost  bool // nobody can get it any more: an answer, or a KME's keys, were lost
	back  bool // a restored KME has it again, and may hand it out a second time

	slave   *site
	fetched []time.Time // when dec_keys handed it out
}

// What a KME can hand out, and what it says.
const (
	keysAnHour   = 400
	mostStock    = 2000
	mostInOne    = 32     // keys in a request
	largestKey   = 16_384 // bits
	ordinaryKey  = 256    // bits
	kmeNotFound  = "one or more keys specified are not found on KME"
	kmeExhausted = "no keys available: the key pool is exhausted"
)

func newQKDLink(w *world, a, b *site) *qkdLink {
	now := time.Now()
	return &qkdLink{
		w: w, sites: [2]*site{a, b}, keys: map[string]*qkdKey{},
		since: [2]time.Time{now, now}, stock: [2]float64{mostStock, mostStock},
	}
}

// side returns which of the link's two sites a site is, -1: neither.
func (l *qkdLink) side(s *site) int {
	for i := range l.sites {
		if l.sites[i] == s {
			return i
		}
	}
	return -1
}

// key returns the key with an ID, nil if there is none.
func (l *qkdLink) key(id string) *qkdKey {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.keys[id]
}

// encKeys hands out keys to encrypt with, or nil if there are not enough.
func (l *qkdLink) encKeys(side, size, number int) []*qkdKey {
	given := l.take(side, size, number)
	if given == nil {
		l.w.ledger.exhausted(l.sites[side])
	}
	return given
}

func (l *qkdLink) take(side, size, number int) (given []*qkdKey) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	l.stock[side] = min(mostStock, l.stock[side]+now.Sub(l.since[side]).Hours()*keysAnHour)
	l.since[side] = now
	if name := l.sites[side].name; l.w.diceNow("empty", name).Float64() < l.w.trouble("empty", name) {
		l.stock[side] = 0
	}
	if l.stock[side] < float64(number) {
		return nil
	}
	l.stock[side] -= float64(number)
	for len(given) < number {
		if q := l.again[side]; len(q) > 0 {
			k := q[0]
			l.again[side] = q[1:]
			if len(k.bytes)*8 == size {
				k.back, k.waits, k.there = true, true, now.Add(l.lag(1-side, k.id))
				given = append(given, k)
			}
			continue
		}
		given = append(given, l.newKey(side, size))
	}
	return given
}

func (l *qkdLink) newKey(side, size int) *qkdKey {
	l.made[side]++
	r := l.w.dice.about("key", l.sites[side].name, l.sites[1-side].name, l.made[side])
	k := &qkdKey{bytes: make([]byte, size/8), master: side, slave: l.sites[1-side], waits: true}
	for i := range k.bytes {
		k.bytes[i] = byte(r.Uint32())
	}
	var raw [16]byte
	for i := range raw {
		raw[i] = byte(r.Uint32())
	}
	raw[6], raw[8] = raw[6]&0x0f|0x40, raw[8]&0x3f|0x80
	k.id = uuid.UUID(raw).String()
	k.there = time.Now().Add(l.lag(1-side, k.id))
	l.keys[k.id] = k
	l.order[side] = append(l.order[side], k)
	return k
}

// lag returns how long a key takes to reach the site that receives with it.
func (l *qkdLink) lag(to int, id string) time.Duration {
	r := l.w.dice.about("lag", id)
	short, long := between(r, 0, 300*time.Millisecond), between(r, time.Minute, 8*time.Hour)
	if r.Float64() < l.w.trouble("lag", l.sites[to].name) {
		l.w.count("key that lags")
		return long
	}
	return short
}

// decKeys hands out keys by their IDs, all or none.
func (l *qkdLink) decKeys(side int, ids []string) (given []*qkdKey) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, id := range ids {
		k := l.keys[id]
		if k == nil || k.master == side || !k.waits || k.there.After(time.Now()) {
			return nil
		}
		given = append(given, k)
	}
	for _, k := range given {
		k.waits = false
		k.fetched = append(k.fetched, time.Now())
	}
	return given
}

// lose notes that an answer with keys did not arrive.
func (l *qkdLink) lose(keys []*qkdKey) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, k := range keys {
		k.lost = true
	}
}

// restart makes a site's KME forget some of the keys that wait there.
func (l *qkdLink) restart(side, event int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, k := range l.order[1-side] {
		if k.waits && l.w.dice.about("restart", event, k.id).IntN(3) == 0 {
			k.waits, k.lost = false, true
		}
	}
}

// restore takes a site's KME back to an earlier state. It again has receiving keys that
// it has handed out, and hands out for sending what it handed out before, or what the
// site has decrypted with. It does not hand out what only the other site has used: no
// site could notice that.
func (l *qkdLink) restore(side, event int) {
	opened := l.w.ledger.opened(l.sites[side])
	l.mu.Lock()
	defer l.mu.Unlock()
	from := l.order[side]
	if l.w.dice.about("restore", event).IntN(2) == 0 {
		from = slices.DeleteFunc(slices.Clone(l.order[1-side]), func(k *qkdKey) bool { return !opened[k.id] })
	}
	l.again[side] = slices.Clone(from[max(0, len(from)-40):])
	for _, k := range l.order[1-side] {
		if len(k.fetched) > 0 && time.Since(k.there) < 12*time.Hour { // it has these again
			k.waits, k.back = true, true
		}
	}
}

// A kmeServer is the KME of a site: ETSI GS QKD 014.
type kmeServer struct {
	site *site
}

type kmeKey struct {
	ID  string `json:"key_ID"`
	Key string `json:"key"`
}

// ServeHTTP answers a request, unless the KME is in trouble.
func (k *kmeServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	world, name, began := k.site.world, k.site.name, time.Now()
	dice := world.diceNow("kme", name, r.URL.Path)
	troubled := func(kind string) bool { return dice.Float64() < world.trouble(kind, name) }
	body, _ := io.ReadAll(r.Body) // first: only after that does the server see that the caller hangs up
	if troubled("kme-slow") {
		time.Sleep(between(dice, time.Second, 100*time.Second))
	}
	if troubled("kme-error") {
		fail(w, http.StatusServiceUnavailable, "the KME is being repaired")
		return
	}
	path := strings.Split(strings.TrimPrefix(r.URL.Path, "/api/v1/keys/"), "/")
	link, side := k.site.linkTo(path[0])
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 || !k.site.admits(r.TLS.PeerCertificates[0]) || link == nil || len(path) != 2 {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	var q query
	_ = json.Unmarshal(body, &q)
	keys, code, text := k.serve(link, side, path[1], q)
	lost := troubled("kme-lost") || r.Context().Err() != nil // the caller has gone
	if path[1] == "enc_keys" {
		relay, _, _ := net.SplitHostPort(r.RemoteAddr)
		world.ledger.gaveKeys(keyRequest{relay, path[0], q.Size}, keyAnswer{lost, began})
	}
	if lost {
		if path[1] == "dec_keys" {
			link.lose(keys)
		}
		world.count("answer of a KME lost")
		panic(http.ErrAbortHandler)
	}
	switch {
	case path[1] == "status":
		answer(w, k.status(path[0]))
	case keys == nil:
		fail(w, code, text)
	default:
		answer(w, container(keys))
	}
}

// status returns the status of the link to an SAE.
func (k *kmeServer) status(sae string) map[string]any {
	return map[string]any{
		"source_KME_ID": k.site.name, "target_KME_ID": "other", "master_SAE_ID": k.site.sae, "slave_SAE_ID": sae,
		"key_size": ordinaryKey, "stored_key_count": 100, "max_key_count": mostStock, "max_key_per_request": mostInOne,
		"max_key_size": largestKey, "min_key_size": 64, "max_SAE_ID_count": 0,
	}
}

// container returns keys as GS QKD 014 has them in an answer.
func container(keys []*qkdKey) map[string]any {
	list := []kmeKey{}
	for _, q := range keys {
		list = append(list, kmeKey{q.id, base64.StdEncoding.EncodeToString(q.bytes)})
	}
	return map[string]any{"keys": list}
}

// A query is the body of a request for keys, of either kind.
type query struct {
	Number int                 `json:"number"`
	Size   int                 `json:"size"` // bits
	IDs    []map[string]string `json:"key_IDs"`
}

func (k *kmeServer) serve(link *qkdLink, side int, operation string, q query) (keys []*qkdKey, code int, text string) {
	switch operation {
	case "enc_keys":
		if q.Size < 64 || q.Size > largestKey || q.Number < 1 || q.Number > mostInOne {
			return nil, http.StatusBadRequest, fmt.Sprintf("number shall be 1 to %d", mostInOne)
		}
		return link.encKeys(side, q.Size, q.Number), http.StatusServiceUnavailable, kmeExhausted
	case "dec_keys":
		var ids []string
		for _, id := range q.IDs {
			ids = append(ids, id["key_ID"])
		}
		return link.decKeys(side, ids), http.StatusBadRequest, kmeNotFound
	}
	return nil, 0, ""
}

func answer(w http.ResponseWriter, body any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(body)
}

func fail(w http.ResponseWriter, code int, text string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(map[string]string{"message": text})
}
