// Package kmdoctor checks whether a KME follows the rules of ETSI GS QKD 014
// V1.1.1. It asks as an SAE would, and needs what an SAE needs: a client
// certificate, the KME's CA and the ID of a peer.
//
// [Run] makes the checks and [WriteTable] prints the results. Given the peer's KME
// and certificate, Run also follows keys to the other site.
//
// # What it costs
//
// A KME that follows the rules gives out 6 keys in a run. One that does not may
// give out more, since some requests are meant to be refused. A check that could
// take the run over [Options].MaxKeys is skipped. [Report].KeysUsed says how many
// keys were given out. Without the peer's certificate nobody fetches the keys at
// the other site, where they stay until the KME drops them.
//
// # Secrets
//
// Keys are compared and wiped. No report, log or error has key bytes, or the body
// of an answer that may have some. What a report quotes from a KME is short and
// printable.
package kmdoctor

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/etsi014"
)

const defaultTimeout = 10 * time.Second

// DefaultMaxKeys is [Options].MaxKeys where it is zero.
const DefaultMaxKeys = 32

// Options say which KME to check, and who asks.
type Options struct {
	URL  string // of the KME, https://HOST:PORT; the path to the API may follow
	SAE  string // own SAE ID; if empty, the one in the KME's status
	Peer string // SAE ID of a peer that shares keys with us

	CertFile, KeyFile string // client certificate and its private key, PEM
	CAFile            string // CAs to trust instead of the system's, PEM
	KMEID             string // ID that the KME's certificate must hold, as in etsi014.Options; may be empty

	// The peer's KME and certificate, to follow keys to the other site; all
	// may be empty. PeerCAFile is CAFile if empty.
	PeerURL, PeerCertFile, PeerKeyFile string
	PeerCAFile, PeerKMEID              string

	// MaxKeys is how many keys of the KME's default size a run may use up;
	// DefaultMaxKeys if zero. A KME that gives more keys than it was asked for can
	// exceed it by one answer.
	MaxKeys int

	Timeout time.Duration // of one request, connecting included; 10 seconds if zero
	Logger  *slog.Logger  // every request, at debug level; may be nil
}

// withPeer reports whether keys are followed to the other site.
func (o Options) withPeer() bool {
	return o.PeerURL != "" || o.PeerCertFile != "" || o.PeerKeyFile != ""
}

// Run makes the checks, one after the other. Whatever a KME does wrong is in the
// report, even if it can't be reached. An error means that the options make no
// sense, and is then a [kmclient.ErrConfig] without a report, or that ctx has
// ended, and the remaining checks were skipped.
func Run(ctx context.Context, o Options) (*Report, error) {
	d, err := newDoctor(o)
	if err != nil {
		return nil, err
	}
	defer d.close()
	for _, s := range steps() {
		d.run(ctx, s)
	}
	d.report.SAE, d.report.Times = printable(d.self()), d.times.report()
	if ctx.Err() != nil {
		return d.report, fmt.Errorf("checks of the KME: %w", context.Cause(ctx))
	}
	return d.report, nil
}

// A doctor is one run.
type doctor struct {
	o      Options
	own    *site
	peer   *site // nil: keys are not followed
	log    *slog.Logger
	report *Report

	hand      handshake // with own
	status    status    // of own, with the peer
	keys      []*key    // all that enc_keys gave out
	first     []*key    // by the default request
	posted    []*key    // by POST with number and size
	gotten    []*key    // by GET with number and size
	delivered []*key    // to the peer by POST
	answered  bool      // own has answered a request for its status with something other than a web page
	peerThere bool      // peer has too
	spent     int       // keys of the default size that were given out, or lost
	lost      []string  // checks that asked for keys and got no answer
	current   string    // the check that is made

	times        times // of good answers
	errorBodies  tally // of refusals
	contentTypes tally // of good answers
}

