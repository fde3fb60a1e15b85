package sqlite_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/keystore"
	"github.com/qkdmail/qkdmail/kmclient/keystore/internal/storetest"
)

// A patient is a store that is damaged again and again.
type patient struct {
	*testing.T
	path       string
	whole, log []byte   // the file and its write-ahead log, as a crash leaves them
	closed     []byte   // the file, as Close leaves it
	keys       []string // stored
	delivered  []string // those of them whose message was delivered
	claimed    []string
}

// newPatient returns a patient with a few hundred records, as after a crash: the newest
// are in the log.
func newPatient(t *testing.T) *patient {
	p := &patient{T: t, path: dbPath(t)}
	km := &storetest.Link{Fresh: uuid.NewString}
	store, e := newStore(t, p.path, km)
	receive := func(n int) {
		for range n {
			ids := []string{uuid.NewString(), uuid.NewString()}
			if _, err := store.KeysByID(t.Context(), "A", ids...); err != nil {
				t.Fatal(err)
			}
			if err := store.BindKeys(t.Context(), "A", storetest.Identity(ids[0]), 0, ids...); err != nil {
				t.Fatal(err)
			}
			if err := store.RecordDelivered(t.Context(), "A", storetest.Identity(ids[0]), ids[0], "a@x"); err != nil {
				t.Fatal(err)
			}
			p.keys, p.delivered = append(p.keys, ids...), append(p.delivered, ids[0])
		}
	}
	receive(60)
	sent, err := store.GetKeys(t.Context(), "A", 256, 100)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range sent {
		p.claimed = append(p.claimed, k.ID())
	}
	if err := e.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	receive(10)
	all := files(t, p.path)
	p.whole, p.log = all["keys.db"], all["keys.db-wal"]
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	p.closed = files(t, p.path)["keys.db"]
	return p
}

// put writes the files.
func (p *patient) put(file, log []byte) {
	p.Helper()
	for _, end := range []string{"-wal", "-shm"} {
		_ = os.Remove(p.path + end)
	}
	err := os.WriteFile(p.path, file, 0o600)
	if err == nil && log != nil {
		err = os.WriteFile(p.path+"-wal", log, 0o600)
	}
	if err != nil {
		p.Fatal(err)
	}
}

// examine uses the store, and wants only temporary errors and right results. It returns
// how many keys could not be read.
func (p *patient) examine(what string) (missing int) {
	p.Helper()
	km := &storetest.Link{Keeps: true, Gone: func(string) bool { return true }}
	store, e, err := open(p.path, km, nil)
	if err != nil {
		p.judge(what, err)
		return len(p.keys)
	}
	defer func() { _ = e.Close() }()
	unseen := 0 // keys about which nothing is known any more
	for _, id := range p.keys {
		keys, err := store.KeysByID(p.Context(), "A", id)
		switch {
		case err == nil && !bytes.Equal(keys[0].Reveal(), storetest.KeyBytes(id)):
			p.Errorf("%s: %s is a different key", what, id)
		case errors.Is(err, kmclient.ErrKeyNotFound), errors.Is(err, keystore.ErrClaimed): // the claim may outlive a lost record
			unseen++
		case err != nil:
			p.judge(what, err)
			missing++
		}
	}
	for _, id := range p.delivered {
		if err := store.BindKeys(p.Context(), "A", storetest.Identity("another"), 0, id); !errors.Is(err, keystore.ErrBound) && !errors.Is(err, kmclient.ErrKeyNotFound) {
			p.judge(what, err)
		}
		if _, err := store.Delivered(p.Context(), "A", storetest.Identity(id), id, "a@x"); err != nil {
			p.judge(what, err)
		}
	}
	if err := store.Sweep(p.Context()); err != nil {
		p.judge(what, err)
	}
	for info, err := range store.List(p.Context()) {
		if err != nil {
			p.judge(what, fmt.Errorf("%s: %w", info.ID, err))
		}
	}
	if unseen > 0 && e.Check(p.Context()) == nil {
		p.Errorf("%s: %d keys are gone, and a check finds nothing wrong", what, unseen)
	}
	return missing + unseen
}

// judge wants a temporary refusal that says what to do.
func (p *patient) judge(what string, err error) {
	p.Helper()
	if err == nil {
		p.Errorf("%s: no error, but the store can't have been sound", what)
		return
	}
	e, ok := errors.AsType[*kmclient.Error](err)
	store := errors.Is(err, kmclient.ErrStore) || errors.Is(err, keystore.ErrStoreKey) // ErrStoreKey looks the same
	if !store || ok && !e.Retry || !strings.Contains(err.Error(), "backup") {
		p.Errorf("%s: got %v, want a temporary ErrStore that says what to do", what, err)
	}
}

