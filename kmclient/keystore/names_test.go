package keystore_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"
	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/keystore"
)

// A peerKM is a KME whose IDs are not UUIDs: it gives each peer keys with the same IDs
// but different bytes. It gives a key once to decrypt with, and any number of times to
// encrypt with.
type peerKM struct {
	kmclient.KeyManager
	mu     sync.Mutex
	next   []string // IDs to encrypt with
	given  map[string]int
	closed []string
}

func (*peerKM) DeletesOnDelivery() bool { return true }

func (*peerKM) Status(context.Context, string) (kmclient.Status, error) {
	return kmclient.Status{}, nil
}

// bytesOf returns the bytes of a peer's key.
func bytesOf(peer, id string) []byte {
	sum := sha256.Sum256([]byte(peer + "\x00" + id))
	return sum[:]
}

func (p *peerKM) GetKeys(_ context.Context, peer string, _, number int) (keys []*kmclient.Key, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, id := range p.next[:number] {
		keys = append(keys, kmclient.NewKey(id, bytesOf(peer, id)))
	}
	return keys, nil
}

func (p *peerKM) KeysByID(_ context.Context, peer string, ids ...string) (keys []*kmclient.Key, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, id := range ids {
		if p.given[peer+"\x00"+id]++; p.given[peer+"\x00"+id] > 1 {
			return nil, &kmclient.Error{Op: "keys by ID", Err: kmclient.ErrKeyNotFound}
		}
		keys = append(keys, kmclient.NewKey(id, bytesOf(peer, id)))
	}
	return keys, nil
}

func (p *peerKM) CloseKey(_ context.Context, id string) error {
	p.closed = append(p.closed, id)
	return nil
}

// newPeerKit returns a kit in front of a peerKM.
func newPeerKit(t *testing.T) (*kit, *peerKM) {
	k := newKit(t, nil)
	km := &peerKM{given: map[string]int{}}
	k.Store = k.before(km, nil)
	return k, km
}

// from fetches keys for a peer and checks that they are the peer's.
func (k *kit) from(m *keystore.Store, peer string, ids ...string) {
	k.Helper()
	keys, err := m.KeysByID(k.Context(), peer, ids...)
	if err != nil {
		k.Fatalf("keys %q of peer %q: %v", ids, peer, err)
	}
	for i, key := range keys {
		if key.ID() != ids[i] || !bytes.Equal(key.Reveal(), bytesOf(peer, ids[i])) {
			k.Errorf("asked for key %s of peer %q, and got %s with different bytes", ids[i], peer, key.ID())
		}
	}
}

