package postgres_test

import (
	"net"
	"sync"
	"testing"
)

// A proxy stands between a store and a server, and can stop to pass anything on,
// without ending a connection.
type proxy struct {
	address string

	mu      sync.Mutex
	stalled bool
}

func newProxy(t *testing.T, to string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	p := &proxy{address: l.Addr().String()}
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", to)
			if err != nil {
				_ = in.Close()
				continue
			}
			t.Cleanup(func() { _, _ = in.Close(), out.Close() })
			stalled := p.isStalled()
			go p.pass(in, out, stalled)
			go p.pass(out, in, stalled)
		}
	}()
	return p
}

// pass passes on what arrives until the proxy stalls: it never passes anything on
// again then.
func (p *proxy) pass(from, to net.Conn, stalled bool) {
	b := make([]byte, 1<<16)
	for {
		n, err := from.Read(b)
		if stalled = stalled || p.isStalled(); stalled && err == nil {
			continue
		}
		if err == nil {
			_, err = to.Write(b[:n])
		}
		if err != nil {
			_, _ = from.Close(), to.Close()
			return
		}
	}
}

func (p *proxy) isStalled() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stalled
}

func (p *proxy) stall()  { p.set(true) }
func (p *proxy) resume() { p.set(false) }

func (p *proxy) set(stalled bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stalled = stalled
}
