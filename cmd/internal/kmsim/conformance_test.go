package kmsim

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/google/uuid"
)

// A rule is a row of the conformance table: a request, and the answer that the
// standard asks for. In path and body, {key} and {key2} are IDs of keys that
// SAE_A has just got for SAE_B, and {gone} is the ID of one that SAE_B has
// already fetched.
type rule struct {
	rule, sae, kme string
	method, path   string
	body           string // "TYPE|" before it is a content type other than application/json
	status         int
	message        string // of the error
	has            string // what the body has
}

const (
	a, b, c = "SAE_A", "SAE_B", "SAE_C"
	atA     = "KME_A"
	atB     = "KME_B"
	atC     = "KME_C"
	encB    = "/api/v1/keys/SAE_B/enc_keys"
	decA    = "/api/v1/keys/SAE_A/dec_keys"
	statusB = "/api/v1/keys/SAE_B/status"
)

var conformance = []rule{
	{"status", a, atA, "GET", statusB, "", 200, "",
		`{"source_KME_ID":"KME_A","target_KME_ID":"KME_B","master_SAE_ID":"SAE_A","slave_SAE_ID":"SAE_B","key_size":256,` +
			`"stored_key_count":100000,"max_key_count":100000,"max_key_per_request":128,"max_key_size":524544,"min_key_size":64,"max_SAE_ID_count":2}`},
	{"status of an ID that needs escaping", a, atA, "GET", "/api/v1/keys/" + oddPath + "/status", "", 200, "", `"slave_SAE_ID":"urn:sae/x y%é"`},
	{"status to a caller whose ID needs escaping", oddSAE, atC, "GET", "/api/v1/keys/SAE_A/status", "", 200, "", `"master_SAE_ID":"urn:sae/x y%é"`},
	{"status by HEAD", a, atA, "HEAD", statusB, "", 200, "", ""},
	{"status by POST", a, atA, "POST", statusB, "{}", 405, "method not allowed", ""},
	{"status with a query", a, atA, "GET", statusB + "?size=1", "", 400, "a status has no query", ""},
	{"status of an unknown SAE", a, atA, "GET", "/api/v1/keys/SAE_X/status", "", 400, `slave_SAE_ID "SAE_X" is not known`, ""},
	{"status of an SAE not paired with", a, atA, "GET", "/api/v1/keys/SAE_D/status", "", 401, "", ""},

	{"enc_keys by GET, number 1 and the default size", a, atA, "GET", encB, "", 200, "", `"key_ID":"`},
	{"enc_keys by GET with number and size", a, atA, "GET", encB + "?number=2&size=128", "", 200, "", `"key_ID":"`},
	{"enc_keys by POST, an empty object", a, atA, "POST", encB, "{}", 200, "", `"key_ID":"`},
	{"enc_keys by POST, no body", a, atA, "POST", encB, "", 200, "", `"key_ID":"`},
	{"enc_keys: null is the default", a, atA, "POST", encB, `{"number":null,"additional_slave_SAE_IDs":null}`, 200, "", `"key_ID":"`},
	{"the content type has a parameter", a, atA, "POST", encB, `application/json; charset=utf-8|{"number":1}`, 200, "", `"key_ID":"`},
	{"size and number at their limits", a, atA, "POST", encB, `{"number":128,"size":64}`, 200, "", ""},
	{"the largest size", a, atA, "POST", encB, `{"size":524544}`, 200, "", ""},
	{"size no multiple of 8", a, atA, "POST", encB, `{"size":257}`, 400, "size shall be a multiple of 8", ""},
	{"size no multiple of 8, by GET", a, atA, "GET", encB + "?size=12", "", 400, "size shall be a multiple of 8", ""},
	{"size under min_key_size", a, atA, "POST", encB, `{"size":56}`, 400, "size shall be 64 to 524544 bits", ""},
	{"size 0", a, atA, "POST", encB, `{"size":0}`, 400, "size shall be 64 to 524544 bits", ""},
	{"size over max_key_size", a, atA, "POST", encB, `{"size":524552}`, 400, "size shall be 64 to 524544 bits", ""},
	{"number 0", a, atA, "POST", encB, `{"number":0}`, 400, "number shall be 1 to 128", ""},
	{"number negative", a, atA, "GET", encB + "?number=-1", "", 400, "number shall be 1 to 128", ""},
	{"number over max_key_per_request", a, atA, "POST", encB, `{"number":129}`, 400, "number shall be 1 to 128", ""},
	{"number no integer", a, atA, "POST", encB, `{"number":1.5}`, 400, "number is malformed", ""},
	{"number a string", a, atA, "POST", encB, `{"number":"1"}`, 400, "number is malformed", ""},
	{"number no integer, by GET", a, atA, "GET", encB + "?number=x", "", 400, "number shall be an integer", ""},
	{"number too large for an integer", a, atA, "GET", encB + "?number=99999999999999999999", "", 400, "number shall be an integer", ""},
	{"number twice", a, atA, "GET", encB + "?number=1&number=2", "", 400, "number shall come once", ""},
	{"GET has number and size only", a, atA, "GET", encB + "?extension_mandatory=x", "", 400, `unknown parameter "extension_mandatory": use POST`, ""},
	{"a malformed query", a, atA, "GET", encB + "?number=%zz", "", 400, "the query is malformed", ""},
	{"POST with a query", a, atA, "POST", encB + "?number=1", "{}", 400, "a POST has no query", ""},
	{"a member that is not in the standard", a, atA, "POST", encB, `{"key_size":256}`, 400, `unknown member "key_size"`, ""},
	{"names count exactly", a, atA, "POST", encB, `{"Number":1}`, 400, `unknown member "Number"`, ""},
	{"no object", a, atA, "POST", encB, `[]`, 400, "the body shall be one JSON object in UTF-8", ""},
	{"null", a, atA, "POST", encB, `null`, 400, "the body shall be one JSON object in UTF-8", ""},
	{"not JSON", a, atA, "POST", encB, `{"number":1`, 400, "the body shall be one JSON object in UTF-8", ""},
	{"something after the object", a, atA, "POST", encB, `{"number":1} {}`, 400, "the body shall be one JSON object in UTF-8", ""},
	{"not UTF-8", a, atA, "POST", encB, "{\"x\xff\":1}", 400, "the body shall be one JSON object in UTF-8", ""},
	{"another content type", a, atA, "POST", encB, `text/plain|{"number":1}`, 415, "the content type shall be application/json", ""},
	{"no content type", a, atA, "POST", encB, `|{"number":1}`, 415, "the content type shall be application/json", ""},
	{"a huge body", a, atA, "POST", encB, `{"x":"` + strings.Repeat("x", 1<<20) + `"}`, 413, "the body shall have at most 98304 bytes", ""},
	{"an unknown mandatory extension", a, atA, "POST", encB, `{"extension_mandatory":[{"hops":3},{"known":1}]}`, 400,
		"not all extension_mandatory parameters are supported", `"details":[{"extension":"hops"}]`},
	{"an empty mandatory extension", a, atA, "POST", encB, `{"extension_mandatory":[{}]}`, 400, "not all extension_mandatory parameters are supported", ""},
	{"a mandatory extension that can't be met", a, atA, "POST", encB, `{"extension_mandatory":[{"unmet":1}]}`, 400,
		"not all extension_mandatory request options could be met", `"details":[{"extension":"unmet"}]`},
	{"a mandatory extension that is met", a, atA, "POST", encB, `{"extension_mandatory":[{"known":1}]}`, 200, "", ""},
	{"no mandatory extension", a, atA, "POST", encB, `{"extension_mandatory":[]}`, 200, "", ""},
	{"a mandatory extension by its name alone", a, atA, "POST", encB, `{"extension_mandatory":["known",{"known":1}]}`, 200, "", ""},
	{"an unknown one by its name alone", a, atA, "POST", encB, `{"extension_mandatory":["known","x"]}`, 400,
		"not all extension_mandatory parameters are supported", `"details":[{"extension":"x"}]`},
	{"an unmet one by its name alone", a, atA, "POST", encB, `{"extension_mandatory":["unmet"]}`, 400,
		"not all extension_mandatory request options could be met", `"details":[{"extension":"unmet"}]`},
	{"a mandatory extension without a name", a, atA, "POST", encB, `{"extension_mandatory":[""]}`, 400, "not all extension_mandatory parameters are supported", ""},
	{"a mandatory extension that is a number", a, atA, "POST", encB, `{"extension_mandatory":[1]}`, 400, "extension_mandatory is malformed", ""},
	{"a mandatory extension that is null", a, atA, "POST", encB, `{"extension_mandatory":[null]}`, 400, "extension_mandatory is malformed", ""},
	{"mandatory extensions that are no list", a, atA, "POST", encB, `{"extension_mandatory":"known"}`, 400, "extension_mandatory is malformed", ""},
	{"an unknown optional one by its name alone", a, atA, "POST", encB, `{"extension_optional":["hops"]}`, 200, "", ""},
	{"an unknown optional extension", a, atA, "POST", encB, `{"extension_optional":[{"hops":3}]}`, 200, "", ""},
	{"multicast", a, atA, "POST", encB, `{"additional_slave_SAE_IDs":["SAE_C"]}`, 200, "", ""},
	{"more slaves than max_SAE_ID_count", a, atA, "POST", encB, `{"additional_slave_SAE_IDs":["SAE_C","x","y"]}`, 400,
		"additional_slave_SAE_IDs shall have at most 2 IDs", ""},
	{"the slave as additional slave", a, atA, "POST", encB, `{"additional_slave_SAE_IDs":["SAE_B"]}`, 400,
		`additional_slave_SAE_IDs shall name each SAE once, and neither master nor slave: "SAE_B"`, ""},
	{"the master as additional slave", a, atA, "POST", encB, `{"additional_slave_SAE_IDs":["SAE_A"]}`, 400,
		`additional_slave_SAE_IDs shall name each SAE once, and neither master nor slave: "SAE_A"`, ""},
	{"an additional slave twice", a, atA, "POST", encB, `{"additional_slave_SAE_IDs":["SAE_C","SAE_C"]}`, 400,
		`additional_slave_SAE_IDs shall name each SAE once, and neither master nor slave: "SAE_C"`, ""},
	{"an unknown additional slave", a, atA, "POST", encB, `{"additional_slave_SAE_IDs":["SAE_X"]}`, 400, `additional slave_SAE_ID "SAE_X" is not known`, ""},
	{"an additional slave not paired with", a, atA, "POST", encB, `{"additional_slave_SAE_IDs":["SAE_D"]}`, 401, "", ""},
	{"enc_keys for an unknown slave", a, atA, "POST", "/api/v1/keys/SAE_X/enc_keys", `{}`, 400, `slave_SAE_ID "SAE_X" is not known`, ""},
	{"enc_keys for a slave not paired with", a, atA, "POST", "/api/v1/keys/SAE_D/enc_keys", `{}`, 401, "", ""},
	{"enc_keys for oneself", a, atA, "POST", "/api/v1/keys/SAE_A/enc_keys", `{}`, 401, "", ""},
	{"enc_keys by PUT", a, atA, "PUT", encB, "{}", 405, "method not allowed", ""},
	{"enc_keys by HEAD would use up a key", a, atA, "HEAD", encB, "", 405, "", ""},
	{"a caller who is not known", "SAE_STRANGER", atA, "POST", encB, "{}", 401, "", ""},
	{"a caller at another KME", b, atA, "POST", "/api/v1/keys/SAE_A/enc_keys", "{}", 401, "", ""},

	{"dec_keys by POST", b, atB, "POST", decA, `{"key_IDs":[{"key_ID":"{key}"},{"key_ID":"{key2}"}]}`, 200, "", `"key_ID":"{key}"`},
	{"dec_keys by GET", b, atB, "GET", decA + "?key_ID={key}", "", 200, "", `"key_ID":"{key}"`},
	{"extensions of IDs are ignored", b, atB, "POST", decA, `{"key_IDs":[{"key_ID":"{key}","key_ID_extension":{"x":1}}],"key_IDs_extension":{"y":2}}`, 200, "", ""},
	{"an ID in another spelling", b, atB, "GET", decA + "?key_ID=urn:uuid:{key}", "", 200, "", `"key_ID":"{key}"`},
	{"an unknown ID", b, atB, "POST", decA, `{"key_IDs":[{"key_ID":"00000000-0000-4000-8000-000000000000"}]}`, 400, notFound, ""},
	{"an ID that is no UUID", b, atB, "GET", decA + "?key_ID=x", "", 400, notFound, ""},
	{"an ID of a key that was fetched", b, atB, "POST", decA, `{"key_IDs":[{"key_ID":"{gone}"}]}`, 400, notFound, ""},
	{"one ID of several unknown", b, atB, "POST", decA, `{"key_IDs":[{"key_ID":"{key}"},{"key_ID":"x"}]}`, 400, notFound, ""},
	{"one ID twice", b, atB, "POST", decA, `{"key_IDs":[{"key_ID":"{key}"},{"key_ID":"{key}"}]}`, 400, notFound, ""},
	{"no IDs", b, atB, "POST", decA, `{"key_IDs":[]}`, 400, "key_IDs shall have 1 to 128 IDs", ""},
	{"no key_IDs", b, atB, "POST", decA, `{}`, 400, "key_IDs shall have 1 to 128 IDs", ""},
	{"too many IDs", b, atB, "POST", decA, `{"key_IDs":[` + strings.Repeat(`{"key_ID":"{key}"},`, 128) + `{"key_ID":"x"}]}`, 400, "key_IDs shall have 1 to 128 IDs", ""},
	{"an element without key_ID", b, atB, "POST", decA, `{"key_IDs":[{"key_ID":"{key}"},{}]}`, 400, "key_IDs is malformed: an element without key_ID", ""},
	{"an element that is a string", b, atB, "POST", decA, `{"key_IDs":["{key}"]}`, 400, "key_IDs is malformed", ""},
	{"an unknown member of an element", b, atB, "POST", decA, `{"key_IDs":[{"key_ID":"{key}","id":"x"}]}`, 400, "key_IDs is malformed", ""},
	{"dec_keys by GET without an ID", b, atB, "GET", decA, "", 400, "key_ID is missing", ""},
	{"dec_keys by GET with two IDs", b, atB, "GET", decA + "?key_ID={key}&key_ID={key2}", "", 400, "key_ID shall come once", ""},
	{"dec_keys by HEAD would use up a key", b, atB, "HEAD", decA + "?key_ID={key}", "", 405, "", ""},
	{"dec_keys by one who was no named slave", c, atC, "POST", decA, `{"key_IDs":[{"key_ID":"{key}"}]}`, 401, "", ""},
	{"dec_keys by the master", a, atA, "POST", "/api/v1/keys/SAE_B/dec_keys", `{"key_IDs":[{"key_ID":"{key}"}]}`, 401, "", ""},
	{"dec_keys with the wrong master", b, atB, "POST", "/api/v1/keys/SAE_C/dec_keys", `{"key_IDs":[{"key_ID":"{key}"}]}`, 401, "", ""},
	{"dec_keys with an unknown master", b, atB, "POST", "/api/v1/keys/SAE_X/dec_keys", `{"key_IDs":[{"key_ID":"{key}"}]}`, 401, "", ""},
	{"dec_keys at another KME", b, atA, "POST", decA, `{"key_IDs":[{"key_ID":"{key}"}]}`, 401, "", ""},

	{"an unknown operation", a, atA, "GET", "/api/v1/keys/SAE_B/keys", "", 404, "no such path", ""},
	{"an unknown path", a, atA, "GET", "/", "", 404, "no such path", ""},
	{"another version", a, atA, "GET", "/api/v2/keys/SAE_B/status", "", 404, "no such path", ""},
	{"a slash too many", a, atA, "GET", statusB + "/", "", 404, "no such path", ""},
	{"an empty segment", a, atA, "GET", "/api/v1/keys//status", "", 404, "no such path", ""},
	{"dots are an ID like another", a, atA, "GET", "/api/v1/keys/%2e%2e/status", "", 400, `slave_SAE_ID ".." is not known`, ""},
	{"an ID that is not UTF-8", a, atA, "GET", "/api/v1/keys/%ff/status", "", 404, "no such path", ""},
}

