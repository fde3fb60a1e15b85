package relaytest

import (
	"fmt"
	"math/rand/v2"
	"net"
	"testing"
	"time"
)

// Await waits until so returns true, but no longer than atMost.
func Await(t testing.TB, atMost time.Duration, what string, so func() bool) {
	t.Helper()
	for end := time.Now().Add(atMost); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if so() {
			return
		}
	}
	if !so() {
		t.Fatalf("%s: not so within %v", what, atMost)
	}
}

// AwaitListening waits until something accepts connections at an address.
func AwaitListening(t testing.TB, what, addr string) {
	t.Helper()
	Await(t, time.Minute, what+" listens at "+addr, func() bool {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
}

// FreePort returns a free port on loopback.
func FreePort(t testing.TB) int {
	t.Helper()
	return FreePorts(t, 1)
}

// FreePorts returns the first of n consecutive free ports on loopback, which stay reserved
// until the test ends: a restarted server gets its own again. They are below those that
// the system gives to clients.
func FreePorts(t testing.TB, n int) int {
	t.Helper()
	for range 1000 {
		first := 11000 + rand.IntN(20000)
		if reserve(t, first, n) {
			return first
		}
	}
	t.Fatal("no free ports")
	return 0
}

// reserve reserves free ports. While a server is down its port looks free to tests in other
// processes, so what reserves it is a UDP socket with the same number.
func reserve(t testing.TB, first, n int) bool {
	var held []net.PacketConn
	release := func() {
		for _, c := range held {
			_ = c.Close()
		}
	}
	for port := first; port < first+n; port++ {
		c, err := net.ListenPacket("udp", Loopback(port))
		if err == nil {
			held = append(held, c)
			var l net.Listener
			if l, err = net.Listen("tcp", Loopback(port)); err == nil {
				_ = l.Close()
			}
		}
		if err != nil {
			release()
			return false
		}
	}
	t.Cleanup(release)
	return true
}

// Loopback returns the address of a port.
func Loopback(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }
