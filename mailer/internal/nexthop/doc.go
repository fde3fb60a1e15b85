// Package nexthop is the delivering end of the relay: it hands messages to another mail
// server over SMTP or LMTP, through connections that are kept and reused.
//
// A [Hop] is a backend of github.com/emersion/go-smtp whose sessions are transactions at
// that server. It reads replies as RFC 5321 §4.2 and §4.3.2 say: by their codes, by the
// first digit if need be, and never by their text.
package nexthop
