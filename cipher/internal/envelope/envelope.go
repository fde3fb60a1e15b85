// Package envelope writes and finds the MIME around an encrypted payload.
//
//	Qkdmail-Key-ID: …                      our header's first field
//	From, To, Date, …                      what the caller lets stand outside
//	MIME-Version: 1.0
//	Content-Type: multipart/mixed
//	 ├ text/plain                          a note; without one there is no multipart/mixed
//	 └ multipart/encrypted; protocol="application/vnd.qkdmail"      RFC 1847
//	    ├ application/vnd.qkdmail          the control part
//	    └ application/octet-stream         the payload in base64
//
// The writer uses go-message for the header and the parts. The reader walks
// the parts itself: it has to say for any mail in the world whether it holds a
// message of ours, in constant memory and without ever failing on what is not
// ours.
package envelope

import "errors"

// The names that mark a message of ours.
const (
	KeyIDField  = "Qkdmail-Key-ID"
	ControlType = "application/vnd.qkdmail"
	payloadType = "application/octet-stream"
)

var (
	// ErrNotEncrypted: no message of ours: other mail.
	ErrNotEncrypted = errors.New("not a qkdmail message")
	// ErrDamaged: a message of ours that something on its way has broken, or
	// that was never right.
	ErrDamaged = errors.New("damaged qkdmail message")
	// ErrVersion: a message of ours in a format that this release can't read.
	ErrVersion = errors.New("unknown qkdmail format version")
)
