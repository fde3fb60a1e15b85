package keydb

import (
	"bytes"
	"errors"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/qkdmail/qkdmail/kmclient"
)

func newMock(t testing.TB, path string) *Mock {
	t.Helper()
	m, err := NewMock(t.Context(), path)
	if err != nil {
		t.Fatalf("NewMock: %v", err)
	}
	t.Cleanup(func() { _ = m.Close() })
	return m
}

func TestMock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.db")
	sender, recipient := newMock(t, path), newMock(t, path)
	keys, err := sender.GetKeys(t.Context(), "", 512, 3)
	if err != nil {
		t.Fatal(err)
	}
	if err := kmclient.CheckKeys(keys, 512, 3); err != nil {
		t.Error(err)
	}
	if id := keys[2].ID(); !regexp.MustCompile(`^MOCK-KEY-00000003-\d{14}$`).MatchString(id) {
		t.Errorf("the third ID is %q", id)
	}
	got, err := recipient.KeysByID(t.Context(), "", keys[2].ID(), keys[0].ID())
	if err != nil || !bytes.Equal(got[0].Reveal(), keys[2].Reveal()) || !bytes.Equal(got[1].Reveal(), keys[0].Reveal()) {
		t.Errorf("the other side: %v, %v", got, err)
	}
	if err := recipient.CloseKey(t.Context(), keys[0].ID()); err != nil {
		t.Errorf("CloseKey: %v", err)
	}
	if err := sender.CloseKey(t.Context(), keys[0].ID()); !errors.Is(err, kmclient.ErrKeyNotFound) {
		t.Errorf("closing a closed key: %v", err)
	}
	if got, err := sender.KeysByID(t.Context(), "", keys[2].ID(), keys[0].ID()); !errors.Is(err, kmclient.ErrKeyNotFound) || got != nil {
		t.Errorf("a closed key is still there: %v, %v", got, err)
	}
	s, err := recipient.Status(t.Context(), "")
	want := kmclient.Status{State: "operational", Mode: "simulation", Timestamp: s.Timestamp, KeySize: 256, MinKeySize: 8,
		MaxKeySize: 1 << 20, MaxKeyPerRequest: 255, StoredKeys: new(2), KeysGenerated: new(3), OnDemand: true, KeyIDBytes: 32}
	if err != nil || !reflect.DeepEqual(s, want) {
		t.Errorf("Status: %+v, %v\nwant %+v", s, err, want)
	}
	infos, err := sender.ListKeys(t.Context())
	if err != nil || len(infos) != 2 || infos[1].ID != keys[2].ID() || infos[0].Size != 512 || time.Since(infos[0].Time) > time.Minute {
		t.Errorf("ListKeys: %+v, %v", infos, err)
	}
}

// The counter survives a restart and the deletion of every key.
func TestMockCounter(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.db")
	for i, want := range []string{"MOCK-KEY-00000001-", "MOCK-KEY-00000002-", "MOCK-KEY-00000003-"} {
		m, err := NewMock(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		keys, err := m.GetKeys(t.Context(), "", 8, 1)
		if err != nil || !strings.HasPrefix(keys[0].ID(), want) {
			t.Fatalf("start %d: %v, %v, want %s…", i, keys, err, want)
		}
		if err := errors.Join(m.CloseKey(t.Context(), keys[0].ID()), m.Close()); err != nil {
			t.Fatal(err)
		}
	}
}

// An ID that an import brought is not given out again.
func TestMockSkipsTakenID(t *testing.T) {
	m := newMock(t, filepath.Join(t.TempDir(), "keys.db"))
	now := time.Now()
	for i := range 3 { // whatever second it will be
		id := "MOCK-KEY-00000001-" + now.Add(time.Duration(i)*time.Second).Format("20060102150405")
		if err := m.db.Put(t.Context(), "", Grant{}, kmclient.NewKey(id, []byte{byte(i)})); err != nil {
			t.Fatal(err)
		}
	}
	keys, err := m.GetKeys(t.Context(), "", 256, 1)
	if err != nil || !strings.HasPrefix(keys[0].ID(), "MOCK-KEY-00000002-") {
		t.Errorf("GetKeys: %v, %v", keys, err)
	}
}

func TestMockRefuses(t *testing.T) {
	m := newMock(t, filepath.Join(t.TempDir(), "keys.db"))
	for _, c := range []struct{ size, number int }{{0, 1}, {7, 1}, {-8, 1}, {1<<20 + 8, 1}, {256, 0}, {256, 256}} {
		if keys, err := m.GetKeys(t.Context(), "", c.size, c.number); !errors.Is(err, kmclient.ErrBadRequest) || keys != nil {
			t.Errorf("%+v: %v, %v, want ErrBadRequest", c, keys, err)
		}
	}
	for _, ids := range [][]string{nil, {""}, {"a b"}, {"a", "a"}} {
		if _, err := m.KeysByID(t.Context(), "", ids...); err == nil {
			t.Errorf("%q: no error", ids)
		}
	}
	if _, err := NewMock(t.Context(), ""); !errors.Is(err, kmclient.ErrConfig) {
		t.Errorf("no path: %v", err)
	}
}

func TestMockConcurrent(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.db")
	mocks := []*Mock{newMock(t, path), newMock(t, path)}
	var seen sync.Map
	var all sync.WaitGroup
	for i := range 32 {
		all.Go(func() {
			for range 5 {
				keys, err := mocks[i%2].GetKeys(t.Context(), "", 256, 3)
				if err != nil {
					t.Errorf("GetKeys: %v", err)
					return
				}
				for _, k := range keys {
					if _, twice := seen.LoadOrStore(k.ID(), true); twice {
						t.Errorf("%s given out twice", k.ID())
					}
				}
			}
		})
	}
	all.Wait()
	if n := count(t, mocks[0].db, ""); n != 32*5*3 {
		t.Errorf("%d keys, want %d", n, 32*5*3)
	}
}
