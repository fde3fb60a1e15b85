package kmhttp

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/internal/redact"
)

// DecodeStatus decodes a status (ETSI GS QKD 014 §6.1, and that of QMail). It accepts
// member names in any case, and numbers and strings in each other's place. It ignores
// values that make no sense.
func DecodeStatus(body []byte) (kmclient.Status, error) {
	var members map[string]json.RawMessage
	if err := decodeJSON(body, &members); err != nil {
		return kmclient.Status{}, err
	}
	if members == nil {
		return kmclient.Status{}, fmt.Errorf("%w: null", kmclient.ErrBadAnswer)
	}
	f := make(statusFields, len(members))
	for name, value := range members {
		if lower := strings.ToLower(name); f[lower] == nil || name == lower {
			f[lower] = value
		}
	}
	s := kmclient.Status{
		State: f.text("status"), Link: f.text("qkd_link_status"), Mode: f.text("mode"), Timestamp: f.text("timestamp"),
		SourceKME: f.text("source_kme_id"), TargetKME: f.text("target_kme_id"),
		MasterSAE: f.text("master_sae_id"), SlaveSAE: f.text("slave_sae_id"),
		KeySize:    f.limit("key_size"),
		StoredKeys: f.count("stored_key_count", "available_keys", "keys_stored"),
		MaxKeys:    f.limit("max_key_count"), MaxKeyPerRequest: f.limit("max_key_per_request"),
		MaxKeySize: f.limit("max_key_size"), MinKeySize: f.limit("min_key_size"), MaxSAEIDs: f.limit("max_sae_id_count"),
		KeysGenerated: f.count("keys_generated"), QueueLength: f.count("queue_length"),
	}
	// The reference system's mock counts keys that it has given out.
	s.OnDemand = strings.EqualFold(s.Mode, "simulation")
	return s, nil
}

// statusFields are the members of a status by their lower-case names.
type statusFields map[string]json.RawMessage

// text returns a string; a number or boolean becomes one.
func (f statusFields) text(name string) string {
	var s string
	var n json.Number
	var truth *bool
	raw := f[name]
	switch {
	case json.Unmarshal(raw, &s) == nil:
		return redact.Line(s)
	case json.Unmarshal(raw, &n) == nil:
		return n.String()
	case json.Unmarshal(raw, &truth) == nil && truth != nil:
		return strconv.FormatBool(*truth)
	}
	return ""
}

// count returns the first of these members that is a count, or nil.
func (f statusFields) count(names ...string) *int {
	for _, name := range names {
		text := strings.TrimSpace(f.text(name))
		n, err := strconv.Atoi(text)
		if err != nil { // 42.0 and 4.2e1 are counts in JSON
			x, ferr := strconv.ParseFloat(text, 64)
			if ferr != nil || x != math.Trunc(x) || math.Abs(x) > 1<<53 {
				continue
			}
			n = int(x)
		}
		if n >= 0 {
			return &n
		}
	}
	return nil
}

// limit returns a count, or 0.
func (f statusFields) limit(name string) int {
	if n := f.count(name); n != nil {
		return *n
	}
	return 0
}
