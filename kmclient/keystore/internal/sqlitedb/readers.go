package sqlitedb

import "sync"

// readers are connections that read at the same time. The one given back last is taken
// first: each commit invalidates the caches of connections, so the fewer are in use,
// the more is found in their caches.
type readers struct {
	free chan struct{} // one for each connection that is not in use

	mu    sync.Mutex
	stack []*Conn
}

func newReaders(most int) *readers { return &readers{free: make(chan struct{}, most)} }

// take returns a connection to a caller that has received from free.
func (r *readers) take() *Conn {
	r.mu.Lock()
	defer r.mu.Unlock()
	last := len(r.stack) - 1
	c := r.stack[last]
	r.stack = r.stack[:last]
	return c
}

// give returns a connection, or adds one.
func (r *readers) give(c *Conn) {
	r.mu.Lock()
	r.stack = append(r.stack, c)
	r.mu.Unlock()
	r.free <- struct{}{}
}
