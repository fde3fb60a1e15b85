package mailer

import (
	"io"
	"strings"
	"testing"
	"time"

	"github.com/qkdmail/qkdmail/kmclient"
)

// Clients that hold on to a message take memory; who comes when there is none left is
// told so before DATA, or as soon as his header is too long. When they go, it is free.
func TestMemory(t *testing.T) {
	long := strings.Repeat("X-A: "+strings.Repeat("x", 900)+"\r\n", 250)
	directions(t, func(t *testing.T, d Direction) {
		noLeaks(t)
		hop := startHop(t)
		r := startRelay(t, d, hop.addr(), func(c *Config) { c.Limits.Memory = 8 << 20 })
		var clients, holders []*testClient
		busy, tooLong := 0, 0
		for range 30 {
			c := connect(t, r)
			clients = append(clients, c)
			c.want("250", c.cmd("MAIL FROM:<x@x.example>"))
			c.want("250", c.cmd("RCPT TO:<bob@b.example>"))
			if reply := c.cmd("DATA"); reply[:3] != "354" {
				busy++
				c.want("421 4.3.2", reply)
				continue
			}
			holders = append(holders, c)
		}
		for i, c := range holders {
			c.send("From: x@x.example\r\n")
			if i%2 == 0 {
				c.send(long)
			}
		}
		for _, c := range holders {
			c.send("\r\nbody\r\n.\r\n")
			if reply := c.reply(); reply[:3] != "250" {
				c.want("421 4.3.2", reply)
				tooLong++
			}
		}
		if taken := len(holders) - tooLong; busy == 0 || tooLong == 0 || taken == 0 {
			t.Errorf("%d messages were taken, %d too many, %d too long", taken, busy, tooLong)
		}
		for _, c := range clients {
			_ = c.conn.Close()
		}
		for end := time.Now().Add(patience); r.memory.taken.Load() != 0 && time.Now().Before(end); {
			time.Sleep(time.Millisecond)
		}
		if n := r.memory.taken.Load(); n != 0 {
			t.Errorf("%d bytes are taken and nobody is there", n)
		}
	})
}

// A message that may get a long pad takes more.
func TestPadLimitMemory(t *testing.T) {
	hop := startHop(t)
	r := startRelay(t, DirectionEncrypt, hop.addr(), func(c *Config) {
		c.Limits.Memory = 8 << 20
		for i := range c.Rules {
			if c.Rules[i].Suite == "auto" {
				c.Rules[i].PadLimit = 1 << 20
			}
		}
	})
	for i, want := range []string{"354", "354", "354", "421 4.3.2"} {
		c := connect(t, r)
		c.want("250", c.cmd("MAIL FROM:<x@x.example>"))
		c.want("250", c.cmd("RCPT TO:<bob@auto.example>"))
		if reply := c.cmd("DATA"); !strings.HasPrefix(reply, want) {
			t.Errorf("message %d: %s, want %s", i+1, reply, want)
		}
	}
}

// A long header takes memory until its message is done, also when it has been read.
func TestHeadMemory(t *testing.T) {
	m := newMemory(1 << 20)
	header := strings.Repeat("a:\r\n", 50_000)
	h, err := readHead(strings.NewReader(header+"\r\nbody"), 1<<20, m.take)
	if err != nil {
		t.Fatal(err)
	}
	if n := m.taken.Load(); n < int64(len(header)-64<<10) || n > 1<<20 {
		t.Errorf("%d bytes taken for a header of %d", n, len(header))
	}
	if _, err := readHead(strings.NewReader(strings.Repeat(header, 4)+"\r\nbody"), 1<<20, m.take); reasonOf(err) != "memory" {
		t.Errorf("error %v, want memory", err)
	}
	h.pass()
	if whole, err := io.ReadAll(h); err != nil || string(whole) != header+"\r\nbody" {
		t.Errorf("%d bytes came back as %d, %v", len(header)+len("\r\nbody"), len(whole), err)
	}
	h.free()
	if n := m.taken.Load(); n < int64(len(header)-64<<10) {
		t.Errorf("%d bytes are taken for a header of %d after all was read", n, len(header))
	}
}

// What a message takes is counted as often as it is held, for each kind that is held
// in more than one place.
func TestMemoryOfCopies(t *testing.T) {
	long := strings.Repeat("X-A: "+strings.Repeat("x", 900)+"\r\n", 250)
	for _, tt := range []struct {
		what, header, to string
		least            int64 // bytes
	}{
		{"clear", "", "b@clear.example", messageMemory + 150<<10},
		{"encrypted", "", "b@b.example", messageMemory + 3*150<<10},
		{"opportunistic", "", "b@maybe.example", messageMemory + 4*150<<10},
		{"looks encrypted", "Qkdmail-Key-ID: x\r\n", "b@b.example", messageMemory + 5*150<<10},
	} {
		hop := startHop(t)
		r := startRelay(t, DirectionEncrypt, hop.addr())
		c := connect(t, r)
		c.want("250", c.cmd("MAIL FROM:<x@x.example>"))
		c.want("250", c.cmd("RCPT TO:<"+tt.to+">"))
		c.want("354", c.cmd("DATA"))
		c.send("From: x@x.example\r\n" + tt.header + long + "\r\nbody\r\n")
		taken := int64(0)
		for end := time.Now().Add(patience); taken < tt.least && time.Now().Before(end); taken = r.memory.taken.Load() {
			time.Sleep(time.Millisecond)
		}
		if taken < tt.least {
			t.Errorf("%s: %d bytes are taken for a header of %d, want %d at least", tt.what, taken, len(long), tt.least)
		}
		c.send(".\r\n")
		c.want("250", c.reply())
	}
}

// The IDs of the keys of a long pad are counted.
func TestMemoryOfKeys(t *testing.T) {
	hop := startHop(t)
	km := &scarceKM{testKM: newTestKM(), left: 4 << 20, limits: kmclient.Status{KeySize: 256, MaxKeySize: 256, MinKeySize: 256, MaxKeyPerRequest: 128}}
	r := startRelayBehind(t, km.testKM, km, DirectionEncrypt, hop.addr(), func(c *Config) { c.Limits.Memory = 8 << 20 })
	c := connect(t, r)
	c.mail(testMessage+strings.Repeat("0123456789\r\n", 60_000), "x@x.example", "b@pad.example")
	if log := r.log.String(); !strings.Contains(log, "code=421 reason=memory") {
		t.Errorf("a pad of 45,000 keys was not refused for its memory: %s", log)
	}
}
