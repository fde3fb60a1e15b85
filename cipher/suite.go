package cipher

import (
	"fmt"
	"strings"
)

// A Suite is a way to encrypt a message.
type Suite string

const (
	// SuiteAES256GCM is AES-256-GCM under one key of 256 bits.
	SuiteAES256GCM Suite = "AES-256-GCM"
	// SuiteOTP is a one-time pad with a one-time authenticator. It takes as
	// many bytes of key as the message has, and a few more: see PadCost.
	SuiteOTP Suite = "OTP"
	// SuiteAuto, for encryption only, takes OTP up to EncryptOptions.PadLimit
	// and AES-256-GCM above. It also takes AES-256-GCM if the limits in the key
	// manager's status rule a pad out, but never for lack of keys.
	SuiteAuto Suite = "auto"
)

// ParseSuite reads the name of a suite, in any case.
func ParseSuite(name string) (Suite, error) {
	for _, s := range []Suite{SuiteAES256GCM, SuiteOTP, SuiteAuto} {
		if strings.EqualFold(name, string(s)) {
			return s, nil
		}
	}
	return "", fmt.Errorf("%w: suite %q: must be aes-256-gcm, otp or auto", ErrOptions, name)
}
