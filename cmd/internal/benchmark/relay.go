package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/qkdmail/qkdmail/cipher"
	"github.com/qkdmail/qkdmail/cmd/internal/kmsim"
	"github.com/qkdmail/qkdmail/cmd/internal/smtpkit"
	"github.com/qkdmail/qkdmail/mailer"
)

// Names of the relays, and of the hops that take their place.
const (
	namePass    = "bare go-smtp pass-through"
	nameEncrypt = "qkdmail, encrypt"
	nameDecrypt = "qkdmail, decrypt"
	nameXWing   = "qkdmail, encrypt, X-Wing"
	nameXUnwrap = "qkdmail, decrypt, X-Wing"
	nameETSI    = "qkdmail, encrypt, ETSI 014"
	nameStore   = "qkdmail, decrypt, ETSI 014, SQLite"
	nameNone    = "none: source → sink"
	namePostfix = "Postfix, with its queue"
)

// The ways in which mail comes: over connections that are kept, one command after
// the other; with a connection for each message; and over connections that are
// kept, with MAIL, RCPT and DATA in one piece.
const (
	wayKept      = "kept"
	wayNew       = "new"
	wayPipelined = "pipelined"
)

var ways = []string{wayKept, wayNew, wayPipelined}

var relaySizes = []int{4 * kilo, 50 * kilo}

const sessions = 20 // at the same time

// A hop is what the source sends messages to, and what passes them on to the
// sink.
type hop struct {
	name    string
	part    float64   // how many messages it gets, as a share of what the others get
	relay   *settings // nil: it is not one of our relays
	net     *network
	address string
	pid     int // of the relay
}

// A network is what the hops share, all of it in this process.
type network struct {
	sink     string       // address
	taken    atomic.Int64 // messages at the sink
	sealed   atomic.Int64 // of them, those that are encrypted
	certs    kmsim.Certs
	hybrid   hybridKey
	kme      map[string]string // HOST:PORT of the KME, by SAE
	requests atomic.Int64      // to them
}

// hops returns all contenders; the first is the baseline.
func hops(n *network) []*hop {
	encrypt, decrypt := mailer.DirectionEncrypt, mailer.DirectionDecrypt
	return []*hop{
		{net: n, name: namePass, part: 1, relay: &settings{}},
		{net: n, name: nameEncrypt, part: 1, relay: &settings{Direction: encrypt}},
		{net: n, name: nameDecrypt, part: 1, relay: &settings{Direction: decrypt}},
		{net: n, name: nameXWing, part: 1, relay: &settings{Direction: encrypt, Hybrid: true}},
		{net: n, name: nameXUnwrap, part: 1, relay: &settings{Direction: decrypt, Hybrid: true}},
		{net: n, name: nameETSI, part: 1, relay: &settings{Direction: encrypt, SAE: "SAE_A", Peer: "SAE_B"}},
		{net: n, name: nameStore, part: 0.25, relay: &settings{Direction: decrypt, SAE: "SAE_B", Peer: "SAE_A", Store: true}},
		{net: n, name: nameNone, part: 1},
		{net: n, name: namePostfix, part: 0.1},
	}
}

// measureRelays sends messages through all hops.
func (b *bench) measureRelays(ctx context.Context) error {
	n := &network{}
	if err := n.start(ctx, b); err != nil {
		return err
	}
	all := prepared(ctx, b, hops(n))
	for _, way := range ways {
		for _, size := range relaySizes {
			messages := 4000.0
			if size > 10*kilo {
				messages = 2000
			}
			if b.quick {
				messages = 60
			}
			if err := inTurns(b.rounds, all, func(h *hop, warmUp bool) error {
				s, err := h.measure(ctx, way, size, max(1, int(h.part*messages)))
				if warmUp {
					s = sample{}
				}
				b.add(h.name, way, size, s)
				return err
			}); err != nil {
				return err
			}
		}
	}
	return nil
}

