// Package envelope writes and reads the MIME around an encrypted payload:
//
//	Qkdmail-Key-ID: …                      our header's first field
//	From, To, Date, …                      the outer header, from the caller
//	MIME-Version: 1.0
//	Content-Type: multipart/mixed
//	 ├ text/plain                          a note; without it there is no multipart/mixed
//	 └ multipart/encrypted; protocol="application/vnd.qkdmail"      RFC 1847
//	    ├ application/vnd.qkdmail          the control part
//	    └ application/octet-stream         the payload in base64
//
// The Writer uses go-message for the header and the parts. The Reader goes through the
// parts itself: it has to tell whether any mail contains a qkdmail message, in constant
// memory, and must not fail on other mail.
package envelope

import "errors"

// The names that mark a qkdmail message.
const (
	KeyIDField  = "Qkdmail-Key-ID"
	ControlType = "application/vnd.qkdmail"
	payloadType = "application/octet-stream"
)

var (
	// ErrNotEncrypted means that the mail contains no qkdmail message.
	ErrNotEncrypted = errors.New("not a qkdmail message")
	// ErrDamaged means that the qkdmail message was broken on its way, or never was
	// right.
	ErrDamaged = errors.New("damaged qkdmail message")
	// ErrVersion means that the qkdmail message has a format that this release can't
	// read.
	ErrVersion = errors.New("unknown qkdmail format version")
)
