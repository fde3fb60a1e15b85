package pgtest

import (
	"sync"
	"testing"
)

// A Shared is one server for several tests; the first of them starts it.
type Shared struct {
	once   sync.Once
	owner  *owner
	server *Server
}

// Server returns the server.
func (s *Shared) Server(t testing.TB, settings ...string) *Server {
	t.Helper()
	s.once.Do(func() {
		s.owner = &owner{TB: t}
		s.server = Start(s.owner, settings...)
	})
	if s.server == nil {
		t.Skip("SKIPPED: there is no PostgreSQL: see the first test that was skipped")
	}
	s.owner.TB = t
	return s.server
}

// Stop ends the server, if there is one.
func (s *Shared) Stop() {
	if s.owner != nil {
		for _, f := range s.owner.cleanups {
			f()
		}
	}
}

// An owner is the test that uses a server now, so that this test fails. Cleanups run
// after all tests.
type owner struct {
	testing.TB
	cleanups []func()
}

func (o *owner) Cleanup(f func()) { o.cleanups = append(o.cleanups, f) }