func TestConformance(t *testing.T) {
	s := start(t, Options{MaxSAEIDs: 2, Extensions: map[string]bool{"known": true, "unmet": false}})
	for _, r := range conformance {
		t.Run(r.rule, func(t *testing.T) { r.check(t, s) })
	}
}

func (r rule) check(t *testing.T, s *site) {
	_, ids := s.enc(`{"number":3}`)
	if m := s.dec(ids[2]); m.status != http.StatusOK {
		t.Fatalf("dec_keys: HTTP %d", m.status)
	}
	fill := strings.NewReplacer("{key}", ids[0], "{key2}", ids[1], "{gone}", ids[2]).Replace
	m := s.do(r.sae, r.kme, r.method, fill(r.path), fill(r.body))
	if m.status != r.status {
		t.Fatalf("HTTP %d: %.300s\nwant %d", m.status, m.body, r.status)
	}
	if !strings.Contains(string(m.body), fill(r.has)) {
		t.Errorf("%s\nwant in it %s", m.body, fill(r.has))
	}
	switch {
	case r.status == http.StatusUnauthorized:
		if len(m.body) != 0 {
			t.Errorf("a 401 with a body: %s", m.body)
		}
	case m.header.Get("Content-Type") != "application/json":
		t.Errorf("content type %q", m.header.Get("Content-Type"))
	case r.status != http.StatusOK && r.method != http.MethodHead:
		if m.text() != r.message {
			t.Errorf("message %q\nwant    %q", m.text(), r.message)
		}
	}
	if (r.status == http.StatusMethodNotAllowed) != (m.header.Get("Allow") != "") {
		t.Errorf("Allow: %q", m.header.Get("Allow"))
	}
	if r.status != http.StatusOK { // a refused request has used up nothing
		if after, _ := s.dec(ids[0], ids[1]).keys(t); len(after) != 2 {
			t.Errorf("%d of 2 keys are left", len(after))
		}
	}
}

