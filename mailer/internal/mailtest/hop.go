package mailtest

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/qkdmail/qkdmail/mailer/internal/nexthop"
)

// What a script can return instead of a reply.
const (
	Hang = "HANG" // nothing, until the test ends
	Drop = "DROP" // the connection
)

// A Script answers a line of a client, "GREETING", "DOT" (with the recipient over
// LMTP) or a piece of DATA ("BODY"); "" is the usual answer.
type Script func(line string) string

// A Hop is a next hop that follows a script. DATA ends only at CR LF . CR LF; what comes
// is kept as it came.
type Hop struct {
	Listener   net.Listener // nil: a port of 127.0.0.1
	LMTP       bool
	TLS        *tls.Config // nil: STARTTLS is not offered
	Extensions []string    // offered
	Script     Script      // after the start, see Follow
	PerConn    func() Script
	Late       time.Duration // before each answer
	Packets    bool          // send together the answers to commands that came together

	t    testing.TB
	quit chan struct{}
	wg   sync.WaitGroup

	mu       sync.Mutex
	messages []Message
	cut      []string // DATA that ended without a dot
	lines    []string // commands
	conns    int
	open     map[net.Conn]bool
}

// A Message is one that came to a Hop.
type Message struct {
	Mail  string   // the whole command
	Rcpts []string // likewise
	Data  string   // without stuffed dots, and without the final one
	Raw   string   // as it came
	TLS   bool
}

// StartHop starts a next hop at 127.0.0.1.
func StartHop(t testing.TB, changes ...func(*Hop)) *Hop {
	t.Helper()
	h := &Hop{t: t, quit: make(chan struct{}), open: map[net.Conn]bool{}, Extensions: []string{"PIPELINING", "8BITMIME", "SMTPUTF8", "DSN", "SIZE 10000000"}}
	for _, change := range changes {
		change(h)
	}
	if h.Listener == nil {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		h.Listener = l
	}
	h.wg.Go(h.serve)
	t.Cleanup(h.Stop)
	return h
}

// Addr returns the address as a configuration has it.
func (h *Hop) Addr() string {
	if h.Listener.Addr().Network() == "unix" {
		return "unix:" + h.Listener.Addr().String()
	}
	return h.Listener.Addr().String()
}

// Stop ends the hop.
func (h *Hop) Stop() {
	h.mu.Lock()
	select {
	case <-h.quit:
	default:
		close(h.quit)
	}
	_ = h.Listener.Close()
	for c := range h.open {
		_ = c.Close()
	}
	h.mu.Unlock()
	h.wg.Wait()
}

func (h *Hop) serve() {
	for {
		conn, err := h.Listener.Accept()
		if err != nil {
			return
		}
		h.mu.Lock()
		h.conns++
		h.open[conn] = true
		h.mu.Unlock()
		h.wg.Go(func() {
			s := &hopConn{h: h, conn: conn, in: bufio.NewReaderSize(conn, 64<<10), script: func(string) string { return "" }}
			if h.PerConn != nil {
				s.script = h.PerConn()
			}
			s.run()
			_ = conn.Close()
			h.mu.Lock()
			delete(h.open, conn)
			h.mu.Unlock()
		})
	}
}

// DropIdle closes all connections, like a server that has waited too long.
func (h *Hop) DropIdle() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for c := range h.open {
		_ = c.Close()
	}
}

// Got returns the messages that came.
func (h *Hop) Got() []Message {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]Message(nil), h.messages...)
}

// One returns the only message.
func (h *Hop) One() Message {
	h.t.Helper()
	got := h.Got()
	if len(got) != 1 {
		h.t.Fatalf("%d messages at the next hop, want 1", len(got))
	}
	return got[0]
}

// None fails the test if a message came.
func (h *Hop) None() {
	h.t.Helper()
	for _, m := range h.Got() {
		h.t.Errorf("a message came to the next hop:\n%s", m.Raw)
	}
}

// WasCut waits until DATA has ended without a dot.
func (h *Hop) WasCut() string {
	h.t.Helper()
	for end := time.Now().Add(Patience); time.Now().Before(end); time.Sleep(time.Millisecond) {
		h.mu.Lock()
		cut := append([]string(nil), h.cut...)
		h.mu.Unlock()
		if len(cut) > 0 {
			return cut[0]
		}
	}
	h.t.Fatal("DATA did not end at the next hop")
	return ""
}

// Follow makes the hop follow another script; nil: none.
func (h *Hop) Follow(script Script) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.Script = script
}

// Forget drops what came so far.
func (h *Hop) Forget() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.messages, h.cut, h.lines = nil, nil, nil
}

// Commands returns the commands that came, one per line.
func (h *Hop) Commands() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return strings.Join(h.lines, "\n")
}

// Connections returns how many connections there were.
func (h *Hop) Connections() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.conns
}

type hopConn struct {
	h    *Hop
	conn net.Conn
	in   *bufio.Reader
	m    Message
	tls  bool
	held string // answers, with packets

	script Script
}

// say answers, and reports whether the connection goes on.
func (s *hopConn) say(line, usual string) (string, bool) {
	reply := s.answer(line, usual)
	return reply, s.write(reply)
}

func (s *hopConn) answer(line, usual string) string {
	if r := s.script(line); r != "" {
		return r
	}
	s.h.mu.Lock()
	script := s.h.Script
	s.h.mu.Unlock()
	if script != nil {
		if r := script(line); r != "" {
			return r
		}
	}
	return usual
}

