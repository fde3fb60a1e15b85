package kmclient

import (
	"fmt"
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
