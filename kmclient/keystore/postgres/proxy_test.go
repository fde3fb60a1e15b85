package postgres_test

import (
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A proxy sits between an engine and a server. It can stop passing data on without
// ending a connection.
type proxy struct {
	address string
	delay   atomic.Int64 // for data in each direction

	mu      sync.Mutex
	stalled bool
	passes  []*atomic.Bool
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
			passes := p.fresh()
			go p.pass(in, out, passes)
			go p.pass(out, in, passes)
		}
	}()
	return p
}

// pass passes data on as long as may is true.
func (p *proxy) pass(from, to net.Conn, may *atomic.Bool) {
	b := make([]byte, 1<<16)
	for {
		n, err := from.Read(b)
		if err == nil && !may.Load() {
			continue
		}
		time.Sleep(time.Duration(p.delay.Load()))
		if err == nil {
			_, err = to.Write(b[:n])
		}
		if err != nil {
			_, _ = from.Close(), to.Close()
			return
		}
	}
}

// fresh returns a value that tells, now and later, whether a new connection passes data
// on.
func (p *proxy) fresh() *atomic.Bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	may := &atomic.Bool{}
	may.Store(!p.stalled)
	p.passes = append(p.passes, may)
	return may
}

// stall stops all connections from passing data on, and new ones until resume.
func (p *proxy) stall() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stalled = true
	for _, may := range p.passes {
		may.Store(false)
	}
}

func (p *proxy) resume() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stalled = false
}