// start starts the sink and the key managers.
func (n *network) start(ctx context.Context, b *bench) error {
	n.certs = kmsim.Certs(b.file("certs"))
	if _, err := n.certs.Make(kmsim.CertOptions{}); err != nil {
		return err
	}
	var err error
	if n.hybrid, err = newHybridKey(b); err != nil {
		return err
	}
	etsi, err := kmsim.NewETSI(kmsim.TwoSites(), kmsim.Options{Observe: func(kmsim.Request) { n.requests.Add(1) }})
	if err != nil {
		return err
	}
	n.kme = map[string]string{}
	for sae, kme := range map[string]string{"SAE_A": "KME_A", "SAE_B": "KME_B"} {
		handler, err := etsi.Handler(kme)
		if err != nil {
			return err
		}
		config, err := n.certs.ServerTLS(kme)
		if err != nil {
			return err
		}
		if n.kme[sae], err = b.serve(ctx, handler, config); err != nil {
			return err
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	b.atEnd = append(b.atEnd, func() { _ = l.Close() })
	n.sink = l.Addr().String()
	sink := smtpkit.Sink{Take: func(message io.Reader) {
		var head [512]byte
		read, _ := io.ReadFull(message, head[:])
		_, _ = io.Copy(io.Discard, message)
		if bytes.Contains(head[:read], []byte("Qkdmail-Key-ID: ")) {
			n.sealed.Add(1)
		}
		n.taken.Add(1)
	}}
	go sink.Serve(l)
	return nil
}

func (h *hop) label() string { return h.name }

// prepare starts the hop.
func (h *hop) prepare(ctx context.Context, b *bench) error {
	switch {
	case h.relay != nil:
		return h.startRelay(ctx, b)
	case h.name == namePostfix:
		return h.startPostfix(ctx, b)
	}
	h.address = h.net.sink
	return nil
}

// startRelay starts this program as a relay.
func (h *hop) startRelay(ctx context.Context, b *bench) error {
	s := *h.relay
	s.NextHop, s.KM, s.Certs = h.net.sink, h.net.kme[s.SAE], h.net.certs
	s.Key = h.net.hybrid
	text, err := json.Marshal(s)
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, self)
	cmd.Env = append(os.Environ(), relayEnv+"="+string(text))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	b.atEnd = append(b.atEnd, func() { _ = errors.Join(in.Close(), cmd.Wait()) })
	line, err := bufio.NewReader(out).ReadString('\n')
	h.address, h.pid = strings.TrimSpace(line), cmd.Process.Pid
	return err
}

// measure sends messages through the hop.
func (h *hop) measure(ctx context.Context, way string, size, messages int) (sample, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	mail, err := h.messages(ctx, size, messages)
	if err != nil {
		return nil, err
	}
	requests, taken, sealed, cpu, begin := h.net.requests.Load(), h.net.taken.Load(), h.net.sealed.Load(), cpuTime(h.pid), time.Now()
	if err := send(ctx, h.address, way, mail); err != nil {
		return nil, err
	}
	for h.net.taken.Load() < taken+int64(messages) { // Postfix has a queue
		if time.Sleep(time.Millisecond); ctx.Err() != nil {
			return nil, errors.New("not all messages arrived")
		}
	}
	took, n := time.Since(begin), float64(messages)
	want := int64(0)
	if h.relay != nil && h.relay.Direction == mailer.DirectionEncrypt {
		want = int64(messages)
	}
	if got := h.net.sealed.Load() - sealed; got != want {
		return nil, fmt.Errorf("%d messages arrived encrypted, want %d", got, want)
	}
	return sample{
		figRate: n / took.Seconds(), figCPU: us(cpuTime(h.pid)-cpu) / n, figRequests: float64(h.net.requests.Load()-requests) / n,
	}, nil
}

// cpuTime returns the processor time that a process has used so far, to the
// hundredth of a second; 0 if it is not known.
func cpuTime(pid int) time.Duration {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, after, ok := bytes.Cut(stat, []byte(") "))
	fields := strings.Fields(string(after))
	if err != nil || !ok || len(fields) < 13 {
		return 0
	}
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return time.Duration(user+system) * 10 * time.Millisecond // proc_pid_stat(5)
}

// messages makes the messages that the hop gets. A store accepts a key for one
// message only, so a relay with a store gets messages with a key each; for the
// others all are the same.
func (h *hop) messages(ctx context.Context, size, n int) ([][]byte, error) {
	plain := smtpkit.Message(size)
	if h.relay == nil || h.relay.Direction != mailer.DirectionDecrypt {
		return slices.Repeat([][]byte{plain}, n), nil
	}
	o := cipher.EncryptOptions{Suite: cipher.SuiteAES256GCM, SAE: h.relay.Peer, Peer: h.relay.SAE}
	if h.relay.Hybrid {
		o.Hybrid = h.net.hybrid.public
	}
	keys, end, err := settings{Certs: h.net.certs, SAE: o.SAE, KM: h.net.kme[o.SAE]}.keys(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { _ = end(ctx) }()
	all := make([][]byte, n)
	for i := range all {
		if i > 0 && !h.relay.Store {
			all[i] = all[0]
		} else if all[i], err = smtpkit.Encrypt(ctx, keys.Source, plain, o); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// send sends messages over several connections at the same time.
func send(ctx context.Context, address, way string, messages [][]byte) error {
	send := map[string]func(*smtpkit.Client, string, string, io.WriterTo) error{
		wayKept: (*smtpkit.Client).Send, wayNew: (*smtpkit.Client).SendAndRedial, wayPipelined: (*smtpkit.Client).SendPipelined,
	}[way]
	var next atomic.Int64
	session := func() error {
		c, err := smtpkit.Dial(address, 2*time.Minute)
		if err != nil {
			return err
		}
		defer context.AfterFunc(ctx, func() { _ = c.Conn.Close() })()
		for i := next.Add(1) - 1; i < int64(len(messages)); i = next.Add(1) - 1 {
			if err := send(c, "alice@a.example", "bob@b.example", bytes.NewReader(messages[i])); err != nil {
				return err
			}
		}
		return c.Quit()
	}
	errs := make(chan error)
	for range sessions {
		go func() { errs <- session() }()
	}
	var all error
	for range sessions {
		all = errors.Join(all, <-errs)
	}
	return all
}
