package kmclient

import (
	"fmt"
	"strings"
)

// Status is what a key manager reports about itself and a link. The names in JSON are
// those of ETSI GS QKD 014 §6.1 and of the QMail REST API. An empty string, a limit of
// 0 or a nil count means that the key manager does not report it.
type Status struct {
	State     string `json:"status,omitempty"`          // of the key manager, in its own words, such as "operational"
	Link      string `json:"qkd_link_status,omitempty"` // of the QKD link, in the key manager's words, such as "active"
	Mode      string `json:"mode,omitempty"`            // such as "simulation"
	Timestamp string `json:"timestamp,omitempty"`       // of the report, as the key manager writes it

	SourceKME string `json:"source_KME_ID,omitempty"` // the KME that answers
	TargetKME string `json:"target_KME_ID,omitempty"` // the KME at the other end
	MasterSAE string `json:"master_SAE_ID,omitempty"` // the caller
	SlaveSAE  string `json:"slave_SAE_ID,omitempty"`  // the peer

	KeySize          int  `json:"key_size,omitempty"`            // bits of a key if a request names no size
	StoredKeys       *int `json:"stored_key_count,omitempty"`    // keys ready to be given out; may be 0 if they are made on demand
	KeysGenerated    *int `json:"keys_generated,omitempty"`      // keys made so far
	QueueLength      *int `json:"queue_length,omitempty"`        // requests waiting at the key manager
	MaxKeys          int  `json:"max_key_count,omitempty"`       // keys that the KME can store
	MaxKeyPerRequest int  `json:"max_key_per_request,omitempty"` // keys per request
	MaxKeySize       int  `json:"max_key_size,omitempty"`        // bits
	MinKeySize       int  `json:"min_key_size,omitempty"`        // bits
	MaxSAEIDs        int  `json:"max_SAE_ID_count,omitempty"`    // additional slave SAEs of a multicast key

	// KeyIDBytes is the most bytes that a key ID from this key manager has taken in a
	// message so far: 16 for a UUID in its canonical spelling, else the length of the
	// ID. It is 0 before the first key.
	KeyIDBytes int `json:"-"`

	// Connections tell how the client reached the key managers of this site that have
	// answered so far. The client fills it in; nil if it makes no connections.
	Connections []Connection `json:"connections,omitempty"`

	// OnDemand means that keys are made when they are asked for, whatever
	// StoredKeys is.
	OnDemand bool `json:"on_demand,omitempty"`
}

// Trouble returns what is wrong with the key manager or the QKD link by its own report,
// or "". A state is trouble unless its word, in any case, is known to be good. Limits
// that allow no key of 256 bits are trouble too.
func (s Status) Trouble() string {
	var trouble []string
	if s.State != "" && !meansWell(s.State) {
		trouble = append(trouble, fmt.Sprintf("the key manager is %q", s.State))
	}
	if s.Link != "" && !meansWell(s.Link) {
		trouble = append(trouble, fmt.Sprintf("the QKD link is %q", s.Link))
	}
	if s.MaxKeySize > 0 && s.MaxKeySize < 256 || s.MinKeySize > 256 {
		trouble = append(trouble, "it gives no key of 256 bits, which AES-256-GCM needs")
	}
	return strings.Join(trouble, ", ")
}

// meansWell reports whether word is one that key managers use for a state in which
// they work.
func meansWell(word string) bool {
	switch strings.ToLower(strings.TrimSpace(word)) {
	case "active", "alive", "available", "connected", "enabled", "established", "good", "healthy", "normal",
		"ok", "okay", "online", "operational", "ready", "running", "success", "true", "up", "working":
		return true
	}
	return false
}
