package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	"github.com/qkdmail/qkdmail/cipher"
	"github.com/qkdmail/qkdmail/cmd/internal/kmsim"
	"github.com/qkdmail/qkdmail/cmd/internal/smtpkit"
	"github.com/qkdmail/qkdmail/kmclient/etsi014"
	"github.com/qkdmail/qkdmail/kmclient/keypool"
	"github.com/qkdmail/qkdmail/kmclient/keystore"
	"github.com/qkdmail/qkdmail/kmclient/keystore/sqlite"
	"github.com/qkdmail/qkdmail/mailer"
	"github.com/qkdmail/qkdmail/mailer/relay"
	"github.com/qkdmail/qkdmail/mailer/relay/config"
)

// relayEnv has the settings of a relay, as JSON, if this process is one.
const relayEnv = "QKDMAIL_BENCHMARK_RELAY"

// Settings are the settings of a relay.
type settings struct {
	Direction mailer.Direction // "": the bare pass-through
	NextHop   string
	SAE, Peer string // "": keys are derived, and cost nothing
	KM        string // HOST:PORT of the KME of SAE
	Certs     kmsim.Certs
	Hybrid    bool // with the X-Wing key Key
	Key       hybridKey
	Store     bool // keys are kept in SQLite, beside the certificates
}

// serveRelay prints an address and relays the mail that arrives there, until
// standard input ends.
func serveRelay(ctx context.Context, text string) error {
	var s settings
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	if s.Direction == "" {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		server := smtpkit.PassThrough(s.NextHop)
		context.AfterFunc(ctx, func() { _ = server.Close() })
		fmt.Println(l.Addr())
		return server.Serve(l)
	}
	debug.SetGCPercent(400) // as qkdmail relay
	keys, end, err := s.keys(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = end(context.WithoutCancel(ctx)) }()
	o := config.QuickOptions{Direction: s.Direction, NextHop: s.NextHop, KM: config.KM{SAE: s.SAE}, Peer: s.Peer}
	// 	// It logs a line for each message, and the lines are discarded.
	r, err := smtpkit.NewRelay(o, keys, slog.New(slog.NewTextHandler(io.Discard, nil)), func(cfg *config.Config) {
		cfg.Timeouts.Shutdown = time.Second
		switch {
		case !s.Hybrid:
		case s.Direction == mailer.DirectionEncrypt:
			cfg.Peers[0].HybridKey = s.Key.Public
		default:
			cfg.Site.HybridKeys = []string{s.Key.Private}
		}
	})
	if err == nil {
		err = r.Listen(ctx)
	}
	if err != nil {
		return err
	}
	fmt.Println(r.Addrs()[0])
	return r.Serve(ctx)
}

// keys returns a relay's keys, set up as in "qkdmail relay", and a function
// that closes them.
func (s settings) keys(ctx context.Context) (keys relay.Keys, end func(context.Context) error, err error) {
	if s.SAE == "" {
		return relay.WithoutStore(new(smtpkit.Keys)), func(context.Context) error { return nil }, nil
	}
	cert, key := s.Certs.Of(s.SAE)
	km, err := etsi014.New(etsi014.Options{URLs: []string{"https://" + s.KM}, SAE: s.SAE, CAFile: s.Certs.CA(), CertFile: cert, KeyFile: key})
	if err != nil {
		return keys, nil, err
	}
	if !s.Store {
		pool, err := keypool.New(km, keypool.Options{})
		return relay.Keys{Source: pool}, pool.Close, err
	}
	engine, err := sqlite.Open(ctx, filepath.Join(string(s.Certs), "store.db"), sqlite.Options{})
	if err != nil {
		return keys, nil, err
	}
	store, err := keystore.Open(ctx, km, keystore.Options{Engine: engine, Key: keystore.Keys(keystore.NewStoreKey()), SAE: s.SAE, SweepEvery: -1})
	return relay.Keys{Source: store, Finder: store, Binder: store, Deliveries: store, Claims: store}, store.Close, err
}

// A hybridKey is an X-Wing key in two files.
type hybridKey struct {
	Private, Public string
	public          *cipher.HybridPublicKey
}

func newHybridKey(b *bench) (k hybridKey, err error) {
	private, err := cipher.GenerateHybridKey()
	if err != nil {
		return k, err
	}
	k = hybridKey{b.file("x-wing.key"), b.file("x-wing.key.pub"), private.Public()}
	text, err := private.RevealPEM()
	if err != nil {
		return k, err
	}
	return k, errors.Join(os.WriteFile(k.Private, text, 0o600), os.WriteFile(k.Public, k.public.PEM(), 0o600))
}
