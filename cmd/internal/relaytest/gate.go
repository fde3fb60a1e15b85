package relaytest

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
)

// A Gate passes connections on to a server until it is shut or cuts them.
type Gate struct {
	Addr string // HOST:PORT

	target string
	hooks  GateHooks

	mu    sync.Mutex
	shut  bool
	limit func() int64
	conns map[*passage]bool
}

// GateHooks watch a Gate. Each may be nil.
type GateHooks struct {
	// Record returns a writer that gets a copy of one direction of a new
	// connection.
	Record func() io.Writer
	// Cut calls cut, which cuts n connections.
	Cut func(n int, cut func())
}

// A passage is a connection through a gate.
type passage struct {
	client, server net.Conn
	limited        bool
	left           atomic.Int64 // bytes until it is cut
}

func (p *passage) close() {
	_ = p.client.Close()
	_ = p.server.Close()
}

// NewGate opens a gate to a server until the test ends.
func NewGate(t testing.TB, target string, hooks GateHooks) *Gate {
	t.Helper()
	if hooks.Cut == nil {
		hooks.Cut = func(_ int, cut func()) { cut() }
	}
	if hooks.Record == nil {
		hooks.Record = func() io.Writer { return io.Discard }
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := &Gate{Addr: l.Addr().String(), target: target, hooks: hooks, conns: map[*passage]bool{}}
	t.Cleanup(func() {
		_ = l.Close()
		g.Shut(true)
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

// Shut cuts all connections and refuses new ones, or accepts them again.
func (g *Gate) Shut(shut bool) {
	g.mu.Lock()
	g.shut = shut
	g.mu.Unlock()
	if shut {
		g.CutAll()
	}
}

// CutAll cuts all connections.
func (g *Gate) CutAll() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.conns) == 0 {
		return
	}
	g.hooks.Cut(len(g.conns), func() {
		for p := range g.conns {
			p.close()
		}
	})
}

// CutAfter has each new connection cut after as many bytes as limit returns; 0
// means never. A nil limit cuts none.
func (g *Gate) CutAfter(limit func() int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.limit = limit
}

// enter notes a passage, unless the gate is shut.
func (g *Gate) enter(p *passage) bool {
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

func (g *Gate) pass(client net.Conn) {
	server, err := net.Dial("tcp", g.target)
	if err != nil {
		_ = client.Close()
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

// copy copies one direction until it ends or the passage is cut.
func (g *Gate) copy(p *passage, to, from net.Conn) {
	record := g.hooks.Record()
	buf := make([]byte, 4<<10)
	for {
		n, err := from.Read(buf)
		if p.limited && n > 0 {
			if left := p.left.Add(-int64(n)); left <= 0 {
				cut := func() {
					_, _ = to.Write(buf[:max(0, int64(n)+left)])
					p.close()
				}
				if left > -int64(n) { // the first of the two directions
					g.hooks.Cut(1, cut)
				}
				p.close()
				return
			}
		}
		_, _ = record.Write(buf[:n])
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				break
			}
		}
		if err == io.EOF {
			_ = to.(*net.TCPConn).CloseWrite() // the other direction goes on
			return
		}
		if err != nil {
			break
		}
	}
	p.close()
}