// Two peers use the same key ID, which is not a UUID: these are two keys, each with its
// own life.
func TestSameIDOfTwoPeers(t *testing.T) {
	for name, ids := range map[string][]string{
		"short": {"1", "2"}, "as of the mock": {"MOCK-KEY-00000001-20251012195642", "MOCK-KEY-00000002-20251012195642"},
		"as long as they may be": {strings.Repeat("k", 254) + "1", strings.Repeat("k", 254) + "2"},
		"that look like paths":   {"../1", "/%2F\"'"},
	} {
		t.Run(name, func(t *testing.T) {
			k, km := newPeerKit(t)
			long := strings.Repeat("p", kmclient.MaxIDLength)
			peers := []string{"A", "C", "", long}
			for _, peer := range peers {
				k.from(k.Store, peer, ids...)
			}
			m := k.before(km, nil) // as in another process
			for _, peer := range peers {
				k.from(m, peer, ids...)
				if err := m.BindKeys(t.Context(), peer, id("of "+peer), 0, ids...); err != nil {
					t.Errorf("peer %q: %v", peer, err)
				}
				k.want(m.BindKeys(t.Context(), peer, id("another"), 0, ids[0]), keystore.ErrBound, false)
			}
			if err := m.RecordDelivered(t.Context(), "A", id("of A"), ids[1], rcpt); err != nil {
				t.Error(err)
			}
			for peer, want := range map[string]bool{"A": true, "C": false} {
				if has, err := m.Delivered(t.Context(), peer, id("of "+peer), ids[0], rcpt); err != nil || has[0] != want {
					t.Errorf("delivered to a recipient of the message of %s: %v, error %v, want %v", peer, has, err, want)
				}
			}
			_, err := m.Delivered(t.Context(), "C", id("of A"), ids[0], rcpt)
			k.want(err, keystore.ErrBound, false)

			infos, err := m.Show(t.Context(), ids[0])
			seen := map[string]bool{}
			for _, info := range infos {
				key, err := m.Key(t.Context(), info)
				if err != nil || info.ID != ids[0] || !bytes.Equal(key.Reveal(), bytesOf(info.Peer, ids[0])) || info.Recipients > 0 != (info.Peer == "A") {
					t.Errorf("shown %+v, with error %v and a different key", info, err)
				}
				seen[info.Peer] = true
			}
			if err != nil || len(seen) != len(peers) || len(infos) != len(peers) {
				t.Errorf("%d keys are shown, of %d peers, error %v; want one of each", len(infos), len(seen), err)
			}
			if all, err := m.ListKeys(t.Context()); err != nil || len(all) != 2*len(peers) {
				t.Errorf("%d keys are listed (%v), want %d", len(all), err, 2*len(peers))
			}

			k.want(m.CloseKey(t.Context(), ids[0]), kmclient.ErrBadRequest, false)
			if err := m.CloseKeyFrom(t.Context(), "C", ids[0]); err != nil {
				t.Error(err)
			}
			_, err = m.KeysByID(t.Context(), "C", ids[0])
			k.want(err, keystore.ErrClosed, false)
			k.from(m, "A", ids...)
			r, err := k.Check(t.Context())
			if err != nil || r.Damaged != 0 || r.Claims != 2*len(peers) {
				t.Errorf("check: %+v, %v", r, err)
			}
		})
	}
}

// A key whose ID only one peer has can be closed by its ID.
func TestCloseOnlyKeyWithID(t *testing.T) {
	k, km := newPeerKit(t)
	k.from(k.Store, "A", "1")
	if err := k.CloseKey(t.Context(), "1"); err != nil {
		t.Error(err)
	}
	k.wantState("1", kmclient.StateClosed)
	if err := k.CloseKey(t.Context(), "2"); err != nil || len(km.closed) != 1 || km.closed[0] != "2" {
		t.Errorf("a key that is not here: %v, closed at the key manager: %q, want it to be", err, km.closed)
	}
}

// The same ID with another peer is another key; with the same peer it can be used only
// once.
func TestOneUseForEachPeer(t *testing.T) {
	k, km := newPeerKit(t)
	send := func(peer, id string) error {
		km.next = []string{id}
		_, err := k.GetKeys(t.Context(), peer, 256, 1)
		return err
	}
	k.from(k.Store, "A", "1")
	k.want(send("A", "1"), keystore.ErrReused, true)
	if err := send("C", "1"); err != nil {
		t.Errorf("the key of another peer: %v", err)
	}
	k.want(send("C", "1"), keystore.ErrReused, true)
	_, err := k.KeysByID(t.Context(), "C", "1")
	k.want(err, keystore.ErrClaimed, false)
	k.from(k.Store, "A", "1")
	if log := k.log.String(); strings.Count(log, "key_ids=[1]") != 3 {
		t.Errorf("the alarms do not have the ID as spelled: %s", log)
	}
}

// Two peers' keys with the same ID are fetched at the same time, and wait in memory for
// the store at the same time.
func TestSameIDAtTheSameTime(t *testing.T) {
	k, km := newPeerKit(t)
	var all sync.WaitGroup
	for _, peer := range []string{"A", "C", "A", "C"} {
		all.Go(func() { k.from(k.Store, peer, "1") })
	}
	all.Wait()
	first := k.engine
	first.set(errDisk, false)
	_, err := k.KeysByID(t.Context(), "A", "2")
	k.want(err, kmclient.ErrStore, true)
	var both sync.WaitGroup
	both.Add(2)
	m := k.before(&partKM{km, func(peer string) []*kmclient.Key {
		both.Done()
		both.Wait() // while a key waits, no other is fetched
		return []*kmclient.Key{kmclient.NewKey("3", bytesOf(peer, "3"))}
	}}, nil)
	k.engine.set(errDisk, false)
	for _, peer := range []string{"A", "C"} {
		all.Go(func() { _, _ = m.KeysByID(t.Context(), peer, "4") })
	}
	all.Wait()
	if n := m.Stats().Waiting; n != 2 {
		t.Errorf("%d keys wait, want 2", n)
	}
	k.engine.set(nil, false)
	k.sweep(m)
	first.set(nil, false)
	k.sweep(k.Store)
	k.from(k.before(km, nil), "A", "2", "3")
	k.from(k.before(km, nil), "C", "3")
}

