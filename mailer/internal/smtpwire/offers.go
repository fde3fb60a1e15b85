package smtpwire

// Offers are the extensions of SMTP that a relay can offer only if its next hop does.
type Offers struct {
	EightBit bool  // 8BITMIME, RFC 6152
	UTF8     bool  // SMTPUTF8, RFC 6531
	DSN      bool  // RFC 3461
	Size     int64 // of a message in bytes, RFC 1870; 0: not said
}
