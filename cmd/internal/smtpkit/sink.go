package smtpkit

import (
	"bufio"
	"bytes"
	"io"
	"net"
)

// A Sink is an SMTP server that takes every message.
type Sink struct {
	// Take gets each message, without the dots that SMTP adds to lines, and must
	// read it to its end. nil: messages are discarded.
	Take func(message io.Reader)
}

// Serve serves until the listener is closed.
func (s *Sink) Serve(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			s.serve(conn)
		}()
	}
}

var greeting = []byte("220 sink.example ESMTP\r\n")

func (s *Sink) serve(conn net.Conn) {
	in := bufio.NewReaderSize(conn, 32<<10)
	data := &dataReader{in: in}
	answer := greeting
	for {
		if _, err := conn.Write(answer); err != nil {
			return
		}
		line, err := in.ReadSlice('\n')
		if err != nil || len(line) < 4 {
			return
		}
		switch string(bytes.ToUpper(line[:4])) {
		case "EHLO":
			answer = []byte("250-sink.example\r\n250-PIPELINING\r\n250-ENHANCEDSTATUSCODES\r\n250 8BITMIME\r\n")
		case "DATA":
			if _, err := conn.Write([]byte("354 Go on\r\n")); err != nil {
				return
			}
			*data = dataReader{in: in, begins: true}
			if s.Take != nil {
				s.Take(data)
			} else {
				_, _ = io.Copy(io.Discard, data)
			}
			if data.err != io.EOF {
				return
			}
			answer = []byte("250 2.0.0 taken\r\n")
		case "QUIT":
			_, _ = conn.Write([]byte("221 2.0.0 bye\r\n"))
			return
		default:
			answer = []byte("250 2.0.0 fine\r\n")
		}
	}
}

// A dataReader reads a message up to the lone dot, line by line.
type dataReader struct {
	in     *bufio.Reader
	line   []byte
	begins bool // the next piece begins a line
	err    error
}

func (r *dataReader) Read(p []byte) (int, error) {
	for len(r.line) == 0 {
		if r.err != nil {
			return 0, r.err
		}
		line, err := r.in.ReadSlice('\n')
		if err != nil && err != bufio.ErrBufferFull {
			r.err = io.ErrUnexpectedEOF
			return 0, r.err
		}
		if r.begins && line[0] == '.' {
			if line = line[1:]; string(line) == "\r\n" {
				r.err = io.EOF
				return 0, r.err
			}
		}
		r.begins = err == nil
		r.line = line
	}
	n := copy(p, r.line)
	r.line = r.line[n:]
	return n, nil
}