func (s *hopConn) write(reply string) bool {
	if reply == Hang || reply == Drop {
		_, _ = s.conn.Write([]byte(s.held))
		if reply == Hang {
			<-s.h.quit
		}
		return false
	}
	if !strings.HasSuffix(reply, "\n") {
		reply += "\r\n"
	}
	if s.held += reply; s.h.Packets && s.in.Buffered() > 0 {
		return true
	}
	time.Sleep(s.h.Late)
	_, err := s.conn.Write([]byte(s.held))
	s.held = ""
	return err == nil
}

func (s *hopConn) run() {
	if _, ok := s.say("GREETING", "220 hop.example ESMTP"); !ok {
		return
	}
	for {
		line, err := s.in.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimSuffix(line, "\r\n")
		s.h.mu.Lock()
		s.h.lines = append(s.h.lines, line)
		s.h.mu.Unlock()
		if !s.command(line) {
			return
		}
	}
}

func (s *hopConn) command(line string) bool {
	verb, _, _ := strings.Cut(line, " ")
	switch strings.ToUpper(verb) {
	case "EHLO", "LHLO":
		if (strings.ToUpper(verb) == "LHLO") != s.h.LMTP {
			_, ok := s.say(line, "500 5.5.1 the other hello, please")
			return ok
		}
		ext := s.h.Extensions
		if s.h.TLS != nil && !s.tls {
			ext = append([]string{"STARTTLS"}, ext...)
		}
		reply := "hop.example"
		for _, e := range ext {
			reply += "\n" + e
		}
		lines := strings.Split(reply, "\n")
		for i := range lines {
			lines[i] = "250-" + lines[i]
		}
		lines[len(lines)-1] = strings.Replace(lines[len(lines)-1], "250-", "250 ", 1)
		_, ok := s.say(line, strings.Join(lines, "\r\n"))
		return ok
	case "STARTTLS":
		if _, ok := s.say(line, "220 2.0.0 go"); !ok {
			return false
		}
		conn := tls.Server(s.conn, s.h.TLS)
		if conn.Handshake() != nil {
			return false
		}
		s.conn, s.in, s.tls = conn, bufio.NewReader(conn), true
		return true
	case "MAIL":
		reply, ok := s.say(line, "250 2.1.0 ok")
		if accepts(reply) {
			s.m = Message{Mail: line, TLS: s.tls}
		}
		return ok
	case "RCPT":
		reply, ok := s.say(line, "250 2.1.5 ok")
		if accepts(reply) {
			s.m.Rcpts = append(s.m.Rcpts, line)
		}
		return ok
	case "DATA":
		usual := "354 go"
		if len(s.m.Rcpts) == 0 {
			usual = "554 5.5.1 no valid recipients"
		}
		reply, ok := s.say(line, usual)
		if !ok || !strings.HasPrefix(reply, "3") {
			return ok
		}
		return s.data()
	case "RSET":
		s.m = Message{}
		_, ok := s.say(line, "250 2.0.0 ok")
		return ok
	case "QUIT":
		_, _ = s.say(line, "221 2.0.0 bye")
		return false
	}
	_, ok := s.say(line, "250 2.0.0 ok")
	return ok
}

// data takes a message up to CR LF . CR LF.
func (s *hopConn) data() bool {
	var raw strings.Builder
	atStart := true
	for {
		line, err := s.in.ReadString('\n')
		if err != nil {
			s.h.mu.Lock()
			s.h.cut = append(s.h.cut, raw.String()+line)
			s.h.mu.Unlock()
			return false
		}
		if atStart && line == ".\r\n" {
			break
		}
		raw.WriteString(line)
		atStart = strings.HasSuffix(line, "\r\n")
		if s.answer("BODY", "") == Drop {
			return false
		}
	}
	m := s.m
	m.Raw = raw.String()
	m.Data = strings.ReplaceAll("\r\n"+m.Raw, "\r\n.", "\r\n")[2:]
	s.m = Message{}
	answers := []string{"DOT"}
	if s.h.LMTP {
		answers = nil
		for _, r := range m.Rcpts {
			answers = append(answers, "DOT "+r)
		}
	}
	taken := false
	for i, a := range answers {
		answers[i] = s.answer(a, fmt.Sprintf("250 2.0.0 queued as %d-%d", len(s.h.Got())+1, i))
		taken = taken || accepts(answers[i])
	}
	if taken {
		s.h.mu.Lock()
		s.h.messages = append(s.h.messages, m)
		s.h.mu.Unlock()
	}
	for _, reply := range answers {
		if !s.write(reply) {
			return false
		}
	}
	return true
}

// Answering makes a hop send reply to lines that begin with prefix.
func Answering(prefix, reply string) func(*Hop) {
	return func(h *Hop) {
		h.Follow(func(line string) string {
			if strings.HasPrefix(line, prefix) {
				return reply
			}
			return ""
		})
	}
}

// NextHop returns a backend that delivers to a hop, like the relay's own.
func NextHop(t testing.TB, h *Hop) *nexthop.Hop {
	n := nexthop.New(nexthop.Options{Address: h.Addr(), LMTP: h.LMTP})
	t.Cleanup(func() { _ = n.Close() })
	return n
}

// accepts reports whether a reply accepts a command or a message: 2yz, except 22z, which
// is about the connection.
func accepts(reply string) bool {
	return strings.HasPrefix(reply, "2") && !strings.HasPrefix(reply, "22")
}
