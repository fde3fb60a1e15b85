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
	unix  bool // permissions of the socket say who may connect
	close func() error

	mu      sync.Mutex
	rules   gateRules
	fronts  map[*front]netip.Addr
	clients map[netip.Addr]int
}

// gateRules say who may connect, and how the connections behave.
type gateRules struct {
	networks  []netip.Prefix
	total     int // connections; 0: any number
	perClient int // of them from one address; 0: any number
	opts      *frontOptions
}

func newGateListener(l net.Listener, rules gateRules) *gateListener {
	return &gateListener{
		Listener: l, unix: l.Addr().Network() == "unix", rules: rules,
		fronts: map[*front]netip.Addr{}, clients: map[netip.Addr]int{},
		close: sync.OnceValue(l.Close), // go-smtp closes it as well
	}
}

// set replaces the rules for clients that connect from now on.
func (g *gateListener) set(rules gateRules) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.rules = rules
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
	g.mu.Lock()
	defer g.mu.Unlock()
	switch r := &g.rules; {
	case !g.unix && !contains(r.networks, client):
		return nil, "554 5.7.1 This relay does not take mail from here"
	case r.total > 0 && len(g.fronts) >= r.total:
		return nil, "421 4.3.2 Too many connections, try again later"
	case !g.unix && r.perClient > 0 && g.clients[client] >= r.perClient:
		return nil, "421 4.7.0 Too many connections from you, try again later"
	}
	f = newFront(conn, g.rules.opts)
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
