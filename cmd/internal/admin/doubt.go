package admin

import (
	"maps"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/mailer"
)

// doubt takes a message that is refused because the key manager does not work for what a
// check would find, and has the checks made. Until then no mail to or from the peer is to
// be expected: whoever asks for the state should not have to wait for the next check.
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
	m.found.peers = maps.Clone(m.found.peers) // lastFound has given it away
	m.found.peers[r.Peer] = l
	select {
	case m.doubts <- struct{}{}:
	default: // there is one already
	}
}
