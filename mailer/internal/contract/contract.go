// Package contract has the interfaces between a server, the sessions of its
// clients, and the step that makes the sessions.
package contract

import (
	"net"

	"github.com/emersion/go-smtp"
)

// A Client is what a session knows of whoever sends its mail.
type Client interface {
	RemoteAddr() net.Addr        // nil: unknown
	Hello() string               // the name it introduced itself with
	Extended() bool              // it did so with EHLO or LHLO
	TLS() bool                   // the connection is in TLS
	XForward(name string) string // what it says of its own client, if it is trusted
	Close() error                // drops the connection
}

// A Session is what the relay's own server needs of a session. Its errors are
// *smtp.SMTPError.
type Session interface {
	smtp.LMTPSession
	smtp.AuthSession
	// BeginData is called before DATA is answered; an error refuses it.
	BeginData() error
	// Said returns what the next hop said when it took the message for these recipients,
	// for the reply to the client: one safe line, "" for nothing.
	Said(rcpts ...string) string
}

// A Backend is a step that runs under go-smtp's server and under the relay's own.
type Backend interface {
	smtp.Backend
	// Begin begins the session of a client of the relay's own server.
	Begin(Client) (Session, error)
}
