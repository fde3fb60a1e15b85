package deadline

import (
	"errors"
	"net"
	"os"
	"testing"
	"time"
)

// timedPipe returns a pipe, one end of which is a Conn, and counts how often the
// deadlines of that end are really set.
func timedPipe(t *testing.T) (conn *Conn, other net.Conn, set *int) {
	a, b := net.Pipe()
	t.Cleanup(func() { _, _ = a.Close(), b.Close() })
	c := New(a)
	n := 0
	c.read.apply = func(t time.Time) error { n++; return a.SetReadDeadline(t) }
	c.write.apply = func(t time.Time) error { n++; return a.SetWriteDeadline(t) }
	return c, b, &n
}

func TestDeadlinePutOff(t *testing.T) {
	for name, later := range map[string]time.Time{"to later": time.Now().Add(time.Minute), "to never": {}} {
		t.Run(name, func(t *testing.T) {
			conn, other, set := timedPipe(t)
			_ = conn.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
			_ = conn.SetReadDeadline(later)
			if *set != 1 {
				t.Errorf("set %d times, want once", *set)
			}
			go func() {
				time.Sleep(60 * time.Millisecond)
				_, _ = other.Write([]byte("x"))
			}()
			if n, err := conn.Read(make([]byte, 1)); n != 1 || err != nil {
				t.Errorf("Read: %d, %v: it waited for the deadline that was put off", n, err)
			}
		})
	}
}

func TestDeadlineWrite(t *testing.T) {
	conn, other, _ := timedPipe(t)
	_ = conn.SetWriteDeadline(time.Now().Add(20 * time.Millisecond))
	_ = conn.SetWriteDeadline(time.Now().Add(time.Minute))
	got := make(chan string, 1)
	go func() {
		p := make([]byte, 3)
		n, _ := other.Read(p[:1]) // the deadline passes in the middle of the write
		time.Sleep(60 * time.Millisecond)
		m, _ := other.Read(p[n:])
		got <- string(p[:n+m])
	}()
	if n, err := conn.Write([]byte("abc")); n != 3 || err != nil {
		t.Fatalf("Write: %d, %v", n, err)
	}
	if g := <-got; g != "abc" {
		t.Errorf("%q came", g)
	}
}

func TestDeadlineKept(t *testing.T) {
	for name, change := range map[string]func(*Conn){
		"as it was set":         func(*Conn) {},
		"brought forward":       func(c *Conn) { _ = c.SetDeadline(time.Now().Add(10 * time.Millisecond)) },
		"put off, but not long": func(c *Conn) { _ = c.SetReadDeadline(time.Now().Add(50 * time.Millisecond)) },
		"to the past, from another goroutine": func(c *Conn) {
			_ = c.SetDeadline(time.Now().Add(time.Minute))
			time.AfterFunc(10*time.Millisecond, func() { _ = c.SetReadDeadline(time.Unix(1, 0)) })
		},
	} {
		t.Run(name, func(t *testing.T) {
			conn, _, _ := timedPipe(t)
			_ = conn.SetDeadline(time.Now().Add(20 * time.Millisecond))
			change(conn)
			done := make(chan error, 1)
			go func() {
				_, err := conn.Read(make([]byte, 1))
				done <- err
			}()
			select {
			case err := <-done:
				if !errors.Is(err, os.ErrDeadlineExceeded) {
					t.Error(err)
				}
			case <-time.After(30 * time.Second):
				t.Error("Read waits forever")
			}
		})
	}
}
