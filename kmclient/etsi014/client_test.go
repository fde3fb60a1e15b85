package etsi014

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/internal/fakekm"
)

func TestRoundTrip(t *testing.T) {
	km := newFakeKME(t, fakekm.NewCA(t))
	km.perRequest = 2
	e := etsiClient(t, Options{}, km)
	ctx := t.Context()

	keys, err := e.GetKeys(ctx, "SAE_B", 512, 5)
	if err != nil || len(keys) != 5 || keys[4].Size() != 512 {
		t.Fatalf("GetKeys(512 bits, 5) = %v, %v", keys, err)
	}
	if n, s := km.requests("enc_keys"), km.requests("status"); n != 3 || s != 1 {
		t.Errorf("5 keys at 2 per request took %d requests and %d for the limit, want 3 and 1", n, s)
	}
	var ids []string
	for _, k := range slices.Backward(keys) {
		ids = append(ids, k.ID())
	}
	ids[1] = strings.ToUpper(ids[1])
	again, err := e.KeysByID(ctx, "SAE_B", ids...)
	if err != nil {
		t.Fatalf("KeysByID: %v", err)
	}
	for i, k := range again {
		if !bytes.Equal(k.Reveal(), keys[len(keys)-1-i].Reveal()) {
			t.Errorf("key %d of KeysByID is not the one with the ID asked for", i)
		}
	}
	if n := km.requests("dec_keys"); n != 3 {
		t.Errorf("5 look-ups at 2 per request took %d requests, want 3", n)
	}
	_, err = e.KeysByID(ctx, "SAE_B", ids[0])
	var failed *kmclient.Error
	if !errors.Is(err, kmclient.ErrKeyNotFound) || !errors.As(err, &failed) || failed.Status != 400 || len(failed.Details) != 1 {
		t.Errorf("a key the second time: %v, want ErrKeyNotFound with status 400 and one detail", err)
	}
	if n := km.requests("dec_keys"); n != 4 {
		t.Errorf("an unknown key was asked for %d times, want once", n-3)
	}
	if err := e.CloseKey(ctx, ids[0]); err != nil || !e.DeletesOnDelivery() {
		t.Errorf("CloseKey: %v, DeletesOnDelivery %t; want nothing to do, and true", err, e.DeletesOnDelivery())
	}
	if s := e.Stats(); s != (Stats{}) {
		t.Errorf("Stats are %+v after nothing went wrong", s)
	}
}

func TestRequests(t *testing.T) {
	km := newFakeKME(t, fakekm.NewCA(t))
	var paths []string
	var body map[string]any
	handler := km.Config.Handler
	km.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		paths = append(paths, r.Method+" "+r.URL.EscapedPath())
		handler.ServeHTTP(w, r)
	})
	km.hook = func(op string, _ int, _ http.ResponseWriter, secret []byte) bool {
		if body = nil; op != "status" {
			_ = json.Unmarshal(secret, &body)
		}
		return false
	}
	e := etsiClient(t, Options{
		ExtensionMandatory: []any{map[string]any{"route": "direct"}}, ExtensionOptional: []any{map[string]any{"x": 1}},
	}, km)
	keys, err := e.GetMulticastKeys(t.Context(), "org/SAE B?", []string{"SAE_C"}, 256, 2)
	if err != nil {
		t.Fatalf("GetMulticastKeys: %v", err)
	}
	want := map[string]any{
		"number": 2.0, "size": 256.0, "additional_slave_SAE_IDs": []any{"SAE_C"},
		"extension_mandatory": []any{map[string]any{"route": "direct"}}, "extension_optional": []any{map[string]any{"x": 1.0}},
	}
	if got, _ := json.Marshal(body); string(got) != string(must(json.Marshal(want))) {
		t.Errorf("the key request is %s, want %s", got, must(json.Marshal(want)))
	}
	if _, err := e.KeysByID(t.Context(), "org/SAE B?", keys[0].ID()); err != nil {
		t.Fatalf("KeysByID: %v", err)
	}
	want = map[string]any{"key_IDs": []any{map[string]any{"key_ID": keys[0].ID()}}}
	if got, _ := json.Marshal(body); string(got) != string(must(json.Marshal(want))) {
		t.Errorf("the look-up is %s, want %s", got, must(json.Marshal(want)))
	}
	const sae = "/api/v1/keys/org%2FSAE%20B%3F/"
	if want := []string{"GET " + sae + "status", "POST " + sae + "enc_keys", "POST " + sae + "dec_keys"}; !slices.Equal(paths, want) {
		t.Errorf("asked for %q, want %q", paths, want)
	}
	for range 2 { // those of one request must not be those of the next
		if _, err := e.GetKeysWith(t.Context(), "SAE_B", []any{map[string]any{"n": 3}}, 256, 1); err != nil {
			t.Fatalf("GetKeysWith: %v", err)
		}
		const want = `[{"route":"direct"},{"n":3}]`
		if got := string(must(json.Marshal(body["extension_mandatory"]))); got != want {
			t.Errorf("extension_mandatory is %s, want %s", got, want)
		}
	}
}

func must(b []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return b
}

