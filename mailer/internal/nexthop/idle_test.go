package nexthop_test

import (
	"bufio"
	"context"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/qkdmail/qkdmail/mailer/internal/nexthop"
)

// A connection is kept for as long as IdleFor says, even if no more mail comes.
func TestIdleConnectionIsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		closed := make(chan string, 2) // what the next hop has read last
		serve := func(conn net.Conn) {
			in, line := bufio.NewReader(conn), ""
			for reply := "220 hop"; ; reply = "250 ok" {
				if _, err := conn.Write([]byte(reply + "\r\n")); err != nil {
					break
				}
				next, err := in.ReadString('\n')
				if err != nil {
					break
				}
				line = next
			}
			closed <- strings.TrimSpace(line)
		}
		h := nexthop.New(nexthop.Options{Address: "hop:25", IdleFor: time.Minute, Dial: func(context.Context, string, string) (net.Conn, error) {
			client, server := net.Pipe()
			go serve(server)
			return client, nil
		}})
		defer h.Close()
		for range 2 {
			start := time.Now()
			if err := h.Probe(t.Context()); err != nil {
				t.Fatal(err)
			}
			select {
			case last := <-closed:
				if after := time.Since(start); last != "QUIT" || after != time.Minute {
					t.Errorf("the connection is closed after %v with %q, want QUIT after a minute", after, last)
				}
			case <-time.After(time.Hour):
				t.Fatal("the connection is open after an hour")
			}
		}
	})
}
