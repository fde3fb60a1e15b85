package loadtest

import (
	"bytes"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/qkdmail/qkdmail/cmd/internal/smtpkit"
	"github.com/qkdmail/qkdmail/mailer"
	"github.com/qkdmail/qkdmail/mailer/relay/config"
)

// TestSlowLoris has clients send a byte now and then to tie up a connection:
// they are cut off, and another client is served all the time.
func TestSlowLoris(t *testing.T) {
	for _, d := range []mailer.Direction{mailer.DirectionEncrypt, mailer.DirectionDecrypt} {
		t.Run(string(d), func(t *testing.T) {
			t.Parallel()
			var taken atomic.Int64
			sink := startSink(t, &smtpkit.Sink{Take: func(message io.Reader) {
				if _, err := io.Copy(io.Discard, message); err == nil {
					taken.Add(1)
				}
			}})
			address := startImpatient(t, d, sink)
			var wg sync.WaitGroup
			for name, begin := range map[string]string{
				"silent":        "",
				"in a command":  "EHLO slow\r\nMAIL FR",
				"in the header": "EHLO slow\r\nMAIL FROM:<a@a.example>\r\nRCPT TO:<b@b.example>\r\nDATA\r\nSubject: x",
				"in DATA":       "EHLO slow\r\nMAIL FROM:<a@a.example>\r\nRCPT TO:<b@b.example>\r\nDATA\r\nSubject: x\r\n\r\n" + strings.Repeat("text\r\n", 100),
				"in long DATA":  "EHLO slow\r\nMAIL FROM:<a@a.example>\r\nRCPT TO:<b@b.example>\r\nDATA\r\nSubject: x\r\n\r\n" + strings.Repeat("text\r\n", 1000),
			} {
				wg.Go(func() { slow(t, address, name, begin) })
			}
			done := make(chan struct{})
			go func() { wg.Wait(); close(done) }()
			served := normal(t, address, done)
			if n := taken.Load(); n != served {
				t.Errorf("%d messages arrived, %d were sent whole", n, served)
			}
			if served == 0 {
				t.Error("no other client was served")
			}
		})
	}
}

// startImpatient starts a relay with short timeouts.
func startImpatient(t *testing.T, d mailer.Direction, sink string) string {
	return inProcess(t, d, sink, func(cfg *config.Config) {
		cfg.Timeouts.Idle, cfg.Timeouts.DataIdle, cfg.Timeouts.MinRate = time.Second, time.Second, 5000
	})
}

// slow sends begin, and then a byte now and then until it is cut off.
func slow(t *testing.T, address, name, begin string) {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Error(err)
		return
	}
	defer conn.Close()
	start := time.Now()
	closed := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, conn) // until the relay closes
		close(closed)
	}()
	for line := range strings.SplitAfterSeq(begin, "\n") {
		_, _ = io.WriteString(conn, line)
		if strings.HasPrefix(line, "DATA") {
			time.Sleep(100 * time.Millisecond)
		}
	}
	for time.Since(start) < 10*time.Second {
		select {
		case <-closed:
			t.Logf("%s: cut off after %.1f s", name, time.Since(start).Seconds())
			return
		case <-time.After(200 * time.Millisecond):
			if begin != "" {
				_, _ = io.WriteString(conn, "x")
			}
		}
	}
	t.Errorf("%s: served for %.0f s", name, time.Since(start).Seconds())
}

// normal sends messages until done is closed, and returns how many.
func normal(t *testing.T, address string, done chan struct{}) (served int64) {
	message := smtpkit.Message(4000)
	for {
		begin := time.Now()
		c, err := smtpkit.Dial(address, 10*time.Second)
		if err == nil {
			err = c.Send("a@a.example", "b@b.example", bytes.NewReader(message))
		}
		if err == nil {
			served++
			err = c.Quit()
		}
		if err != nil {
			t.Errorf("a normal client: %v", err)
			return served
		}
		if took := time.Since(begin); took > 2*time.Second {
			t.Errorf("a normal client waited %.1f s", took.Seconds())
		}
		select {
		case <-done:
			return served
		case <-time.After(50 * time.Millisecond):
		}
	}
}
