package kmhttp

import (
	"encoding/json"
	"errors"
	"reflect"
	"testing"

	"github.com/qkdmail/qkdmail/kmclient"
)

func TestDecodeStatus(t *testing.T) {
	for name, test := range map[string]struct {
		body string
		want kmclient.Status
	}{
		"ETSI": {`{"source_KME_ID":"A","target_KME_ID":"B","master_SAE_ID":"a","slave_SAE_ID":"b","key_size":352,
			"stored_key_count":25000,"max_key_count":100000,"max_key_per_request":128,"max_key_size":1024,
			"min_key_size":64,"max_SAE_ID_count":0}`, kmclient.Status{SourceKME: "A", TargetKME: "B", MasterSAE: "a", SlaveSAE: "b",
			KeySize: 352, StoredKeys: new(25000), MaxKeys: 100000, MaxKeyPerRequest: 128, MaxKeySize: 1024, MinKeySize: 64}},
		"QMail": {`{"status":"operational","qkd_link_status":"active","available_keys":1523,"queue_length":42}`,
			kmclient.Status{State: "operational", Link: "active", StoredKeys: new(1523), QueueLength: new(42)}},
		"reference's mock": {`{"status":"ok","mode":"simulation","keys_generated":7,"keys_stored":0,"timestamp":"2025-10-12T19:56:42.123456"}`,
			kmclient.Status{State: "ok", Mode: "simulation", KeysGenerated: new(7), StoredKeys: new(0), Timestamp: "2025-10-12T19:56:42.123456", OnDemand: true}},
		"counts as texts": {`{"status":1,"qkd_link_status":true,"available_keys":"1523","queue_length":42.0,"keys_generated":" 7 ","timestamp":1760298996}`,
			kmclient.Status{State: "1", Link: "true", StoredKeys: new(1523), QueueLength: new(42), KeysGenerated: new(7), Timestamp: "1760298996"}},
		"exponents":            {`{"available_keys":1.5e3,"queue_length":1e99,"keys_generated":0.5}`, kmclient.Status{StoredKeys: new(1500)}},
		"names in other cases": {`{"STATUS":"OK","QKD_Link_Status":"Down","Available_Keys":3}`, kmclient.Status{State: "OK", Link: "Down", StoredKeys: new(3)}},
		"zero is said":         {`{"available_keys":0,"queue_length":0,"keys_generated":0}`, kmclient.Status{StoredKeys: new(0), QueueLength: new(0), KeysGenerated: new(0)}},
		"null is not said":     {`{"stored_key_count":null,"available_keys":5,"status":null,"queue_length":null}`, kmclient.Status{StoredKeys: new(5)}},
		"two counts":           {`{"stored_key_count":0,"available_keys":5,"keys_stored":12}`, kmclient.Status{StoredKeys: new(0)}},
		"a count that is none": {`{"stored_key_count":-1,"available_keys":"many","keys_stored":12}`, kmclient.Status{StoredKeys: new(12)}},
		"numbers and text":     {`{"target_KME_ID":7,"key_size":"256"}`, kmclient.Status{TargetKME: "7", KeySize: 256}},
		"senseless": {`{"key_size":-1,"max_key_size":1e99,"stored_key_count":[],"source_KME_ID":{},"status":{"a":1},
			"qkd_link_status":["active"],"available_keys":true}`, kmclient.Status{}},
		"empty":              {`{}`, kmclient.Status{}},
		"control characters": {`{"source_KME_ID":"a\u001b[31m\nb"}`, kmclient.Status{SourceKME: "a[31m b"}},
	} {
		if got, err := DecodeStatus([]byte(test.body)); err != nil || !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s: got %s, %v\nwant %s", name, asJSON(got), err, asJSON(test.want))
		}
	}
	for name, body := range map[string]string{
		"null": `null`, "list": `[1]`, "HTML": `<html>`, "trailing": `{} {}`, "nothing": ``, "number": `1`,
		"cut short": `{"key_size":25`, "not a number": `{"key_size":NaN}`,
	} {
		if got, err := DecodeStatus([]byte(body)); !errors.Is(err, kmclient.ErrBadAnswer) {
			t.Errorf("%s: got %s, %v, want ErrBadAnswer", name, asJSON(got), err)
		}
	}
}

// FuzzStatus gives any bytes as a status: nothing may panic, and no count is
// negative.
func FuzzStatus(f *testing.F) {
	f.Add([]byte(`{"status":"operational","qkd_link_status":"active","available_keys":1523,"queue_length":42}`))
	f.Add([]byte(`{"keys_stored":"12","Keys_Stored":-1,"mode":["simulation"]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		s, err := DecodeStatus(body)
		if err != nil {
			if !errors.Is(err, kmclient.ErrBadAnswer) {
				t.Errorf("%v, want ErrBadAnswer", err)
			}
			return
		}
		for _, n := range []*int{s.StoredKeys, s.KeysGenerated, s.QueueLength, &s.KeySize, &s.MaxKeys, &s.MaxKeyPerRequest, &s.MaxKeySize, &s.MinKeySize, &s.MaxSAEIDs} {
			if n != nil && *n < 0 {
				t.Errorf("a negative count in %s", asJSON(s))
			}
		}
		_ = s.Trouble()
	})
}

func asJSON(v any) string {
	text, _ := json.Marshal(v)
	return string(text)
}
