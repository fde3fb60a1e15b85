package mailer

import (
	"net"
	"net/netip"
	"sync"
	"time"
)

// A gateListener takes connections from allowed clients, and not too many of
// them; the others are told so. A relay that takes mail from anybody would
// send anybody's mail in our name.
type gateListener struct {
	net.Listener
	networks  []netip.Prefix // nil: a unix socket, whose permissions say who may
	total     int            // connections; 0: any number
	perClient int            // of them from one address; 0: any number
	opts      *frontOptions
	close     func() error

	mu      sync.Mutex
	fronts  map[*front]netip.Addr
	clients map[netip.Addr]int
}

func newGateListener(l net.Listener, networks []netip.Prefix, limits LimitsConfig, opts *frontOptions) *gateListener {
	g := &gateListener{
		Listener: l, networks: networks, total: limits.Connections, perClient: limits.ConnectionsPerClient, opts: opts,
		fronts: map[*front]netip.Addr{}, clients: map[netip.Addr]int{},
		close: sync.OnceValue(l.Close), // go-smtp closes it as well
	}
	if l.Addr().Network() == "unix" {
		g.networks, g.perClient = nil, 0
	}
	return g
}

// Accept returns the next connection that may come in.
func (g *gateListener) Accept() (net.Conn, error) {
	for {
		conn, err := g.Listener.Accept()
		if err != nil {
			return nil, err
		}
		f, reply := g.admit(conn)
		if f != nil {
			return f, nil
		}
		go turnAway(conn, reply)
	}
}

// Close closes the listener; the connections stay.
func (g *gateListener) Close() error { return g.close() }

// turnAway tells a client why it is not served, if it listens.
func turnAway(conn net.Conn, reply string) {
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	_, _ = conn.Write([]byte(reply + "\r\n"))
	_ = conn.Close()
}

// admit counts a connection, or says why it can't come in.
func (g *gateListener) admit(conn net.Conn) (f *front, reply string) {
	client := clientAddr(conn.RemoteAddr())
	if g.networks != nil && !contains(g.networks, client) {
		return nil, "554 5.7.1 This relay does not take mail from here"
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.total > 0 && len(g.fronts) >= g.total {
		return nil, "421 4.3.2 Too many connections, try again later"
	}
	if g.perClient > 0 && g.clients[client] >= g.perClient {
		return nil, "421 4.7.0 Too many connections from you, try again later"
	}
	f = newFront(conn, g.opts)
	f.closed = sync.OnceFunc(func() { g.leave(f) })
	g.fronts[f] = client
	g.clients[client]++
	return f, ""
}

func (g *gateListener) leave(f *front) {
	g.mu.Lock()
	defer g.mu.Unlock()
	client := g.fronts[f]
	delete(g.fronts, f)
	if g.clients[client]--; g.clients[client] <= 0 {
		delete(g.clients, client)
	}
}

// stop ends the connections that are between two commands, and the others when
// they get there.
func (g *gateListener) stop() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for f := range g.fronts {
		f.stop()
	}
}

// closeAll closes what is left: messages that took too long.
func (g *gateListener) closeAll() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for f := range g.fronts {
		_ = f.Conn.Close()
	}
}

// clientAddr returns the IP address of a client, the zero Addr for one of a
// unix socket.
func clientAddr(a net.Addr) netip.Addr {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	return tcp.AddrPort().Addr().Unmap()
}

func contains(networks []netip.Prefix, a netip.Addr) bool {
	for _, n := range networks {
		if n.Contains(a) {
			return true
		}
	}
	return false
}