// Both sides get the same bytes, once.
func TestTwoSites(t *testing.T) {
	s := start(t, Options{})
	for _, want := range []struct {
		body         string
		number, size int
	}{{`{}`, 1, 256}, {`{"number":128,"size":1024}`, 128, 1024}, {`{"size":524544}`, 1, 524544}} {
		sent, ids := s.enc(want.body)
		if len(ids) != want.number {
			t.Fatalf("%s: %d keys", want.body, len(ids))
		}
		got, order := s.dec(ids...).keys(t)
		if strings.Join(order, " ") != strings.Join(ids, " ") {
			t.Errorf("%s: keys in another order", want.body)
		}
		for id, key := range sent {
			if u, err := uuid.Parse(id); err != nil || u.String() != id {
				t.Errorf("key ID %q is no UUID", id)
			}
			if !bytes.Equal(key, got[id]) || len(key)*8 != want.size {
				t.Errorf("%s: %d and %d bytes that differ", want.body, len(key), len(got[id]))
			}
		}
		if m := s.dec(ids[0]); m.status != 400 || m.text() != notFound {
			t.Errorf("a second fetch: HTTP %d %s", m.status, m.body)
		}
	}
	// The other way round, and with an ID that needs escaping.
	sent, ids := s.do(oddSAE, atC, "GET", "/api/v1/keys/SAE_A/enc_keys", "").keys(t)
	got, _ := s.do(a, atA, "GET", "/api/v1/keys/"+oddPath+"/dec_keys?key_ID="+ids[0], "").keys(t)
	if !bytes.Equal(sent[ids[0]], got[ids[0]]) {
		t.Error("not the same key")
	}
}

