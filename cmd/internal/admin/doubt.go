package admin

import (
	"maps"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/mailer"
)

// doubt takes the refusal of a message, if the key manager was its cause, for a failed
// check of the peer, and has the checks made. Otherwise the state would be out of date
// until the next round.
func (m *Monitor) doubt(r mailer.Report) {
	var err error
	switch r.Reason {
	case "km unavailable":
		err = kmclient.ErrUnavailable
	case "km refuses":
		err = kmclient.ErrRefused
	case "km answer":
		err = kmclient.ErrBadAnswer
	default:
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	l, known := m.found.peers[r.Peer]
	if !known || l.err != nil {
		return
	}
	l.err = err
	m.found.peers = maps.Clone(m.found.peers) // callers of lastFound may have the old one
	m.found.peers[r.Peer] = l
	select {
	case m.doubts <- struct{}{}:
	default: // one is pending already
	}
}
