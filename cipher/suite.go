package cipher

import (
	"fmt"
	"slices"
	"strings"
)

// A Suite is a way to encrypt a message.
type Suite string

const (
	// SuiteAES256GCM is AES-256-GCM under one key of 256 bits.
	SuiteAES256GCM Suite = "AES-256-GCM"
	// SuiteOTP is a one-time pad with a one-time authenticator. It takes as many key
	// bytes as the message has, and a few more: see PadCost.
	SuiteOTP Suite = "OTP"
	// SuiteAES256GCMXWing and SuiteOTPXWing are hybrid: opening a message takes both
	// the key manager's keys and the recipient's X-Wing private key. A message is safe
	// as long as either is.
	SuiteAES256GCMXWing Suite = "AES-256-GCM" + xWing
	SuiteOTPXWing       Suite = "OTP" + xWing
	// SuiteAuto, for encryption only, takes OTP up to EncryptOptions.PadLimit and
	// AES-256-GCM above. It also takes AES-256-GCM if the limits in the key manager's
	// status rule out a pad, but never for lack of keys. With EncryptOptions.Hybrid,
	// both are hybrid.
	SuiteAuto Suite = "auto"
)

const xWing = "+X-WING"

// Suites returns the suites that a message can have: all but SuiteAuto.
func Suites() []Suite {
	return []Suite{SuiteAES256GCM, SuiteOTP, SuiteAES256GCMXWing, SuiteOTPXWing}
}

// Hybrid reports whether the suite takes an X-Wing key in addition to the key
// manager's.
func (s Suite) Hybrid() bool { return strings.HasSuffix(string(s), xWing) }

// known reports whether a message can have the suite.
func (s Suite) known() bool { return slices.Contains(Suites(), s) }

// Plain returns the suite without X-Wing.
func (s Suite) Plain() Suite { return Suite(strings.TrimSuffix(string(s), xWing)) }

// hybrid returns the suite with X-Wing. SuiteAuto stays what it is.
func (s Suite) hybrid() Suite {
	if s == SuiteAuto || s.Hybrid() {
		return s
	}
	return s + xWing
}

// ParseSuite reads the name of a suite, in any case.
func ParseSuite(name string) (Suite, error) {
	for _, s := range append(Suites(), SuiteAuto) {
		if strings.EqualFold(name, string(s)) {
			return s, nil
		}
	}
	return "", fmt.Errorf("%w: suite %q: must be aes-256-gcm, otp, aes-256-gcm+x-wing, otp+x-wing or auto", ErrOptions, name)
}