// Whatever happens to the file, there is a temporary error or the right key, never
// another key or a panic. Once a backup replaces it, everything is there.
func TestDamagedFile(t *testing.T) {
	p := newPatient(t)
	random := rand.New(rand.NewPCG(1, 2))
	type damage struct {
		name string
		do   func(file []byte) []byte
		all  bool // no key can be read
	}
	damages := []damage{
		{"empty", func([]byte) []byte { return nil }, true},
		{"another file", func([]byte) []byte { return []byte("#!/bin/sh\n# not a database\nexit 1\n") }, true},
		{"beginning lost", func(f []byte) []byte { clear(f[:512]); return f }, true},
		{"schema lost", func(f []byte) []byte { clear(f[100:4096]); return f }, true},
		{"cut within its head", func(f []byte) []byte { return f[:50] }, true},
		{"cut after a page", func(f []byte) []byte { return f[:4096] }, true},
		{"cut in half", func(f []byte) []byte { return f[:len(f)/2] }, false},
		{"cut within a page", func(f []byte) []byte { return f[:len(f)-1000] }, false},
	}
	for page := 4096; page+4096 <= len(p.whole); page += 4096 {
		damages = append(damages, damage{fmt.Sprintf("page %d zeroed", page/4096), func(f []byte) []byte { clear(f[page : page+4096]); return f }, false})
	}
	for range 40 {
		n := 1 << random.IntN(7)
		damages = append(damages, damage{fmt.Sprintf("%d bytes changed", n), func(f []byte) []byte {
			for range n {
				f[100+random.IntN(len(f)-100)] ^= byte(1 + random.IntN(255))
			}
			return f
		}, false})
	}
	hit := 0
	for _, d := range damages {
		p.put(d.do(bytes.Clone(p.closed)), nil)
		missing := p.examine(d.name)
		if d.all && missing != len(p.keys) {
			t.Errorf("%s: opened, with all but %d keys", d.name, missing)
		}
		if missing > 0 {
			hit++
		}
		p.put(d.do(bytes.Clone(p.whole)), p.log) // this may repair it
		p.examine(d.name + ", with a log")
	}
	t.Logf("%d kinds of damage, %d of which made keys unreadable", len(damages), hit)
	if hit < len(damages)/4 {
		t.Error("too little was damaged: this proves nothing")
	}
	p.put(p.closed, nil)
	p.allThere()
	p.put(p.whole, p.log)
	p.allThere()
}

// allThere checks that the store knows everything that it knew.
func (p *patient) allThere() {
	p.Helper()
	if missing := p.examine("healthy again"); missing > 0 {
		p.Errorf("%d keys are lost", missing)
	}
	n := 0
	store, e := newStore(p.T, p.path, &storetest.Link{Fresh: func() string { n++; return p.claimed[n-1] }})
	for range p.claimed {
		if _, err := store.GetKeys(p.Context(), "A", 256, 1); !errors.Is(err, keystore.ErrReused) {
			p.Errorf("a claim is forgotten: %v", err)
		}
	}
	for _, id := range p.delivered {
		if has, err := store.Delivered(p.Context(), "A", storetest.Identity(id), id, "a@x"); err != nil || !has[0] {
			p.Errorf("a delivery is forgotten: %v, %v", has, err)
		}
	}
	if err := errors.Join(e.Check(p.Context()), e.Close()); err != nil {
		p.Error(err)
	}
}

// Damage in the write-ahead log, which SQLite itself takes for the end of the log, is
// refused: otherwise the newest keys would silently disappear.
func TestDamagedLog(t *testing.T) {
	p := newPatient(t)
	for _, at := range []int{20, 40, len(p.log) / 4, len(p.log) / 2} {
		log := bytes.Clone(p.log)
		log[at] ^= 1
		p.put(p.whole, log)
		if missing := p.examine(fmt.Sprintf("byte %d of the log", at)); missing != len(p.keys) {
			t.Errorf("byte %d of the log: opened, without %d keys", at, missing)
		}
	}
	p.put(p.whole, p.log)
	if err := os.WriteFile(p.path+"-shm", bytes.Repeat([]byte("rubbish "), 4096), 0o600); err != nil { // it is made again
		t.Fatal(err)
	}
	p.allThere()
}

// The file is damaged while the store is open.
func TestDamagedWhileOpen(t *testing.T) {
	p := newPatient(t)
	p.put(p.whole, p.log)
	p.allThere()
	store, e := newStore(t, p.path, &storetest.Link{Keeps: true, Fresh: uuid.NewString})
	f, err := os.OpenFile(p.path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	for page := 3; page < len(p.whole)/4096; page += 2 {
		if _, err := f.WriteAt(bytes.Repeat([]byte{0xA5}, 4096), int64(page)*4096); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	failed := 0
	for _, id := range append(p.keys, uuid.NewString(), uuid.NewString()) {
		keys, err := store.KeysByID(t.Context(), "A", id)
		if err != nil {
			p.judge("open", err)
			failed++
		} else if !bytes.Equal(keys[0].Reveal(), storetest.KeyBytes(id)) {
			t.Errorf("%s is a different key", id)
		}
	}
	if failed == 0 {
		t.Error("nothing was damaged")
	}
	if err := e.Check(t.Context()); !errors.Is(err, kmclient.ErrStore) {
		t.Errorf("check: %v", err)
	}
}
