package mailer

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"net/textproto"
	"strings"
	"time"
)

// A hopWire is the connection beneath go-smtp's client, which waits for the
// answer to each command before it writes the next. Where the next hop offers
// PIPELINING (RFC 2920) a hopWire lets commands travel together all the same,
// and go-smtp still makes every command and reads every answer:
//
//   - MAIL is kept until the next command. go-smtp is given a 250 for it; the
//     true answer is read before that to the next command, and go-smtp is shown
//     it after all where it is another one.
//   - DATA goes out behind a RCPT, or alone without a wait for its answer.
//     What go-smtp itself writes for DATA is left out then.
//   - The end of a message is kept for the final dot.
//
// A session asks for each of these just before the command in question.
type hopWire struct {
	net.Conn
	in   *bufio.Reader
	text *textproto.Reader // of in
	wait time.Duration     // for an answer

	keep    bool   // the next command is kept
	kept    []byte // what goes out in front of what is written next
	line    []byte // for kept commands, used again
	owed    bool   // the answer to the kept command was not read yet
	refusal []byte // what it was, if not 250
	drop    bool   // the next command was sent already, or must not be
	ahead   bool   // DATA was sent, and go-smtp has not done that yet
	addData bool   // DATA goes out behind the next command
	shown   []byte // what go-smtp reads next
}

const dataCommand = "DATA\r\n"

func newHopWire(conn net.Conn, wait time.Duration) *hopWire {
	in := bufio.NewReader(conn)
	return &hopWire{Conn: conn, in: in, text: textproto.NewReader(in), wait: wait}
}

// Write takes what go-smtp writes.
func (w *hopWire) Write(p []byte) (int, error) {
	ends := p[len(p)-1] == '\n' // a long command is written in pieces
	switch {
	case w.drop:
		w.drop = !ends
		return len(p), nil
	case w.keep:
		w.line = append(w.line, p...)
		if w.kept = w.line; ends {
			w.keep, w.owed, w.shown = false, true, []byte("250 kept\r\n")
		}
		return len(p), nil
	}
	out, before := p, len(w.kept)
	if before > 0 {
		out = append(w.kept, p...)
	}
	if w.addData && ends {
		out = append(out[:len(out):len(out)], dataCommand...)
		w.addData, w.ahead = false, true
	}
	w.kept, w.line = nil, w.line[:0]
	n, err := w.Conn.Write(out)
	return max(0, min(n-before, len(p))), err
}

// Read hands go-smtp a line of an answer, so that it never reads ahead.
func (w *hopWire) Read(p []byte) (int, error) {
	if len(w.shown) == 0 && w.owed {
		if err := w.readOwed(); err != nil {
			return 0, err
		}
	}
	if len(w.shown) == 0 {
		var err error
		if w.shown, err = w.in.ReadSlice('\n'); len(w.shown) == 0 {
			return 0, err
		}
	}
	n := copy(p, w.shown)
	w.shown = w.shown[n:]
	return n, nil
}

// readOwed reads the answer to the command that was kept.
func (w *hopWire) readOwed() error {
	code, text, err := w.text.ReadResponse(0)
	if err != nil {
		return err
	}
	if w.owed = false; code != 250 {
		w.refusal = replyLines(code, text)
	}
	return w.Conn.SetReadDeadline(time.Now().Add(w.wait)) // each answer has a time of its own
}

// unasked reports whether the next hop has said something that answers no
// command. What it says to the next ones can't be told from that. It sees only
// what came together with an earlier answer.
func (w *hopWire) unasked() bool { return w.in.Buffered() > 0 }

// replyLines puts a reply together again that textproto took apart.
func replyLines(code int, text string) []byte {
	var b bytes.Buffer
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		sep := '-'
		if i == len(lines)-1 {
			sep = ' '
		}
		fmt.Fprintf(&b, "%03d%c%s\r\n", code, sep, line)
	}
	return b.Bytes()
}

// replay has go-smtp read the refusal of the command that was kept: the command
// that it writes for that goes nowhere.
func (w *hopWire) replay() {
	w.drop, w.shown, w.refusal = true, w.refusal, nil
}

// sendData sends DATA and does not wait for the answer. An error shows when
// that is read.
func (w *hopWire) sendData() {
	w.ahead = true
	_, _ = w.Conn.Write([]byte(dataCommand))
}

// resume readies the wire for go-smtp's own DATA.
func (w *hopWire) resume() { w.drop, w.ahead = w.ahead, false }