func newDoctor(o Options) (*doctor, error) {
	o.Timeout, o.MaxKeys = cmp.Or(o.Timeout, defaultTimeout), cmp.Or(o.MaxKeys, DefaultMaxKeys)
	o.PeerCAFile = cmp.Or(o.PeerCAFile, o.CAFile)
	if o.Timeout < 0 || o.MaxKeys < 0 {
		return nil, fmt.Errorf("%w: a time-out of %v, or at most %d keys", kmclient.ErrConfig, o.Timeout, o.MaxKeys)
	}
	for _, sae := range []string{o.Peer, cmp.Or(o.SAE, o.Peer)} {
		if _, err := etsi014.Path(sae, "status"); err != nil {
			return nil, fmt.Errorf("%w: %w", kmclient.ErrConfig, err)
		}
	}
	d := &doctor{o: o, log: o.Logger, report: &Report{KME: o.URL, Peer: o.Peer}}
	if d.log == nil {
		d.log = slog.New(slog.DiscardHandler)
	}
	var err error
	d.own, err = newSite(etsi014.Options{
		URLs: []string{o.URL}, CertFile: o.CertFile, KeyFile: o.KeyFile, CAFile: o.CAFile, KMEID: o.KMEID, Timeout: o.Timeout,
	})
	if err == nil && o.withPeer() {
		d.peer, err = newSite(etsi014.Options{
			URLs: []string{o.PeerURL}, CertFile: o.PeerCertFile, KeyFile: o.PeerKeyFile, CAFile: o.PeerCAFile, KMEID: o.PeerKMEID,
			Timeout: o.Timeout,
		})
		if err != nil {
			err = fmt.Errorf("peer: %w", err)
		}
	}
	return d, err
}

// close wipes the keys.
func (d *doctor) close() {
	for _, k := range d.keys {
		k.wipe()
	}
}

// self returns the SAE ID of the caller.
func (d *doctor) self() string { return cmp.Or(d.o.SAE, d.status.text["master_SAE_ID"]) }

// A step makes one check.
type step struct {
	id, rule string
	needs    []string // checks that must not have failed or been skipped
	oneOf    []string // at least one of these checks must have passed; may be empty
	peer     bool     // needs the peer's KME
	self     bool     // needs our SAE ID
	keys     bool     // needs a key that was given out
	run      func(*doctor, context.Context) verdict
}

// A verdict is what a step finds.
type verdict struct {
	result Result
	detail string
}

func pass(format string, args ...any) verdict { return verdict{Pass, fmt.Sprintf(format, args...)} }
func fail(format string, args ...any) verdict { return verdict{Fail, fmt.Sprintf(format, args...)} }
func warn(format string, args ...any) verdict { return verdict{Warn, fmt.Sprintf(format, args...)} }
func skip(format string, args ...any) verdict { return verdict{Skip, fmt.Sprintf(format, args...)} }

// run makes a check, if it can be made, and reports it.
func (d *doctor) run(ctx context.Context, s step) {
	before := d.report.KeysUsed
	d.current = s.id
	v := d.obstacle(ctx, s)
	if v.result == "" {
		v = s.run(d, ctx)
		if ctx.Err() != nil && v.result != Pass {
			v = skip("interrupted")
		}
	}
	d.report.Checks = append(d.report.Checks, Check{
		ID: s.id, Rule: s.rule, Result: v.result, Detail: printable(v.detail), Keys: d.report.KeysUsed - before,
	})
}

// obstacle returns why a check can't be made, or the zero verdict.
func (d *doctor) obstacle(ctx context.Context, s step) verdict {
	if ctx.Err() != nil {
		return skip("interrupted")
	}
	if s.peer && d.peer == nil {
		return skip("needs the peer's KME and certificate, which were not given")
	}
	if s.self && d.self() == "" {
		return skip("our SAE ID was not given, and the KME does not report it")
	}
	if s.keys && len(d.keys) == 0 {
		return skip("no key was given out")
	}
	for _, id := range s.needs {
		if !d.kept(id) {
			return d.needs(id)
		}
	}
	if len(s.oneOf) > 0 && !slices.ContainsFunc(s.oneOf, d.kept) {
		return d.needs(s.oneOf[0])
	}
	return verdict{}
}

// kept reports whether a check passed, with or without a warning.
func (d *doctor) kept(id string) bool {
	r := d.report.Check(id).Result
	return r == Pass || r == Warn
}

// needs returns the verdict on a check that can't be made because of another one.
func (d *doctor) needs(id string) verdict {
	if d.report.Check(id).Result == Fail {
		return skip("needs %s, which failed", id)
	}
	return skip("needs %s, which was skipped", id)
}