// Each slave of a multicast key fetches it, once.
func TestMulticast(t *testing.T) {
	s := start(t, Options{MaxSAEIDs: 1})
	sent, ids := s.enc(`{"additional_slave_SAE_IDs":["SAE_C"],"number":2}`)
	for _, slave := range [][2]string{{c, atC}, {b, atB}} {
		got, _ := s.do(slave[0], slave[1], "POST", decA, idList(ids...)).keys(t)
		for id, key := range sent {
			if !bytes.Equal(key, got[id]) {
				t.Errorf("%s has another key", slave[0])
			}
		}
		if m := s.do(slave[0], slave[1], "POST", decA, idList(ids[0])); m.status != 400 || m.text() != notFound {
			t.Errorf("%s fetches a second time: HTTP %d %s", slave[0], m.status, m.body)
		}
	}
	s = start(t, Options{})
	m := s.do(a, atA, "POST", encB, `{"additional_slave_SAE_IDs":["SAE_C"]}`)
	if m.status != 400 || m.text() != "additional_slave_SAE_IDs shall have at most 0 IDs" {
		t.Errorf("multicast without multicast: HTTP %d %s", m.status, m.body)
	}
}

func TestStrictOptional(t *testing.T) {
	s := start(t, Options{StrictOptional: true, Extensions: map[string]bool{"known": true}})
	if m := s.do(a, atA, "POST", encB, `{"extension_optional":[{"known":1},{"hops":1}]}`); m.status != 400 || m.text() != notHandled {
		t.Errorf("HTTP %d %s", m.status, m.body)
	}
	s.enc(`{"extension_optional":[{"known":1}]}`)
}

func TestClientCertificate(t *testing.T) {
	s := start(t, Options{})
	if m, err := s.try("", atA, "GET", statusB, ""); err == nil {
		t.Errorf("without a certificate: HTTP %d, want a failed handshake", m.status)
	}
	other := start(t, Options{}) // whose CA is another one
	client := other.client(a)
	client.Transport.(*http.Transport).TLSClientConfig.RootCAs = s.client(b).Transport.(*http.Transport).TLSClientConfig.RootCAs
	if m, err := send(client, s.url[atA]+statusB, "GET", "", ""); err == nil {
		t.Errorf("with a certificate of another CA: HTTP %d, want a failed handshake", m.status)
	}
	s = startWith(t, testTopology(), Options{}, true)
	if m := s.do("", atA, "GET", statusB, ""); m.status != 401 || len(m.body) != 0 {
		t.Errorf("without a certificate, where it is optional: HTTP %d %s, want a bare 401", m.status, m.body)
	}
	if m := s.do(a, atA, "GET", statusB, ""); m.status != 200 || !json.Valid(m.body) {
		t.Errorf("with a certificate, where it is optional: HTTP %d %s", m.status, m.body)
	}
}
