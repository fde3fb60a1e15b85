// Package smtpserver is the end of the relay to which clients connect. It speaks SMTP and
// LMTP (RFC 5321, RFC 2033) and hands each transaction to a [contract.Session].
//
// go-smtp's own server has no room for what a relay needs: extensions that are offered
// only while the next hop has them, XFORWARD, parameters that are passed on without being
// judged, a time limit on each read, a least rate for DATA, DATA in large pieces, and
// replies that travel together.
package smtpserver
