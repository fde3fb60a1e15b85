package sim

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"
)

// A network connects hosts. Each pair of hosts has a link, whose troubles are events.
type network struct {
	w *world

	mu        sync.Mutex
	listeners map[string]*listener // by address
	names     map[string]string    // of hosts, by IP
	open      map[*conn]bool
	cuts      map[string][]time.Time // when connections were cut, by link
}

func newNetwork(w *world) *network {
	return &network{w: w, listeners: map[string]*listener{}, names: map[string]string{}, open: map[*conn]bool{}, cuts: map[string][]time.Time{}}
}

// A host is one life of a machine, or of a process on it: after a crash there is a new one
// with the same name.
type host struct {
	net      *network
	name, ip string
	step     func()               // called when something is sent; may be nil
	wrong    func() time.Duration // how far its clock is ahead; may be nil

	mu    sync.Mutex
	dead  bool
	ports int
}

func (n *network) host(name, ip string) *host {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.names[ip] = name
	return &host{net: n, name: name, ip: ip}
}

// Now implements relay.Machine.
func (h *host) Now() time.Time { return time.Now().Round(0).Add(h.wrong()) }

// Listen implements relay.Machine.
func (h *host) Listen(_ context.Context, _, address string) (net.Listener, error) {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return nil, err
	}
	l := &listener{host: h, addr: net.TCPAddrFromAddrPort(at), queue: make(chan *conn, 128), closed: make(chan struct{})}
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	if h.isDead() || h.net.listeners[address] != nil {
		return nil, &net.OpError{Op: "listen", Net: "tcp", Err: syscall.EADDRINUSE}
	}
	h.net.listeners[address] = l
	return l, nil
}

// DialContext implements relay.Machine.
func (h *host) DialContext(ctx context.Context, _, address string) (net.Conn, error) {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	h.ports++
	from := &net.TCPAddr{IP: net.ParseIP(h.ip), Port: 20000 + h.ports%40000}
	dead := h.dead
	h.mu.Unlock()
	link, l := h.net.link(h.name, to)
	fate := h.net.w.fate(link)
	refused := &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	switch {
	case dead:
		return nil, refused
	case fate.lost: // no answer to the SYN
		h.net.w.count("connection: lost")
		<-ctx.Done()
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: os.ErrDeadlineExceeded}
	}
	select {
	case <-time.After(2 * fate.latency):
	case <-ctx.Done():
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: os.ErrDeadlineExceeded}
	}
	if fate.refused {
		h.net.w.count("connection: down")
	}
	if fate.refused || l == nil {
		return nil, refused
	}
	ours, theirs := h.net.pair(h, l.host, from, l.addr, link, fate)
	if ours == nil || !l.offer(theirs) {
		return nil, refused
	}
	if fate.slow {
		h.net.w.count("connection: slow")
	}
	return ours, nil
}

// link returns the name of the link to an address, and the listener there.
func (n *network) link(from string, to netip.AddrPort) (string, *listener) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return from + ">" + n.names[to.Addr().String()], n.listeners[to.String()]
}

// pair makes a connection, unless one of the hosts is dead.
func (n *network) pair(from, to *host, a, b *net.TCPAddr, link string, f fate) (ours, theirs *conn) {
	up, down := newStream(f.latency), newStream(f.latency)
	ours = &conn{host: from, local: a, remote: b, in: down, out: up}
	theirs = &conn{host: to, local: b, remote: a, in: up, out: down}
	ours.peer, theirs.peer = theirs, ours
	cut := func() { n.cut(ours, link, f) }
	up.cut, down.cut = cut, cut
	if f.cut && f.up {
		up.cutAt = f.after
	} else if f.cut {
		down.cutAt = f.after
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if from.isDead() || to.isDead() {
		return nil, nil
	}
	n.open[ours], n.open[theirs] = true, true
	return ours, theirs
}

// cut cuts a connection, or lets it fall silent, and notes where it was.
func (n *network) cut(c *conn, link string, f fate) {
	what := "cut"
	if f.silent {
		what = "silent"
		c.in.hush()
		c.out.hush()
	} else {
		c.reset()
	}
	n.w.count("connection: " + what)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cuts[link] = append(n.cuts[link], time.Now())
}

// cutsOf returns when connections of a link were cut.
func (n *network) cutsOf(link string) []time.Time {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.cuts[link])
}