func TestRefusesBeforeAsking(t *testing.T) {
	km := newFakeKME(t, fakekm.NewCA(t))
	km.hook = func(op string, _ int, _ http.ResponseWriter, _ []byte) bool {
		if op != "status" {
			t.Error("a bad request was sent")
		}
		return false
	}
	e := etsiClient(t, Options{}, km)
	get := func(peer string, size, number int, additional ...string) func() error {
		return func() error {
			_, err := e.GetMulticastKeys(t.Context(), peer, additional, size, number)
			return err
		}
	}
	byID := func(peer string, ids ...string) func() error {
		return func() error { _, err := e.KeysByID(t.Context(), peer, ids...); return err }
	}
	for name, test := range map[string]struct {
		call func() error
		want error
	}{
		"no peer":              {get("", 256, 1), kmclient.ErrBadRequest},
		"a peer that climbs":   {get("..", 256, 1), kmclient.ErrBadRequest},
		"climbs inside":        {byID(`a/..\b`, "x"), kmclient.ErrBadRequest},
		"control character":    {byID("a\nb", "x"), kmclient.ErrBadRequest},
		"long peer":            {get(strings.Repeat("x", 256), 256, 1), kmclient.ErrBadRequest},
		"status of no peer":    {func() error { _, err := e.Status(t.Context(), ""); return err }, kmclient.ErrBadRequest},
		"size 255":             {get("B", 255, 1), kmclient.ErrBadRequest},
		"no keys":              {get("B", 256, 0), kmclient.ErrBadRequest},
		"larger than KME's":    {get("B", 4104, 2), kmclient.ErrBadRequest},
		"smaller than KME's":   {get("B", 56, 2), kmclient.ErrBadRequest},
		"additional climbs":    {get("B", 256, 1, ".."), kmclient.ErrBadRequest},
		"too many additional":  {get("B", 256, 1, "C", "D", "E"), kmclient.ErrBadRequest},
		"no IDs":               {byID("B"), kmclient.ErrBadRequest},
		"the same UUID twice":  {byID("B", "9b42e9e2-0a1b-4c2d-8e3f-0123456789ab", "9B42E9E2-0A1B-4C2D-8E3F-0123456789AB"), kmclient.ErrBadRequest},
		"an ID that can't be":  {byID("B", "a b"), kmclient.ErrBadRequest},
		"more IDs than we ask": {byID("B", make([]string, kmclient.MaxRequestKeys+1)...), kmclient.ErrBadRequest},
	} {
		if err := test.call(); !errors.Is(err, test.want) {
			t.Errorf("%s: %v, want %v", name, err, test.want)
		}
	}
	km.setHook(func(op string, _ int, w http.ResponseWriter, _ []byte) bool {
		fakekm.Answer(200, `{"max_SAE_ID_count":0}`)(w, nil)
		return true
	})
	if err := get("other", 256, 1, "C")(); !errors.Is(err, kmclient.ErrUnsupported) {
		t.Errorf("multicast where max_SAE_ID_count is 0: %v, want ErrUnsupported", err)
	}
}

func TestNewConfig(t *testing.T) {
	ca := fakekm.NewCA(t)
	cert, key := ca.Issue(t, "sae", fakekm.Loopback("SAE"))
	_, otherKey := ca.Issue(t, "other", fakekm.Loopback("SAE"))
	good := Options{URLs: []string{"https://km:1"}, CertFile: cert, KeyFile: key, CAFile: ca.File}
	if _, err := New(good); err != nil {
		t.Fatalf("good options: %v", err)
	}
	for name, change := range map[string]func(*Options){
		"no URL":             func(o *Options) { o.URLs = nil },
		"too many URLs":      func(o *Options) { o.URLs = make([]string, maxKMEs+1) },
		"http":               func(o *Options) { o.URLs = []string{"http://km:1"} },
		"second URL empty":   func(o *Options) { o.URLs = append(o.URLs, "") },
		"no certificate":     func(o *Options) { o.CertFile = "" },
		"no private key":     func(o *Options) { o.KeyFile = "" },
		"no such file":       func(o *Options) { o.CertFile += "x" },
		"key of another":     func(o *Options) { o.KeyFile = otherKey },
		"CA without a cert":  func(o *Options) { o.CAFile = key },
		"IDs for two of one": func(o *Options) { o.KMEID = "A,B" },
		"empty ID":           func(o *Options) { o.KMEID = "cn:" },
		"extension no JSON":  func(o *Options) { o.ExtensionOptional = []any{func() {}} },
	} {
		o := good
		change(&o)
		if _, err := New(o); !errors.Is(err, kmclient.ErrConfig) {
			t.Errorf("%s: %v, want ErrConfig", name, err)
		}
	}
}

func TestLimitsAreAskedForAgain(t *testing.T) {
	km := newFakeKME(t, fakekm.NewCA(t))
	e := etsiClient(t, Options{}, km)
	get := func() error { _, err := e.GetKeys(t.Context(), "B", 256, 100); return err }
	if err := get(); err != nil {
		t.Fatal(err)
	}
	km.perRequest = 40
	if err := get(); err != nil || km.requests("enc_keys") != 1+6 { // 100 and 50 are refused, then four times 25 served
		t.Errorf("after the KME lowered its limit: %v after %d requests, want the keys in smaller requests", err, km.requests("enc_keys"))
	}
	if err := get(); err != nil || km.requests("enc_keys") != 1+6+3 {
		t.Errorf("the new limit is not used: %v after %d requests", err, km.requests("enc_keys"))
	}
	k := e.kmes[0]
	l := k.limits["B"]
	l.until = time.Now().Add(-time.Second)
	k.limits["B"] = l
	if err := get(); err != nil || km.requests("status") != 3 {
		t.Errorf("outdated limits: %v, and the status was asked for %d times, want 3", err, km.requests("status"))
	}
	for i := range 2 * limitsPeers {
		k.remember(strings.Repeat("x", i), limits{})
	}
	if n := len(k.limits); n > limitsPeers {
		t.Errorf("limits of %d peers are remembered", n)
	}
}
