package sim

import (
	"context"
	"crypto/x509"
	"errors"
	"math"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/qkdmail/qkdmail/kmclient/keystore"
)

// This file has what operators do at a site.

// reload makes the site's relays read a changed configuration.
func (s *site) reload() {
	s.changed.Store(!s.changed.Load())
	for _, n := range s.nodes {
		n.reload()
	}
}

// upgrade stands for the installation of a program that knows X-Wing: the site's relays
// restart, one after the other, with a key that opens what is sealed for it. Then the other
// sites get the public key.
func (s *site) upgrade(pause time.Duration) {
	s.hybrid.Store(true)
	for _, n := range s.nodes {
		n.hold()
		time.Sleep(pause)
		n.release()
	}
	s.announced.Store(true)
	for _, other := range s.world.sites {
		if other != s {
			other.reload()
		}
	}
	now := time.Now()
	s.known.Store(&now)
}

// rotate changes the store key, as an operator does with qkdmail store rotate. The program
// may be killed, and is started again until it succeeds. Then the old keys are thrown
// away, unless a backup may need them.
func (s *site) rotate(event int) {
	s.rotating <- struct{}{}
	defer func() { <-s.rotating }()
	key := keystore.NewStoreKey()
	s.world.mu.Lock()
	s.keys = append(s.keys, key)
	s.world.mu.Unlock()
	steps := s.world.dice.about("rotate", event).IntN(80)
	for {
		err := s.rotateTo(key, steps)
		if err == nil {
			break
		}
		s.world.tracef("the store key of site %s can't be changed yet: %v", s.name, err)
		time.Sleep(time.Minute)
		steps = math.MaxInt
	}
	s.world.mu.Lock()
	if s.backups == 0 {
		s.keys = []keystore.StoreKey{key}
	}
	s.world.mu.Unlock()
	s.verify()
}

// rotateTo changes the store key, in a process that is killed after some steps.
func (s *site) rotateTo(key keystore.StoreKey, steps int) error {
	var made atomic.Int64
	isDead := func() bool { return made.Load() > int64(steps) }
	ctx := context.Background()
	store, err := s.open(ctx, func(op string, do func() error) error {
		made.Add(1)
		return s.disk(s.name+"-operator", op, isDead, do)
	})
	if err != nil {
		return err
	}
	return errors.Join(store.Rotate(ctx, key), store.Close(ctx))
}

// open opens the store as programs of the operator do.
func (s *site) open(ctx context.Context, around func(string, func() error) error) (*keystore.Store, error) {
	engine, err := s.engine(ctx, around)
	if err != nil {
		return nil, err
	}
	return keystore.Open(ctx, nil, keystore.Options{Engine: engine, Key: s.storeKeys, SAE: s.sae, KM: "kme", SweepEvery: -1})
}

// verify checks that the store's keys open all of its records, as qkdmail store verify
// does.
func (s *site) verify() {
	ctx := context.Background()
	store, err := s.open(ctx, nil)
	if err != nil {
		s.world.violate("records", "the store of site %s can't be opened: %v", s.name, err)
		return
	}
	switch r, err := store.Check(ctx); {
	case err != nil:
		s.world.violate("records", "the store of site %s can't be read: %v", s.name, err)
	case r.Damaged > 0 || r.Engine != nil:
		s.world.violate("records", "%d records of site %s are damaged: %v, %v", r.Damaged, s.name, r.Damages, r.Engine)
	}
	_ = store.Close(ctx)
}

// restore makes a backup of the store, and puts it in the store's place after a while:
// what happened in between is forgotten.
func (s *site) restore(after time.Duration) {
	s.rotating <- struct{}{} // a backup that was made amid a change could not be changed again
	backup, since := s.records.Load().Copy(), time.Now()
	s.countBackups(1)
	<-s.rotating
	time.Sleep(after)
	s.rotating <- struct{}{}
	defer func() { <-s.rotating }()
	for _, n := range s.nodes {
		n.hold()
	}
	s.records.Store(backup)
	s.world.ledger.setBack(s, since)
	s.countBackups(-1)
	for _, n := range s.nodes {
		n.release()
	}
}

func (s *site) countBackups(more int) {
	s.world.mu.Lock()
	defer s.world.mu.Unlock()
	s.backups += more
}

// hasBackups reports whether a backup of the store may yet take its place.
func (s *site) hasBackups() bool {
	s.world.mu.Lock()
	defer s.world.mu.Unlock()
	return s.backups > 0
}

// certificate returns the path of the site's client certificate, without ".crt" and
// ".key".
func (s *site) certificate() string { return filepath.Join(s.world.dir, s.sae) }

// renew replaces the client certificate by the site's other one; relays are not told.
func (s *site) renew() {
	s.world.mu.Lock()
	next := s.sae + renewed
	if s.cert == next {
		next = s.sae
	}
	s.renewedAt = time.Now()
	s.world.mu.Unlock()
	s.install(next)
}

// install makes a certificate the site's own, for relays and the KME.
func (s *site) install(name string) {
	if err := s.world.pki.copyCert(name, s.certificate()); err != nil {
		panic(err)
	}
	s.world.mu.Lock()
	defer s.world.mu.Unlock()
	s.cert = name
}

// overlap is how long after a renewal a KME still takes the certificate before it.
const overlap = 10 * time.Minute

// admits reports whether the site's KME takes a client certificate.
func (s *site) admits(c *x509.Certificate) bool {
	s.world.mu.Lock()
	defer s.world.mu.Unlock()
	return c.Subject.CommonName == s.sae && (time.Since(s.renewedAt) < overlap || c.Equal(s.world.pki.certs[s.cert]))
}