// kill cuts all connections of a host: from now on nothing that it does reaches anyone,
// and nothing reaches it.
func (h *host) kill() {
	h.mu.Lock()
	h.dead = true
	h.mu.Unlock()
	var mine []*conn
	h.net.mu.Lock()
	for c := range h.net.open {
		if c.host == h {
			mine = append(mine, c)
		}
	}
	for _, l := range h.net.listeners {
		if l.host == h {
			defer l.Close()
		}
	}
	h.net.mu.Unlock()
	for _, c := range mine {
		c.reset()
	}
}

func (h *host) isDead() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.dead
}

// conns returns where the host has open connections to.
func (h *host) conns() (to []string) {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	for c := range h.net.open {
		if c.host == h {
			to = append(to, c.peer.host.name)
		}
	}
	return to
}

// openConns returns how many connection ends each host has open, by the host's name.
func (n *network) openConns() map[string]int {
	n.mu.Lock()
	defer n.mu.Unlock()
	count := map[string]int{}
	for c := range n.open {
		count[c.host.name]++
	}
	return count
}

// A listener is a net.Listener.
type listener struct {
	host   *host
	addr   *net.TCPAddr
	queue  chan *conn
	once   sync.Once
	closed chan struct{}
}

func (l *listener) offer(c *conn) bool {
	select {
	case <-l.closed:
		c.reset()
		return false
	case l.queue <- c:
		return true
	}
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case <-l.closed:
		return nil, fmt.Errorf("accept: %w", net.ErrClosed)
	case c := <-l.queue:
		return c, nil
	}
}

func (l *listener) Close() error {
	l.once.Do(func() {
		close(l.closed)
		n := l.host.net
		n.mu.Lock()
		if n.listeners[l.addr.String()] == l {
			delete(n.listeners, l.addr.String())
		}
		n.mu.Unlock()
		for {
			select {
			case c := <-l.queue:
				c.reset()
				continue
			default:
			}
			return
		}
	})
	return nil
}

func (l *listener) Addr() net.Addr { return l.addr }

var _ net.Conn = (*conn)(nil)

// A conn is one end of a connection.
type conn struct {
	host          *host
	local, remote net.Addr
	in, out       *stream
	peer          *conn
}

func (c *conn) Read(p []byte) (int, error)         { return c.in.read(p) }
func (c *conn) LocalAddr() net.Addr                { return c.local }
func (c *conn) RemoteAddr() net.Addr               { return c.remote }
func (c *conn) SetReadDeadline(t time.Time) error  { c.in.setDeadline(reader, t); return nil }
func (c *conn) SetWriteDeadline(t time.Time) error { c.out.setDeadline(writer, t); return nil }
func (c *conn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

func (c *conn) Write(p []byte) (int, error) {
	if c.host.step != nil {
		c.host.step()
	}
	return c.out.write(p)
}

// Close ends what this end sends, and takes nothing more: anything that the other end
// then sends breaks its connection.
func (c *conn) Close() error {
	c.out.end()
	c.in.fail(net.ErrClosed)
	c.forget(c)
	return nil
}

// reset breaks the connection for both ends at once.
func (c *conn) reset() {
	c.in.fail(errReset)
	c.out.fail(errReset)
	c.forget(c)
	c.forget(c.peer)
}

func (c *conn) forget(which *conn) {
	n := c.host.net
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.open, which)
}

// A fate is what becomes of a connection.
type fate struct {
	latency       time.Duration
	refused, lost bool
	slow          bool  // its latency is high
	cut, silent   bool  // after some bytes in one direction; silent: it is left half-open
	up            bool  // the direction is the client's
	after         int64 // bytes
}

// close closes all listeners that are left.
func (n *network) close() {
	n.mu.Lock()
	var left []*listener
	for _, l := range n.listeners {
		left = append(left, l)
	}
	n.mu.Unlock()
	for _, l := range left {
		_ = l.Close()
	}
}
