package main

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/qkdmail/qkdmail/cmd/internal/smtpkit"
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
	c, err := smtpkit.Dial(address, 2*time.Minute)
	if err != nil {
		return err
	}
	defer c.Conn.Close()
	defer context.AfterFunc(ctx, func() { _ = c.Conn.Close() })()
	for message := next(); message != nil; message = next() {
		if err := c.SendPipelined("alice@a.example", "bob@b.example", bytes.NewReader(message)); err != nil {
			return err
		}
	}
	return c.Quit()
}
