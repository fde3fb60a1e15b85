package cipher_test

import (
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/qkdmail/qkdmail/cipher"
)

func TestSAEs(t *testing.T) {
	tests := []struct {
		sender, recipient string // of the message
		sae               string // of the reader
		peers             []string
		ok                bool
	}{
		{"", "", "", nil, true},
		{"A", "B", "B", []string{"A"}, true},
		{"A", "B", "B", []string{"C", "A"}, true},
		{"A", "", "", []string{"A"}, true},
		{"", "B", "B", nil, true},
		{"SAE with blanks", "Ünï", "Ünï", []string{"SAE with blanks"}, true},
		{"-", "%2D", "%2D", []string{"-"}, true},

		{"A", "B", "C", []string{"A"}, false},       // to another SAE
		{"A", "B", "B", []string{"C"}, false},       // from a stranger
		{"A", "B", "B", nil, false},                 // from a stranger
		{"A", "B", "", []string{"A"}, false},        // to another SAE
		{"", "B", "B", []string{"A"}, false},        // from none
		{"", "", "B", []string{"A"}, false},         // no SAEs
		{"a", "b", "B", []string{"A"}, false},       // case
		{"B", "B", "B", []string{"A", "B"}, false},  // from ourselves
		{"A", "B", "B", []string{"B"}, false},       // only ourselves
		{"-", "B", "B", nil, false},                 // an SAE with the name for none
		{"A B", "B", "B", []string{"A%20B"}, false}, // escapes don't collide
		{"A", "B", "B", []string{""}, false},        // only those without SAE
		{"", "B", "B", []string{"", "A"}, true},     // or from A
		{strings.Repeat("x", 255), "B", "B", []string{strings.Repeat("x", 255)}, true},
	}
	for _, tt := range tests {
		km := newTestKM()
		outer := encrypt(t, km, []byte(shortMessage), &cipher.EncryptOptions{SAE: tt.sender, Peer: tt.recipient})
		_, err := decrypt(t, km, outer, &cipher.DecryptOptions{SAE: tt.sae, Peers: tt.peers})
		if tt.ok && err != nil || !tt.ok && !errors.Is(err, cipher.ErrSAE) {
			t.Errorf("%q to %q, read by %q with peers %q: error %v, want ok: %v", tt.sender, tt.recipient, tt.sae, tt.peers, err, tt.ok)
		}
		if !tt.ok && km.finds > 0 {
			t.Errorf("%q to %q, read by %q: a key was fetched", tt.sender, tt.recipient, tt.sae)
		}
	}
	// An SAE ID that is too long for the control part is refused at once.
	for _, sae := range []string{strings.Repeat("x", 256), strings.Repeat("%", 86)} {
		if _, err := cipher.Encrypt(t.Context(), io.Discard, newTestKM(), &cipher.EncryptOptions{SAE: sae}); !errors.Is(err, cipher.ErrOptions) {
			t.Errorf("an SAE ID of %d bytes: error %v, want %v", len(sae), err, cipher.ErrOptions)
		}
	}
}
