// Package smtpserver is the end of the relay that clients connect to. It speaks SMTP and
// LMTP (RFC 5321, RFC 2033) and hands each transaction to a [contract.Session].
//
// go-smtp's own server has no room for what a relay needs: extensions that are offered
// only while the next hop has them, XFORWARD, parameters that are passed on and not
// judged, a time limit on each read and a least rate for DATA, DATA in large pieces, and
// replies that travel together.
package smtpserver
