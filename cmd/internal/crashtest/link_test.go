package crashtest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path"
	"sync"
	"testing"

	"github.com/qkdmail/qkdmail/cmd/internal/kmsim"
	"github.com/qkdmail/qkdmail/cmd/internal/kmtest"
	"github.com/qkdmail/qkdmail/kmclient"
)

// A link is a simulated QKD link: two KMEs that delete a key when they hand it
// out. It remembers all of them.
type link struct {
	*kmtest.Network

	mu       sync.Mutex
	keys     map[string][]byte // given out by enc_keys, by ID; nil once seen in a ciphertext
	begins   map[string]string // IDs, by how a key begins
	given    map[string]int    // how often dec_keys gave out a key
	broken   map[string]int    // how often dec_keys was asked for a key and died without an answer
	repeated []string          // IDs of keys that were given out twice, by ID or bytes
}

// failures says how often a KME fails, closes the connection, or does what it was
// asked but does not answer.
const failures = "status=503:0.01,cut:0.005,lost:0.001"

func newLink(t testing.TB, fail string) *link {
	t.Helper()
	l := &link{keys: map[string][]byte{}, begins: map[string]string{}, given: map[string]int{}, broken: map[string]int{}}
	l.Network = kmtest.StartKMEs(t, kmsim.TwoSites(), kmsim.Options{Fail: fail}, func(_ string, s *httptest.Server) {
		s.Config.Handler = l.record(s.Config.Handler)
	})
	return l
}

// record returns a KME whose answers are noted before the caller gets them.
func (l *link) record(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		op := path.Base(r.URL.Path)
		body, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler) // the caller is gone
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		answer := &recorder{ResponseWriter: w, note: func(text []byte) { l.note(op, text) }}
		defer func() {
			if !answer.begun && op == "dec_keys" {
				l.died(body)
			}
		}()
		next.ServeHTTP(answer, r)
	})
}

// A recorder passes an answer to note before it goes out.
type recorder struct {
	http.ResponseWriter
	note   func([]byte)
	begun  bool
	status int
}

func (r *recorder) WriteHeader(status int) {
	r.begun, r.status = true, status
	r.ResponseWriter.WriteHeader(status)
}

// Write is called once: the simulator writes its answers in one piece.
func (r *recorder) Write(p []byte) (int, error) {
	if r.status == http.StatusOK {
		r.note(p)
	}
	return r.ResponseWriter.Write(p)
}

// note notes the keys of an answer.
func (l *link) note(op string, answer []byte) {
	var container struct {
		Keys []struct {
			ID  string `json:"key_ID"`
			Key []byte `json:"key"`
		} `json:"keys"`
	}
	if op != "enc_keys" && op != "dec_keys" {
		return
	}
	if err := json.Unmarshal(answer, &container); err != nil {
		panic(fmt.Sprintf("the simulator's answer: %v", err))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, k := range container.Keys {
		if op == "dec_keys" {
			l.given[k.ID]++
			continue
		}
		begin := string(k.Key[:min(16, len(k.Key))])
		if _, twice := l.keys[k.ID]; twice || l.begins[begin] != "" {
			l.repeated = append(l.repeated, k.ID)
		}
		l.keys[k.ID], l.begins[begin] = k.Key, k.ID
	}
}

// died notes a request for keys that was not answered.
func (l *link) died(request []byte) {
	var asked struct {
		IDs []struct {
			ID string `json:"key_ID"`
		} `json:"key_IDs"`
	}
	if json.Unmarshal(request, &asked) != nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, k := range asked.IDs {
		l.broken[k.ID]++
	}
}

// KeysByID returns keys to the checker, each of them once.
func (l *link) KeysByID(_ context.Context, _ string, ids ...string) ([]*kmclient.Key, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var keys []*kmclient.Key
	for _, id := range ids {
		key := l.keys[id]
		if key == nil {
			return nil, fmt.Errorf("%w: %s", kmclient.ErrKeyNotFound, id)
		}
		keys = append(keys, kmclient.NewKey(id, key))
		l.keys[id] = nil
	}
	return keys, nil
}

// handedOut returns how often dec_keys gave out a key, and how often it died when
// asked for it.
func (l *link) handedOut(id string) (given, broken int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.given[id], l.broken[id]
}

// handed returns how many keys were given out, to either side.
func (l *link) handed() (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, given := range l.given {
		n += given
	}
	return n + len(l.keys)
}

// number returns how many keys enc_keys gave out.
func (l *link) number() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.keys)
}
