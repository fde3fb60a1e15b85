package admin

import (
	"net"
	"net/http"
	"sync"
)

// conns are the connections of a server, at most "most" of them. When there is one
// more, the connection that has waited longest for a request, or for the rest of
// one, is closed, so idle connections keep no one out. If all are busy, the new one
// is closed.
type conns struct {
	most int

	mu    sync.Mutex
	turn  uint64              // counts
	since map[net.Conn]uint64 // the turn since which a connection waits; 0: it is busy
}

func newConns(most int) *conns { return &conns{most: most, since: map[net.Conn]uint64{}} }

// note is the server's ConnState. For net/http, a connection is not active until
// the header of a request is complete.
func (c *conns) note(conn net.Conn, state http.ConnState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch state {
	case http.StateActive:
		c.since[conn] = 0
	case http.StateNew:
		if len(c.since) >= c.most && !c.makeRoom() {
			_ = conn.Close() // the server notices, and calls note
			return
		}
		fallthrough
	case http.StateIdle:
		c.turn++
		c.since[conn] = c.turn
	default:
		delete(c.since, conn)
	}
}

// makeRoom closes the connection that has waited longest, if one waits. mu must be
// held.
func (c *conns) makeRoom() bool {
	var longest net.Conn
	for conn, since := range c.since {
		if since > 0 && (longest == nil || since < c.since[longest]) {
			longest = conn
		}
	}
	if longest == nil {
		return false
	}
	delete(c.since, longest)
	_ = longest.Close() // the server notices, and calls note
	return true
}
