package kmclient

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Status is what a key manager says of itself and of a link. The names are
// those of ETSI GS QKD 014 §6.1 and of the QMail REST API. An empty text, a
// limit of 0 and a nil count mean that the key manager did not say.
type Status struct {
	State     string `json:"status,omitempty"`          // of the key manager, in its own word, as "operational"
	Link      string `json:"qkd_link_status,omitempty"` // of the QKD link, in the key manager's word, as "active"
	Mode      string `json:"mode,omitempty"`            // as "simulation"
	Timestamp string `json:"timestamp,omitempty"`       // when it said so, as it writes it

	SourceKME string `json:"source_KME_ID,omitempty"` // the KME that answers
	TargetKME string `json:"target_KME_ID,omitempty"` // the KME at the other end
	MasterSAE string `json:"master_SAE_ID,omitempty"` // the caller
	SlaveSAE  string `json:"slave_SAE_ID,omitempty"`  // the peer

	KeySize          int  `json:"key_size,omitempty"`            // bits, the default of a key request
	StoredKeys       *int `json:"stored_key_count,omitempty"`    // keys ready to be handed out; 0 may also be said where they are made on demand
	KeysGenerated    *int `json:"keys_generated,omitempty"`      // keys made so far
	QueueLength      *int `json:"queue_length,omitempty"`        // requests that wait at the key manager
	MaxKeys          int  `json:"max_key_count,omitempty"`       // keys that the KME can store
	MaxKeyPerRequest int  `json:"max_key_per_request,omitempty"` // keys a request
	MaxKeySize       int  `json:"max_key_size,omitempty"`        // bits
	MinKeySize       int  `json:"min_key_size,omitempty"`        // bits
	MaxSAEIDs        int  `json:"max_SAE_ID_count,omitempty"`    // additional slave SAEs of a multicast key

	// KeyIDBytes is the most that a key ID of this key manager takes in a
	// message, in bytes, by the IDs that the client has had from it: 16 for a
	// UUID in its canonical spelling, else the length of the ID. 0: none yet.
	KeyIDBytes int `json:"-"`

	// OnDemand says that keys are made when they are asked for, so that
	// StoredKeys says nothing about how many can be had.
	OnDemand bool `json:"on_demand,omitempty"`
}

// Trouble returns what the key manager says is wrong with itself or with the
// QKD link, in its own words, and "" if it says nothing of the kind. A word
// counts in any case; one that is not known to mean that all is well is
// trouble. So are limits by which it gives no key of 256 bits.
func (s Status) Trouble() string {
	var trouble []string
	if s.State != "" && !meansWell(s.State) {
		trouble = append(trouble, fmt.Sprintf("the key manager is %q", s.State))
	}
	if s.Link != "" && !meansWell(s.Link) {
		trouble = append(trouble, fmt.Sprintf("the QKD link is %q", s.Link))
	}
	if s.MaxKeySize > 0 && s.MaxKeySize < 256 || s.MinKeySize > 256 {
		trouble = append(trouble, "no key has 256 bits, as AES-256-GCM needs one")
	}
	return strings.Join(trouble, ", ")
}

// meansWell reports whether a key manager uses a word for a state in which it
// works.
func meansWell(word string) bool {
	switch strings.ToLower(strings.TrimSpace(word)) {
	case "active", "alive", "available", "connected", "enabled", "established", "good", "healthy", "normal",
		"ok", "okay", "online", "operational", "ready", "running", "success", "true", "up", "working":
		return true
	}
	return false
}

// decodeStatus reads a status leniently: member names in any case, numbers and
// texts in each other's place. What is missing or senseless is as if the key
// manager had not said it.
func decodeStatus(body []byte) (Status, error) {
	var members map[string]json.RawMessage
	if err := decodeJSON(body, &members); err != nil {
		return Status{}, err
	}
	if members == nil {
		return Status{}, fmt.Errorf("%w: null", ErrBadAnswer)
	}
	f := make(statusFields, len(members))
	for name, value := range members {
		if lower := strings.ToLower(name); f[lower] == nil || name == lower {
			f[lower] = value
		}
	}
	s := Status{
		State: f.text("status"), Link: f.text("qkd_link_status"), Mode: f.text("mode"), Timestamp: f.text("timestamp"),
		SourceKME: f.text("source_kme_id"), TargetKME: f.text("target_kme_id"),
		MasterSAE: f.text("master_sae_id"), SlaveSAE: f.text("slave_sae_id"),
		KeySize:    f.limit("key_size"),
		StoredKeys: f.count("stored_key_count", "available_keys", "keys_stored"),
		MaxKeys:    f.limit("max_key_count"), MaxKeyPerRequest: f.limit("max_key_per_request"),
		MaxKeySize: f.limit("max_key_size"), MinKeySize: f.limit("min_key_size"), MaxSAEIDs: f.limit("max_sae_id_count"),
		KeysGenerated: f.count("keys_generated"), QueueLength: f.count("queue_length"),
	}
	// The reference system's mock: what it has stored are keys that it has
	// handed out.
	s.OnDemand = strings.EqualFold(s.Mode, modeSimulation)
	return s, nil
}

const modeSimulation = "simulation"

// statusFields are the members of a status by their names in lower case.
type statusFields map[string]json.RawMessage

// text returns a text, or a number or truth value as a text.
func (f statusFields) text(name string) string {
	var s string
	var n json.Number
	var truth *bool
	raw := f[name]
	switch {
	case json.Unmarshal(raw, &s) == nil:
		return printable(s)
	case json.Unmarshal(raw, &n) == nil:
		return n.String()
	case json.Unmarshal(raw, &truth) == nil && truth != nil:
		return strconv.FormatBool(*truth)
	}
	return ""
}

// count returns the first of these members that is a count, nil if none is.
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

// limit returns a count of which 0 means that it is not said.
func (f statusFields) limit(name string) int {
	if n := f.count(name); n != nil {
		return *n
	}
	return 0
}
