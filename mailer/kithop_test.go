package mailer

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// What a script can say instead of a reply.
const (
	hang = "HANG" // nothing, until the test ends
	drop = "DROP" // the connection
)

// A testHop is a scripted next hop. It takes DATA octet by octet and ends it at
// CR LF . CR LF only; what it got is kept as it came.
type testHop struct {
	t    testing.TB
	l    net.Listener
	lmtp bool
	tls  *tls.Config
	ext  []string // offered
	// script may answer a line, "GREETING", "DOT" (with the recipient over
	// LMTP) or DATA pieces ("BODY"); "" is the usual answer.
	script  func(line string) string
	perConn func() func(line string) string // a script for each connection
	late    time.Duration                   // before each answer
	packets bool                            // answers to commands that came together go out together
	quit    chan struct{}
	wg      sync.WaitGroup

	mu       sync.Mutex
	messages []hopMessage
	cut      []string // DATA that ended without a dot
	lines    []string // commands
	conns    int
	open     map[net.Conn]bool
}

type hopMessage struct {
	mail  string   // the whole command
	rcpts []string // likewise
	data  string   // without stuffed dots, and without the final one
	raw   string   // as it came
	tls   bool
}

// startHop starts a next hop at 127.0.0.1.
func startHop(t testing.TB, changes ...func(*testHop)) *testHop {
	t.Helper()
	h := &testHop{t: t, quit: make(chan struct{}), open: map[net.Conn]bool{}, ext: []string{"PIPELINING", "8BITMIME", "SMTPUTF8", "DSN", "SIZE 10000000"}}
	for _, change := range changes {
		change(h)
	}
	if h.l == nil {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		h.l = l
	}
	h.wg.Go(h.serve)
	t.Cleanup(h.stop)
	return h
}

func (h *testHop) addr() string {
	if h.l.Addr().Network() == "unix" {
		return "unix:" + h.l.Addr().String()
	}
	return h.l.Addr().String()
}

func (h *testHop) stop() {
	h.mu.Lock()
	select {
	case <-h.quit:
	default:
		close(h.quit)
	}
	_ = h.l.Close()
	for c := range h.open {
		_ = c.Close()
	}
	h.mu.Unlock()
	h.wg.Wait()
}

func (h *testHop) serve() {
	for {
		conn, err := h.l.Accept()
		if err != nil {
			return
		}
		h.mu.Lock()
		h.conns++
		h.open[conn] = true
		h.mu.Unlock()
		h.wg.Go(func() {
			s := &hopConnection{h: h, conn: conn, in: bufio.NewReaderSize(conn, 64<<10), script: func(string) string { return "" }}
			if h.perConn != nil {
				s.script = h.perConn()
			}
			s.run()
			_ = conn.Close()
			h.mu.Lock()
			delete(h.open, conn)
			h.mu.Unlock()
		})
	}
}

// dropIdle closes all connections, as a server does that has waited too long.
func (h *testHop) dropIdle() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for c := range h.open {
		_ = c.Close()
	}
}

func (h *testHop) got() []hopMessage {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]hopMessage(nil), h.messages...)
}

// one returns the only message.
func (h *testHop) one() hopMessage {
	h.t.Helper()
	got := h.got()
	if len(got) != 1 {
		h.t.Fatalf("%d messages at the next hop, want 1", len(got))
	}
	return got[0]
}

// none fails if a message came.
func (h *testHop) none() {
	h.t.Helper()
	for _, m := range h.got() {
		h.t.Errorf("a message came to the next hop:\n%s", m.raw)
	}
}

// wasCut waits until DATA has ended without a dot.
func (h *testHop) wasCut() string {
	h.t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(time.Millisecond) {
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

// behave ends the script.
func (h *testHop) behave() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.script = nil
}

// forget drops what came so far.
func (h *testHop) forget() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.messages, h.cut, h.lines = nil, nil, nil
}

func (h *testHop) commands() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return strings.Join(h.lines, "\n")
}

func (h *testHop) connections() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.conns
}

type hopConnection struct {
	h    *testHop
	conn net.Conn
	in   *bufio.Reader
	m    hopMessage
	tls  bool
	held string // answers, with packets

	script func(line string) string
}

// say answers, and reports whether the connection goes on.
func (s *hopConnection) say(line, usual string) (string, bool) {
	reply := s.answer(line, usual)
	return reply, s.write(reply)
}

func (s *hopConnection) answer(line, usual string) string {
	if r := s.script(line); r != "" {
		return r
	}
	s.h.mu.Lock()
	script := s.h.script
	s.h.mu.Unlock()
	if script != nil {
		if r := script(line); r != "" {
			return r
		}
	}
	return usual
}

func (s *hopConnection) write(reply string) bool {
	if reply == hang || reply == drop {
		_, _ = s.conn.Write([]byte(s.held))
		if reply == hang {
			<-s.h.quit
		}
		return false
	}
	if !strings.HasSuffix(reply, "\n") {
		reply += "\r\n"
	}
	if s.held += reply; s.h.packets && s.in.Buffered() > 0 {
		return true
	}
	time.Sleep(s.h.late)
	_, err := s.conn.Write([]byte(s.held))
	s.held = ""
	return err == nil
}

func (s *hopConnection) run() {
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

func (s *hopConnection) command(line string) bool {
	verb, _, _ := strings.Cut(line, " ")
	switch strings.ToUpper(verb) {
	case "EHLO", "LHLO":
		if (strings.ToUpper(verb) == "LHLO") != s.h.lmtp {
			_, ok := s.say(line, "500 5.5.1 the other hello, please")
			return ok
		}
		ext := s.h.ext
		if s.h.tls != nil && !s.tls {
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
		conn := tls.Server(s.conn, s.h.tls)
		if conn.Handshake() != nil {
			return false
		}
		s.conn, s.in, s.tls = conn, bufio.NewReader(conn), true
		return true
	case "MAIL":
		reply, ok := s.say(line, "250 2.1.0 ok")
		if strings.HasPrefix(reply, "250") {
			s.m = hopMessage{mail: line, tls: s.tls}
		}
		return ok
	case "RCPT":
		reply, ok := s.say(line, "250 2.1.5 ok")
		if strings.HasPrefix(reply, "25") {
			s.m.rcpts = append(s.m.rcpts, line)
		}
		return ok
	case "DATA":
		usual := "354 go"
		if len(s.m.rcpts) == 0 {
			usual = "554 5.5.1 no valid recipients"
		}
		reply, ok := s.say(line, usual)
		if !ok || !strings.HasPrefix(reply, "354") {
			return ok
		}
		return s.data()
	case "RSET":
		s.m = hopMessage{}
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
func (s *hopConnection) data() bool {
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
		if s.answer("BODY", "") == drop {
			return false
		}
	}
	m := s.m
	m.raw = raw.String()
	m.data = strings.ReplaceAll("\r\n"+m.raw, "\r\n.", "\r\n")[2:]
	s.m = hopMessage{}
	answers := []string{"DOT"}
	if s.h.lmtp {
		answers = nil
		for _, r := range m.rcpts {
			answers = append(answers, "DOT "+r)
		}
	}
	taken := false
	for i, a := range answers {
		answers[i] = s.answer(a, fmt.Sprintf("250 2.0.0 queued as %d-%d", len(s.h.got())+1, i))
		taken = taken || strings.HasPrefix(answers[i], "250")
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

// answering is a script that answers lines with this beginning.
func answering(prefix, reply string) func(*testHop) {
	return func(h *testHop) {
		h.script = func(line string) string {
			if strings.HasPrefix(line, prefix) {
				return reply
			}
			return ""
		}
	}
}
