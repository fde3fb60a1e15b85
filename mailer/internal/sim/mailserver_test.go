package sim

import (
	"bufio"
	"bytes"
	"context"
	"strings"
	"time"
)

// A mailServer is a next hop: the mail system that has the mailboxes, or the one that
// sends encrypted mail on. It has moods.
type mailServer struct {
	w    *world
	host *host
	lmtp bool
	take func(*taken) // called for each message that it answers for
	// watch is called when a message begins. What it returns is called with as much of the
	// message as has come, each time that there is more; may be nil.
	watch func(rcpts []string) func(data []byte)
}

// taken is a message that a mailServer has taken, for the recipients for whom it has
// answered 250 or is about to.
type taken struct {
	from  string
	rcpts []string
	data  []byte
	at    time.Time
	odd   bool        // the answers were not proper SMTP: they may be taken for others
	seen  func() bool // whether the client has read the answers; ask later
}

// full reports whether a mailbox is full, as some are while there is that trouble.
func (m *mailServer) full(rcpt string) bool {
	return m.w.dice.about("full", rcpt).Float64() < m.w.trouble("full", m.host.name)
}

// start listens at an address.
func (m *mailServer) start(address string) {
	l, err := m.host.Listen(context.Background(), "tcp", address)
	if err != nil {
		panic(err)
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s := &mailSession{server: m, conn: c.(*conn), in: bufio.NewReaderSize(c, 16<<10)}
			go s.serve()
		}
	}()
}

// Replies to a message.
const (
	queued      = "250 2.0.0 Ok: queued"
	notThisOne  = "Not this one"
	neverAtData = "Never, at DATA"
	neverAtRcpt = "Never, at RCPT "
)

// A mailSession is one connection.
type mailSession struct {
	server *mailServer
	conn   *conn
	in     *bufio.Reader

	from  string
	rcpts []string
	never bool // the last reply was final
	odd   bool // a reply came twice: those after it may be taken for others
}

// The moods.
const (
	moodNone = iota
	moodLater
	moodNever
	moodHang
	moodDrop
	moodLate
	moodTwice
	moods
)

var moodNames = [moods]string{"none", "refuses for now", "refuses for good", "hangs", "drops", "answers late", "answers twice"}

// mood returns the server's mood at a stage of a session.
func (s *mailSession) mood(stage string) (mood int, late time.Duration) {
	name := s.server.host.name
	r := s.server.w.diceNow("mood", name, stage)
	if r.Float64() >= s.server.w.trouble("moody", name)/4 {
		return moodNone, 0
	}
	mood = 1 + r.IntN(moods-1)
	if mood == moodNever && stage == "MAIL" { // a final refusal of MAIL would name no recipient
		mood = moodLater
	}
	s.server.w.count("next hop: " + moodNames[mood])
	return mood, between(r, time.Second, 15*time.Minute)
}

// say sends a reply, in a mood. It reports whether the reply was good, and whether the
// session goes on.
func (s *mailSession) say(stage, good string) (ok, on bool) {
	mood, late := s.mood(stage)
	s.never = mood == moodNever
	switch mood {
	case moodLater:
		return false, s.write("451 4.3.0 Not now, at " + stage)
	case moodNever:
		return false, s.write("554 5.3.0 Never, at " + stage)
	case moodHang:
		time.Sleep(late)
		return false, false
	case moodDrop:
		return false, false
	case moodLate:
		time.Sleep(late)
	case moodTwice:
		s.odd = true
		return true, s.write(good + "\r\n" + good)
	}
	return true, s.write(good)
}

func (s *mailSession) write(line string) bool {
	_, err := s.conn.Write([]byte(line + "\r\n"))
	return err == nil
}

func (s *mailSession) serve() {
	defer s.conn.Close()
	if ok, on := s.say("greeting", "220 "+s.server.host.name+" ESMTP"); !ok || !on {
		return
	}
	for {
		_ = s.conn.SetReadDeadline(time.Now().Add(10 * time.Minute))
		line, err := s.in.ReadString('\n')
		if err != nil || !s.command(strings.TrimRight(line, "\r\n")) {
			return
		}
	}
}

