package cipher

import (
	"fmt"
	"net/url"
	"strings"

	"github.com/qkdmail/qkdmail/cipher/internal/envelope"
)

// noSAE stands in the control part if no SAE ID is configured.
const noSAE = "-"

// controlSAE returns an SAE ID as the control part has it, with bytes other than 0x21
// to 0x7E percent-encoded. The percent sign and the SAE ID "-" are encoded as well, so
// that no two SAE IDs look the same.
func controlSAE(sae string) string {
	if sae == "" {
		return noSAE
	}
	var b strings.Builder
	for i := range len(sae) {
		if c := sae[i]; c < 0x21 || c > 0x7E || c == '%' || sae == noSAE {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// readableSAE undoes controlSAE, for display.
func readableSAE(value string) string {
	if value == noSAE {
		return ""
	}
	if s, err := url.PathUnescape(value); err == nil {
		return s
	}
	return value
}

// checkSAEs refuses a message unless it is from a configured peer to this SAE. It also
// refuses a message of our own that comes back. It returns the SAE ID of the sender.
func checkSAEs(c *envelope.Control, opts *DecryptOptions) (peer string, err error) {
	if c.RecipientSAE != controlSAE(opts.SAE) {
		return "", fmt.Errorf("%w: it is addressed to %q, this is %q", ErrSAE, c.RecipientSAE, controlSAE(opts.SAE))
	}
	peers := opts.Peers
	if len(peers) == 0 {
		peers = []string{""}
	}
	for _, p := range peers {
		if c.SenderSAE == controlSAE(p) && (p == "" || p != opts.SAE) {
			return p, nil
		}
	}
	return "", fmt.Errorf("%w: it comes from %q", ErrSAE, c.SenderSAE)
}
