package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// send sends messages over so many connections at one time, MAIL, RCPT and DATA
// together.
func send(ctx context.Context, address string, sessions, messages int, message func(i int) []byte) error {
	var next atomic.Int64
	var wg sync.WaitGroup
	errs := make([]error, sessions)
	for s := range sessions {
		wg.Go(func() {
			errs[s] = session(ctx, address, func() []byte {
				if i := int(next.Add(1)) - 1; i < messages {
					return message(i)
				}
				return nil
			})
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// session sends messages until there are no more.
func session(ctx context.Context, address string, next func() []byte) error {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	_ = conn.SetDeadline(time.Now().Add(2 * time.Minute))
	in := bufio.NewReader(conn)
	if err := expect(in, "220"); err != nil {
		return err
	}
	say := func(text []byte, codes ...string) error {
		if _, err := conn.Write(text); err != nil {
			return err
		}
		for _, code := range codes {
			if err := expect(in, code); err != nil {
				return err
			}
		}
		return nil
	}
	if err := say([]byte("EHLO source.example\r\n"), "250"); err != nil {
		return err
	}
	envelope := []byte("MAIL FROM:<alice@a.example>\r\nRCPT TO:<bob@b.example>\r\nDATA\r\n")
	for {
		message := next()
		if message == nil {
			return say([]byte("QUIT\r\n"), "221")
		}
		if err := say(envelope, "250", "250", "354"); err != nil {
			return err
		}
		if err := say(message, "250"); err != nil {
			return err
		}
	}
}

// expect reads a reply with this code.
func expect(in *bufio.Reader, code string) error {
	for {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return err
		}
		if len(line) < 4 || string(line[:3]) != code {
			return fmt.Errorf("answer %q, want %s", line, code)
		}
		if line[3] == ' ' {
			return nil
		}
	}
}
