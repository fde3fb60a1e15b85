package kmclient

import (
	"encoding/json"
	"strings"
	"testing"
)

// A count of 0 and one that was not reported also differ in JSON.
func TestStatusJSON(t *testing.T) {
	if got := asJSON(Status{}); got != "{}" {
		t.Errorf("a key manager that says nothing: %s, want {}", got)
	}
	const want = `{"status":"ok","stored_key_count":0,"keys_generated":0,"queue_length":0}`
	if got := asJSON(Status{State: "ok", StoredKeys: new(0), KeysGenerated: new(0), QueueLength: new(0)}); got != want {
		t.Errorf("zeros: %s\nwant %s", got, want)
	}
}

func TestTrouble(t *testing.T) {
	for _, test := range []struct {
		state, link string
		want        []string // in the text; none: no trouble
	}{
		{"", "", nil},
		{"operational", "active", nil},
		{"OPERATIONAL", "Active", nil},
		{"Ok", "", nil},
		{"", "UP", nil},
		{"true", "connected", nil},
		{"operational", "inactive", []string{`QKD link is "inactive"`}},
		{"operational", "Down", []string{`"Down"`}},
		{"operational", "not active", []string{`"not active"`}},
		{"", "false", []string{`"false"`}},
		{"degraded", "active", []string{`key manager is "degraded"`}},
		{"error", "", []string{`"error"`}},
		{"Wartung", "gestört", []string{`"Wartung"`, `"gestört"`}}, // unknown words are shown as they are
	} {
		got := Status{State: test.state, Link: test.link}.Trouble()
		if (got == "") != (test.want == nil) {
			t.Errorf("status %q, link %q: trouble is %q, want %q in it", test.state, test.link, got, test.want)
		}
		for _, want := range test.want {
			if !strings.Contains(got, want) {
				t.Errorf("status %q, link %q: trouble is %q, want %q in it", test.state, test.link, got, want)
			}
		}
	}
}

// A key manager whose limits allow no key of 256 bits is of no use for AES-256-GCM.
func TestTroubleLimits(t *testing.T) {
	for _, test := range []struct {
		status  Status
		trouble bool
	}{
		{Status{}, false},
		{Status{MinKeySize: 64, MaxKeySize: 256}, false},
		{Status{MinKeySize: 256}, false},
		{Status{MaxKeySize: 255}, true},
		{Status{MinKeySize: 257, MaxKeySize: 1024}, true},
		{Status{State: "ok", Link: "up", MaxKeySize: 128}, true},
	} {
		if got := test.status.Trouble(); strings.Contains(got, "256 bits") != test.trouble {
			t.Errorf("keys of %d to %d bits: trouble is %q", test.status.MinKeySize, test.status.MaxKeySize, got)
		}
	}
}

func asJSON(v any) string {
	text, _ := json.Marshal(v)
	return string(text)
}