// command carries out a command, and reports whether the session goes on.
func (s *mailSession) command(line string) bool {
	verb, _, _ := strings.Cut(strings.ToUpper(line), " ")
	path := func() string {
		_, rest, _ := strings.Cut(line, "<")
		address, _, _ := strings.Cut(rest, ">")
		return strings.ToLower(address) // it ignores case in names of mailboxes
	}
	switch verb {
	case "EHLO", "LHLO":
		_, on := s.say("hello", "250-"+s.server.host.name+"\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SIZE 50000000")
		return on
	case "MAIL":
		ok, on := s.say("MAIL", "250 2.1.0 Ok")
		if s.rcpts = nil; ok {
			s.from = path()
		}
		return on
	case "RCPT":
		if s.server.full(path()) {
			if s.odd {
				s.refuse(path())
			}
			return s.write("452 4.2.2 Mailbox full")
		}
		ok, on := s.say("RCPT "+path(), "250 2.1.5 Ok")
		if ok {
			s.rcpts = append(s.rcpts, path())
		}
		if s.never || s.odd {
			s.server.w.ledger.refused(path())
		}
		return on
	case "DATA":
		if len(s.rcpts) == 0 {
			return s.write("503 5.5.1 No recipients")
		}
		ok, on := s.say("DATA", "354 Go on")
		if s.never || s.odd {
			s.refuse(s.rcpts...)
		}
		if !ok || !on {
			return on
		}
		return s.data()
	case "RSET":
		s.rcpts = nil
		return s.write("250 2.0.0 Ok")
	case "QUIT":
		s.write("221 2.0.0 Bye")
		return false
	}
	return s.write("250 2.0.0 Ok")
}

func (s *mailSession) refuse(rcpts ...string) {
	for _, rcpt := range rcpts {
		s.server.w.ledger.refused(rcpt)
	}
}

// receive reads a message, up to the final dot.
func (s *mailSession) receive() (data []byte, err error) {
	saw := func([]byte) {}
	if s.server.watch != nil {
		saw = s.server.watch(s.rcpts)
	}
	var b bytes.Buffer
	for {
		if s.in.Buffered() == 0 {
			saw(b.Bytes())
		}
		_ = s.conn.SetReadDeadline(time.Now().Add(10 * time.Minute))
		line, err := s.in.ReadBytes('\n')
		if err != nil || string(line) == ".\r\n" {
			saw(b.Bytes())
			return b.Bytes(), err
		}
		b.Write(bytes.TrimPrefix(line, []byte(".")))
	}
}

// data takes a message and answers for it.
func (s *mailSession) data() bool {
	data, err := s.receive()
	if err != nil {
		return false
	}
	t := &taken{from: s.from, data: data, at: time.Now()}
	on := true
	answers := 1
	if s.server.lmtp {
		answers = len(s.rcpts)
	}
	for i := range answers {
		rcpts := s.rcpts
		if s.server.lmtp {
			rcpts = s.rcpts[i : i+1]
		}
		if on = on && s.answer(t, rcpts, i+1 == answers); !on {
			break
		}
	}
	s.rcpts = nil
	return on
}

// answer answers for a message, for some recipients. Before the last answer none comes
// twice: the second one would be the next recipient's, and no relay could tell.
func (s *mailSession) answer(whole *taken, rcpts []string, last bool) bool {
	t := *whole
	t.rcpts = rcpts
	stage := "message " + rcpts[0]
	mood, late := s.mood(stage)
	if mood == moodTwice && !last {
		mood = moodNone
	}
	before, _ := s.conn.out.position()
	t.seen = func() bool { _, consumed := s.conn.out.position(); return consumed >= before+int64(len(queued)) }
	t.odd = mood == moodTwice
	keep := func() { s.server.take(&t) }
	switch mood {
	case moodLater:
		return s.write("452 4.2.2 Not now")
	case moodNever:
		s.refuse(rcpts...)
		return s.write("550 5.2.2 " + notThisOne)
	case moodHang:
		time.Sleep(late)
		return false
	case moodDrop: // it has the message, and tells nobody
		keep()
		return false
	case moodLate:
		keep()
		time.Sleep(late)
	case moodTwice:
		keep()
		s.odd = true
		return s.write(queued + "\r\n" + queued)
	default:
		keep()
	}
	return s.write(queued)
}
