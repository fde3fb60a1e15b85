package loadtest

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/qkdmail/qkdmail/cmd/internal/smtpkit"
	"github.com/qkdmail/qkdmail/mailer"
)

// The benchmarks send messages over loopback to a sink, through a relay or through
// the bare relay that it is compared with: over connections that are kept, with
// commands one by one or pipelined, or with a connection for each message. Client
// and sink are in the same process, so this is for profiling; scripts/bench
// compares relays.

func BenchmarkPassThrough(b *testing.B) {
	benchRelay(b, func(b *testing.B, sink string) string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		server := smtpkit.PassThrough(sink)
		go func() { _ = server.Serve(l) }()
		b.Cleanup(func() { _ = server.Close() })
		return l.Addr().String()
	}, func(_ testing.TB, message []byte) []byte { return message })
}

func BenchmarkEncryptRelay(b *testing.B) {
	benchRelay(b, func(b *testing.B, sink string) string {
		return inProcess(b, mailer.DirectionEncrypt, sink, nil)
	}, func(_ testing.TB, message []byte) []byte { return message })
}

func BenchmarkDecryptRelay(b *testing.B) {
	benchRelay(b, func(b *testing.B, sink string) string {
		return inProcess(b, mailer.DirectionDecrypt, sink, nil)
	}, func(t testing.TB, message []byte) []byte { return encrypted(t, new(smtpkit.Keys), message) })
}

// benchRelay sends messages of two sizes through the relay that start starts, in
// three ways. prepare makes the message to send.
func benchRelay(b *testing.B, start func(b *testing.B, sink string) string, prepare func(testing.TB, []byte) []byte) {
	for _, size := range []int{4_000, 50_000} {
		for _, way := range []struct {
			name string
			send func(*smtpkit.Client, []byte) error
		}{
			{"kept", func(c *smtpkit.Client, m []byte) error { return c.Send(alice, bob, bytes.NewReader(m)) }},
			{"pipelined", func(c *smtpkit.Client, m []byte) error { return c.SendPipelined(alice, bob, bytes.NewReader(m)) }},
			{"new", func(c *smtpkit.Client, m []byte) error { return c.SendAndRedial(alice, bob, bytes.NewReader(m)) }},
		} {
			b.Run(fmt.Sprintf("%dkB/%s", size/1000, way.name), func(b *testing.B) { benchWay(b, start, prepare, size, way.send) })
		}
	}
}

const alice, bob = "alice@a.example", "bob@b.example"

func benchWay(b *testing.B, start func(b *testing.B, sink string) string, prepare func(testing.TB, []byte) []byte, size int, send func(*smtpkit.Client, []byte) error) {
	var taken atomic.Int64
	address := start(b, startSink(b, &smtpkit.Sink{Take: func(r io.Reader) {
		_, _ = io.Copy(io.Discard, r)
		taken.Add(1)
	}}))
	message := prepare(b, smtpkit.Message(size))
	b.SetBytes(int64(size))
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		c, err := smtpkit.Dial(address, 10*time.Minute)
		if err != nil {
			b.Error(err)
			return
		}
		for pb.Next() {
			if err := send(c, message); err != nil {
				b.Error(err)
				return
			}
		}
		_ = c.Quit()
	})
	b.StopTimer()
	if n := taken.Load(); n != int64(b.N) {
		b.Errorf("%d of %d messages arrived", n, b.N)
	}
}
