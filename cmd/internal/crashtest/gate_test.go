package crashtest

import (
	"net"
	"sync"
	"sync/atomic"
	"testing"
)

// A gate passes connections on to a server, and cuts them.
type gate struct {
	addr   string
	target string
	order  *order
	cuts   atomic.Int64 // of connections

	mu     sync.Mutex
	shut   bool
	limit  func() int64 // octets after which the next connection is cut; 0: not at all
	conns  map[*passage]bool
	faults []span
}

// A passage is a connection through a gate.
type passage struct {
	client, server net.Conn
	left           atomic.Int64 // octets until it is cut
	limited        bool
}

func newGate(t testing.TB, o *order, target string) *gate {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{addr: l.Addr().String(), target: target, order: o, conns: map[*passage]bool{}}
	t.Cleanup(func() {
		_ = l.Close()
		g.set(true)
	})
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go g.pass(c)
		}
	}()
	return g
}

// set cuts all connections and refuses new ones, or takes them again.
func (g *gate) set(shut bool) {
	g.mu.Lock()
	g.shut = shut
	g.mu.Unlock()
	if shut {
		g.cut()
	}
}

// atRandom has new connections cut after so many octets as limit says.
func (g *gate) atRandom(limit func() int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.limit = limit
}

// cut cuts all connections that there are.
func (g *gate) cut() {
	begin := g.order.now()
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.conns) == 0 {
		return
	}
	for p := range g.conns {
		g.cuts.Add(1)
		p.close()
	}
	g.faults = append(g.faults, span{begin, g.order.now()})
}

func (p *passage) close() {
	_ = p.client.Close()
	_ = p.server.Close()
}

// enter notes a passage; not if the gate is shut.
func (g *gate) enter(p *passage) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shut {
		return false
	}
	if g.limit != nil {
		n := g.limit()
		p.left.Store(n)
		p.limited = n > 0
	}
	g.conns[p] = true
	return true
}

func (g *gate) pass(client net.Conn) {
	defer func() { _ = client.Close() }()
	server, err := net.Dial("tcp", g.target)
	if err != nil {
		return
	}
	p := &passage{client: client, server: server}
	defer p.close()
	if !g.enter(p) {
		return
	}
	done := make(chan struct{})
	go func() {
		g.copy(p, server, client)
		close(done)
	}()
	g.copy(p, client, server)
	<-done
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.conns, p)
}

// copy copies one direction, until it ends or the passage has had its octets.
func (g *gate) copy(p *passage, to, from net.Conn) {
	defer p.close()
	buf := make([]byte, 4<<10)
	for {
		n, err := from.Read(buf)
		if p.limited && n > 0 {
			if left := p.left.Add(-int64(n)); left <= 0 {
				begin := g.order.now()
				_, _ = to.Write(buf[:max(0, int64(n)+left)])
				p.close()
				if left > -int64(n) { // the first of the two directions
					g.cuts.Add(1)
					g.mu.Lock()
					g.faults = append(g.faults, span{begin, g.order.now()})
					g.mu.Unlock()
				}
				return
			}
		}
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// spans returns when connections were cut.
func (g *gate) spans() []span {
	g.mu.Lock()
	defer g.mu.Unlock()
	return append([]span(nil), g.faults...)
}
