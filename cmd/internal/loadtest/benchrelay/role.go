package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime/debug"
	"runtime/pprof"
	"strings"
	"sync"
	"time"

	"github.com/qkdmail/qkdmail/cipher"
	"github.com/qkdmail/qkdmail/cmd/internal/smtpkit"
	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/keypool"
	"github.com/qkdmail/qkdmail/kmclient/keystore"
	"github.com/qkdmail/qkdmail/kmclient/keystore/postgres"
	"github.com/qkdmail/qkdmail/kmclient/keystore/sqlite"
	"github.com/qkdmail/qkdmail/kmclient/open"
	"github.com/qkdmail/qkdmail/mailer"
	"github.com/qkdmail/qkdmail/mailer/relay"
	"github.com/qkdmail/qkdmail/mailer/relay/config"
)

// A role is what a process of this program is that relays.
type role struct {
	name    string // pass, encrypt or decrypt
	next    string
	km      string // HOST:PORT of an ETSI key manager; "": keys are derived
	certs   string
	store   string
	profile string
}

// serve relays until standard input ends. Each line from there is answered with
// the figures so far.
func (r *role) serve(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if r.profile != "" {
		f, err := os.Create(r.profile)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	sum := new(figures)
	go func() {
		defer cancel()
		for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
			_ = json.NewEncoder(os.Stdout).Encode(sum.read())
		}
	}()
	if r.name == "pass" {
		return r.pass(ctx)
	}
	return r.relay(ctx, sum)
}

func (r *role) pass(ctx context.Context) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := smtpkit.PassThrough(r.next)
	go func() {
		<-ctx.Done()
		_ = server.Close()
	}()
	fmt.Println(l.Addr())
	return server.Serve(l)
}

func (r *role) relay(ctx context.Context, sum *figures) error {
	debug.SetGCPercent(400) // as qkdmail relay
	own, peer := "SAE_A", "SAE_B"
	if r.name == string(mailer.DirectionDecrypt) {
		own, peer = peer, own
	}
	o := config.QuickOptions{Direction: mailer.Direction(r.name), Listen: "127.0.0.1:0", NextHop: r.next, KM: config.KM{URL: "mock:unused"}}
	if r.km != "" {
		o.KM.SAE, o.Peer = own, peer
	}
	cfg, err := config.Quick(o)
	if err != nil {
		return err
	}
	cfg.Timeouts.Shutdown = time.Second
	for i := range cfg.Rules {
		cfg.Rules[i].Suite = string(cipher.SuiteAES256GCM)
	}
	keys, end, err := r.keys(ctx, own)
	if err != nil {
		return err
	}
	defer end()
	// A line a message is logged, to nowhere.
	relay, err := relay.New(cfg, keys, slog.New(slog.NewTextHandler(io.Discard, nil)))
	if err != nil {
		return err
	}
	relay.Observe(sum)
	if err := relay.Listen(ctx); err != nil {
		return err
	}
	fmt.Println(relay.Addrs()[0])
	return relay.Serve(ctx)
}

// keys is the key manager of a role, as "qkdmail relay" has it: a pool before a
// store before a client.
func (r *role) keys(ctx context.Context, sae string) (keys relay.Keys, end func(), err error) {
	if r.km == "" {
		return relay.WithoutStore(new(smtpkit.Keys)), func() {}, nil
	}
	client, err := openETSI(r.km, r.certs, sae)
	if err != nil {
		return keys, nil, err
	}
	km, end := client, func() {}
	keys = relay.WithoutStore(km)
	if r.store != "" {
		store, err := r.openStore(ctx, km, sae)
		if err != nil {
			return keys, nil, err
		}
		keys = relay.Keys{Source: store, Finder: store, Binder: store, Deliveries: store, Claims: store}
		km, end = store, func() {
			_ = store.Close(context.Background())
		}
	}
	if r.name == string(mailer.DirectionEncrypt) {
		pool, err := keypool.New(km, keypool.Options{})
		if err != nil {
			return keys, nil, err
		}
		keys.Source = pool
		return keys, func() { _ = pool.Close(context.Background()); end() }, nil
	}
	return keys, end, nil
}

// openETSI is a client of a key manager, with the certificate of an SAE.
func openETSI(address, certs, sae string) (kmclient.KeyManager, error) {
	base := filepath.Join(certs, strings.ToLower(sae))
	return open.KeyManager("etsi014:https://"+address, open.Options{
		CAFile: filepath.Join(certs, "ca.crt"), CertFile: base + ".crt", KeyFile: base + ".key", SAE: sae,
	})
}

func (r *role) openStore(ctx context.Context, km kmclient.KeyManager, sae string) (*keystore.Store, error) {
	o := keystore.Options{Key: keystore.Keys(keystore.NewStoreKey()), SAE: sae, SweepEvery: -1}
	var err error
	if strings.HasPrefix(r.store, "postgres://") {
		o.Engine, err = postgres.Open(ctx, postgres.Options{URL: r.store})
	} else {
		o.Engine, err = sqlite.Open(ctx, r.store, sqlite.Options{})
	}
	if err != nil {
		return nil, err
	}
	return keystore.Open(ctx, km, o)
}

// figures add up what a relay reports of its messages.
type figures struct {
	mu sync.Mutex
	totals
}

// totals are the sums over all messages.
type totals struct {
	Messages int           `json:"messages"`
	Other    int           `json:"other"` // of them, not encrypted or decrypted
	Total    time.Duration `json:"total"`
	Keys     time.Duration `json:"keys"` // of it, for the key manager and the store
	Hop      time.Duration `json:"hop"`  // of it, for the next hop's answer
}

// Message takes a report.
func (f *figures) Message(r mailer.Report) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.Messages++
	if r.Outcome != mailer.OutcomeEncrypted && r.Outcome != mailer.OutcomeDecrypted {
		f.Other++
	}
	f.Total += r.Total
	f.Keys += r.KeyWait
	f.Hop += r.HopWait
}

func (f *figures) read() totals {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.totals
}
