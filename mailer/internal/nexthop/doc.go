// Package nexthop is the end of the relay that delivers: it hands messages to
// another mail server over SMTP or LMTP, through connections that are kept and
// used again.
//
// A [Hop] is a backend of github.com/emersion/go-smtp whose sessions are
// transactions at that server. It reads replies as RFC 5321 §4.2 and §4.3.2 tell
// a client to: by their codes, the first digit if need be, however they are
// spelled.
package nexthop