// At a key manager that keeps its keys, and is asked for them by ID alone, an ID means
// one key. It can be used only once, whichever peer it is said to be for.
func TestSameIDOfOneKey(t *testing.T) {
	k := newKit(t, nil)
	k.km.keeps = true
	const key = "MOCK-KEY-00000001-20251012195642"
	k.km.next = []string{key}
	k.sent(1)
	if _, err := k.KeysByID(t.Context(), "C", key); err != nil { // rubbish that claims to be from C
		t.Fatal(err)
	}
	k.get(k.Store, key)
	k.bind(k.Store, "m", key)
	k.want(k.BindKeys(t.Context(), "C", id("another"), 0, key), kmclient.ErrKeyNotFound, false)
	for _, peer := range []string{"A", "C", "D"} {
		k.km.next = []string{key}
		_, err := k.GetKeys(t.Context(), peer, 256, 1)
		k.want(err, keystore.ErrReused, true)
	}
	k.wantState(key, kmclient.StateUsed)
	if r, err := k.Check(t.Context()); err != nil || r.Damaged != 0 {
		t.Errorf("check: %+v, %v", r, err)
	}
}

// A key can't be named by the ID in its record's name, not even together with its own
// ID: it would be used twice in one message.
func TestNameIsNoID(t *testing.T) {
	k, _ := newPeerKit(t)
	k.from(k.Store, "A", "1")
	name := keystore.RecordID("A", "1")
	for _, ids := range [][]string{{name}, {"1", name}, {strings.ToUpper(name)}} {
		_, err := k.KeysByID(t.Context(), "A", ids...)
		k.want(err, keystore.ErrClaimed, false)
	}
	k.want(k.BindKeys(t.Context(), "A", id("m"), 0, name), kmclient.ErrKeyNotFound, false)
	if _, err := k.Show(t.Context(), name); !errors.Is(err, kmclient.ErrKeyNotFound) {
		t.Errorf("shown by the name of its record: %v", err)
	}
	k.wantState("1", kmclient.StateInUse)
}

// The IDs in names differ for all keys, and are equally short.
func TestRecordID(t *testing.T) {
	const u = "9b42e9e2-38cc-4d7f-ba7e-94e0ed1a8a1c"
	for _, peer := range []string{"", "A", "C"} {
		for _, spelled := range []string{u, strings.ToUpper(u), "{" + u + "}", "urn:uuid:" + u, strings.ReplaceAll(u, "-", "")} {
			if got := keystore.RecordID(peer, spelled); got != u {
				t.Errorf("a UUID spelled %s, of peer %q: %s", spelled, peer, got)
			}
		}
	}
	seen := map[string][2]string{}
	for _, peer := range []string{"", "A", "AA", "a", "A\x00A", "\x00", "1", strings.Repeat("p", 255)} {
		for _, id := range []string{"1", "A", "AA", "A1", "11", "key-1", "KEY-1", u[1:], u + "0", "(" + u + ")", strings.Repeat("k", 255)} {
			got := keystore.RecordID(peer, id)
			parsed, err := uuid.Parse(got)
			if err != nil || parsed.String() != got || parsed.Version() != 8 || parsed.Variant() != uuid.RFC4122 {
				t.Errorf("key %q of %q: %q is not a UUID of version 8", id, peer, got)
			}
			if other, twice := seen[got]; twice {
				t.Errorf("key %q of %q has the name of key %q of %q", id, peer, other[1], other[0])
			}
			seen[got] = [2]string{peer, id}
		}
	}
}
