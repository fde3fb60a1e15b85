package cipher

import (
	"fmt"
	"github.com/qkdmail/qkdmail/kmclient"
	"net/url"
	"strings"
	"time"
)

// A Suite is how the message is encrypted.
type Suite string

const (
	// SuiteAES256GCM: AES-256-GCM under one key of 256 bits a message.
	SuiteAES256GCM Suite = "AES-256-GCM"
	// SuiteOTP: a one-time pad with a one-time authenticator; as much key as
	// message.
	SuiteOTP Suite = "OTP"
	// SuiteAuto is for encryption only: OTP up to a size, AES-256-GCM above. It
	// also takes AES-256-GCM where the key manager's limits, as they stand in
	// its status, rule a pad out; never for want of keys.
	SuiteAuto Suite = "auto"
)

// ParseSuite reads the name of a suite in any case.
func ParseSuite(name string) (Suite, error) {
	for _, s := range []Suite{SuiteAES256GCM, SuiteOTP, SuiteAuto} {
		if strings.EqualFold(name, string(s)) {
			return s, nil
		}
	}
	return "", fmt.Errorf("%w: suite %q: must be aes-256-gcm, otp or auto", ErrOptions, name)
}

// Info tells what is known of an encrypted message. It holds no key and
// nothing of the content.
type Info struct {
	Suite        Suite
	Time         time.Time // when it was encrypted, whole seconds
	SenderSAE    string    // "" where the message has none
	RecipientSAE string    // "" where the message has none
	KeyID        string    // that the control part names; for OTP the first
	KeyIDs       []string  // in the order of their use, as spelled by the key manager; where Encrypt fails, all that were fetched

	// Identity of the message, which tells it from others under the same key.
	// Only Decrypt sets it, before it asks for the first key: for OTP once the
	// first frame is read. Until a key has verified something it proves nothing.
	Identity kmclient.Identity

	// Octets of the message before encryption. Decrypt counts what it has
	// released.
	PlaintextSize int64
	// Octets of the payload before base64. Only Inspect sets it.
	PayloadSize int64

	// Outer is the header of the encrypted message, unfolded, in its order. Only
	// Inspect sets it.
	Outer []Field
	// Transit are the trace fields above Qkdmail-Key-ID, each as it came, with
	// folds and line end, 64 KiB at most: Received, Return-Path (RFC 5321 §4.4),
	// Delivered-To (RFC 9228) and Authentication-Results (RFC 8601), which relays
	// put there on the way. Empty where that field is missing. Encrypt does not
	// set it.
	Transit [][]byte

	// Bcc reports that the message was seen to have a Bcc or Resent-Bcc
	// field, which travels inside. Only Encrypt sets it.
	Bcc bool
	// NoPad is why SuiteAuto took AES-256-GCM for a message that is short
	// enough for a pad: an ErrPad. It is the same for each message, as long as
	// the key manager has the same limits. Only Encrypt sets it.
	NoPad error
	// WastedKeys counts keys that were fetched for the message and wiped
	// unused, since others that they were needed with did not come. Encrypt
	// has failed then, and the last of KeyIDs are theirs. Only Encrypt sets it.
	WastedKeys int
	// NoHeader reports that the input does not begin with a header field, so
	// that the outer From is made up. Only Encrypt sets it.
	NoHeader bool
}

// A Field is a header field, unfolded.
type Field struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// noSAE stands in the control part where no SAE ID is configured.
const noSAE = "-"

// controlSAE returns an SAE ID as it stands in the control part: octets that
// can't stand there are percent-encoded, and so is the percent sign, that two
// SAEs never look the same, and an SAE ID that is "-".
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
