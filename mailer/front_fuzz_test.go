package mailer

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
)

// dataOf returns what go-smtp itself takes for DATA of what a client sends, and
// what it takes for commands behind it. ok is false where there is no end.
func dataOf(in []byte) (data, rest []byte, ok bool) {
	got := make(chan []byte, 1)
	server := smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) {
		return &takingSession{got: got}, nil
	}))
	server.MaxLineLength = 0
	server.ErrorLog = serverLog{discardLog()}
	client, conn := net.Pipe()
	l := &oneListener{conn: conn, done: make(chan struct{})}
	go func() { _ = server.Serve(l) }()
	defer server.Close()
	// What follows the end shows in the reply to a command: QUIT is 221.
	go func() {
		w := bufio.NewWriter(client)
		_, _ = w.WriteString("EHLO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<a@b>\r\nDATA\r\n")
		_, _ = w.Write(in)
		_ = w.Flush()
		_ = client.Close()
	}()
	_, _ = io.Copy(io.Discard, client)
	select {
	case data = <-got:
	case <-time.After(patience):
		return nil, nil, false
	}
	return data, nil, data != nil
}

// A takingSession takes a message.
type takingSession struct{ got chan<- []byte }

func (s *takingSession) Mail(string, *smtp.MailOptions) error { return nil }
func (s *takingSession) Rcpt(string, *smtp.RcptOptions) error { return nil }
func (s *takingSession) Reset()                               {}
func (s *takingSession) Logout() error                        { return nil }
func (s *takingSession) Data(r io.Reader) error {
	b, err := io.ReadAll(r)
	if err != nil {
		b = nil
	} else if b == nil {
		b = []byte{}
	}
	select {
	case s.got <- b:
	default:
	}
	return err
}

// A oneListener has one connection.
type oneListener struct {
	conn net.Conn
	done chan struct{}
}

func (l *oneListener) Accept() (net.Conn, error) {
	if c := l.conn; c != nil {
		l.conn = nil
		return c, nil
	}
	<-l.done
	return nil, net.ErrClosed
}
func (l *oneListener) Close() error   { close(l.done); return nil }
func (l *oneListener) Addr() net.Addr { return &net.TCPAddr{} }

// FuzzDataEnd compares the relay's DATA with go-smtp's: the same octets, and
// the same end.
func FuzzDataEnd(f *testing.F) {
	for _, seed := range smugglers() {
		f.Add([]byte("a"+seed+"b\r\n.\r\n"), uint8(3), uint8(2))
	}
	f.Add([]byte(".\r\nQUIT\r\n"), uint8(1), uint8(1))
	f.Add([]byte("..\r\n.a\r\n.\r\n"), uint8(1), uint8(7))
	f.Fuzz(func(t *testing.T, in []byte, size, room uint8) {
		var d dataState
		var out []byte
		rest, ended := in, false
		for len(rest) > 0 && !ended {
			dst := make([]byte, 1+int(room))
			piece := rest[:min(len(rest), 1+int(size))]
			if room%2 == 0 {
				dst = bytes.Clone(piece) // as DATA is read
				piece = dst
			}
			n, used, end := d.undo(dst, piece)
			if n == 0 && used == 0 {
				t.Fatal("no progress")
			}
			out, rest, ended = append(out, dst[:n]...), rest[used:], end
		}
		want, _, ok := dataOf(in)
		if ended != ok || ok && !bytes.Equal(out, want) {
			t.Fatalf("%q: DATA %q, ended %v; go-smtp has %q, %v", in, out, ended, want, ok)
		}
	})
}

// FuzzFront sends anything to an encrypting and a decrypting relay: they do not
// panic, and no message comes to the next hop that was not sent with MAIL, RCPT
// and DATA, or without its end.
func FuzzFront(f *testing.F) {
	for _, seed := range []string{
		"EHLO x\r\nMAIL FROM:<a@a.example>\r\nRCPT TO:<b@clear.example>\r\nDATA\r\nSubject: x\r\n\r\nbody\r\n.\r\nQUIT\r\n",
		"EHLO x\r\nSTARTTLS\r\nXFORWARD ADDR=1\r\nBDAT 3 LAST\r\nabc",
		"MAIL FROM:<a@a.example>\r\nMAIL FROM:<b@b.example>\r\nRSET\r\nNOOP\r\nVRFY x\r\nAUTH PLAIN =\r\n",
		"EHLO x\nMAIL FROM:<\"a@b> \"@a.example> SIZE=1 BODY=8BITMIME RET=HDRS ENVID=+0A\nRCPT TO:<b@b.example> NOTIFY=NEVER\nDATA\n.\n\r\n.\r\n",
		"\x00\r\r\n\xff\xfe \r\n" + strings.Repeat("x", 3000) + "\r\n",
	} {
		f.Add([]byte(seed), uint8(5))
	}
	hop := startHop(f)
	encrypt := startRelay(f, DirectionEncrypt, hop.addr())
	decrypt := startRelay(f, DirectionDecrypt, hop.addr())
	f.Fuzz(func(t *testing.T, in []byte, size uint8) {
		for _, r := range []*testRelay{encrypt, decrypt} {
			conn, err := net.Dial("tcp", r.addr.String())
			if err != nil {
				t.Fatal(err)
			}
			_ = conn.SetDeadline(time.Now().Add(patience))
			go func() {
				for rest := in; len(rest) > 0; {
					n := min(len(rest), 1+int(size)*16)
					if _, err := conn.Write(rest[:n]); err != nil {
						return
					}
					rest = rest[n:]
				}
				_ = conn.(*net.TCPConn).CloseWrite()
			}()
			if _, err := io.Copy(io.Discard, conn); err != nil {
				if ne, ok := err.(net.Error); ok && ne.Timeout() {
					t.Fatal("the session does not end")
				}
			}
			_ = conn.Close()
			if strings.Contains(r.log.String(), "panic") {
				t.Fatal(r.log)
			}
		}
		upper := strings.ToUpper(string(in))
		for _, m := range hop.got() {
			if strings.ContainsAny(strings.ReplaceAll(m.raw, "\r\n", ""), "\r\n\x00") {
				t.Fatalf("line ends at the next hop: %q", m.raw)
			}
			if !strings.Contains(upper, "MAIL") || !strings.Contains(upper, "RCPT") || !strings.Contains(upper, "DATA") || !strings.Contains(upper, ".\r\n") {
				t.Fatalf("%q made a message: %q", in, m.raw)
			}
		}
		hop.forget()
	})
}
