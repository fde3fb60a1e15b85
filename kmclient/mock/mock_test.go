package mock

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/internal/fakekm"
)

func newMock(t *testing.T, path string) *KeyManager {
	t.Helper()
	m, err := New(Options{Path: path})
	if err != nil {
		t.Fatalf("New(%q): %v", path, err)
	}
	return m
}

// getKeys fetches keys of 256 bits.
func getKeys(t *testing.T, km kmclient.KeyManager, number int) []*kmclient.Key {
	t.Helper()
	keys, err := km.GetKeys(t.Context(), "", 256, number)
	if err != nil {
		t.Fatalf("GetKeys: %v", err)
	}
	if err := kmclient.CheckKeys(keys, 256, number); err != nil {
		t.Fatalf("GetKeys: %v", err)
	}
	return keys
}

func TestBothSides(t *testing.T) {
	path := filepath.Join(t.TempDir(), "folder", "below", "keys.json")
	sender, recipient := newMock(t, path), newMock(t, path)
	keys := getKeys(t, sender, 3)
	if id := keys[0].ID(); !regexp.MustCompile(`^MOCK-KEY-00000001-\d{14}$`).MatchString(id) {
		t.Errorf("the first ID is %q: want MOCK-KEY-%%08d-YYYYMMDDhhmmss", id)
	}
	if sender.DeletesOnDelivery() {
		t.Error("says that keys are deleted, but they stay until they are closed")
	}
	got, err := recipient.KeysByID(t.Context(), "", keys[2].ID(), keys[0].ID())
	if err != nil {
		t.Fatalf("the other side does not find the keys: %v", err)
	}
	if !bytes.Equal(got[0].Reveal(), keys[2].Reveal()) || !bytes.Equal(got[1].Reveal(), keys[0].Reveal()) {
		t.Error("the other side has different keys, or a different order")
	}
	got[0].Wipe() // must not reach into the store
	if again, err := recipient.KeysByID(t.Context(), "", keys[2].ID()); err != nil ||
		!bytes.Equal(again[0].Reveal(), keys[2].Reveal()) {
		t.Errorf("a key is gone once it was wiped by its caller (%v)", err)
	}

	// Each side sees immediately what the other does.
	for range 5 {
		k := getKeys(t, sender, 1)[0]
		if err := recipient.CloseKey(t.Context(), k.ID()); err != nil {
			t.Fatalf("CloseKey: %v", err)
		}
		for name, m := range map[string]*KeyManager{"sender": sender, "recipient": recipient} {
			if keys, err := m.KeysByID(t.Context(), "", keys[0].ID(), k.ID()); !errors.Is(err, kmclient.ErrKeyNotFound) || keys != nil {
				t.Errorf("%s: a closed key is still there: %v, %v", name, keys, err)
			}
			if err := m.CloseKey(t.Context(), k.ID()); !errors.Is(err, kmclient.ErrKeyNotFound) {
				t.Errorf("%s: closing a closed key: %v, want ErrKeyNotFound", name, err)
			}
		}
	}
	s, err := sender.Status(t.Context(), "")
	want := kmclient.Status{State: "operational", Mode: "simulation", Timestamp: s.Timestamp, KeySize: 256, MinKeySize: 8,
		MaxKeySize: 1 << 20, MaxKeyPerRequest: 255, StoredKeys: new(3), KeysGenerated: new(8), OnDemand: true, KeyIDBytes: 32}
	if _, terr := time.Parse(time.RFC3339, s.Timestamp); terr != nil {
		t.Errorf("Status says %q for the time: %v", s.Timestamp, terr)
	}
	if err != nil || !reflect.DeepEqual(s, want) {
		t.Errorf("Status = %+v, %v\nwant %+v", s, err, want)
	}
}

func TestList(t *testing.T) {
	m := newMock(t, filepath.Join(t.TempDir(), "keys.json"))
	before := time.Now().Add(-time.Second)
	keys := getKeys(t, m, 3)
	infos, err := m.ListKeys(t.Context())
	if err != nil || len(infos) != 3 {
		t.Fatalf("ListKeys = %v, %v: want 3 keys", infos, err)
	}
	for i, info := range infos {
		if info.ID != keys[i].ID() || info.Size != 256 || info.State != kmclient.StateInUse ||
			info.Time.Before(before) || info.Time.After(time.Now()) {
			t.Errorf("key %d of the list is %+v", i, info)
		}
	}
}

func TestPermissions(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "instance")
	m := newMock(t, filepath.Join(dir, "keys.json"))
	getKeys(t, m, 1)
	getKeys(t, m, 1)
	for name, want := range map[string]fs.FileMode{
		dir: 0o700 | fs.ModeDir, dir + "/keys.json": 0o600, dir + "/keys.json.lock": 0o600,
	} {
		if info, err := os.Stat(name); err != nil || info.Mode() != want {
			t.Errorf("%s: %v, %v, want %v", name, info.Mode(), err, want)
		}
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 2 {
		t.Errorf("the folder holds %v: want only the keys and the lock", entries)
	}
}

func TestReadingCreatesNothing(t *testing.T) {
	dir := t.TempDir()
	m := newMock(t, filepath.Join(dir, "instance", "keys.json"))
	if s, err := m.Status(t.Context(), ""); err != nil || fakekm.Count(s.StoredKeys) != 0 {
		t.Errorf("Status without a file = %+v, %v", s, err)
	}
	if infos, err := m.ListKeys(t.Context()); err != nil || len(infos) != 0 {
		t.Errorf("ListKeys without a file = %v, %v", infos, err)
	}
	if _, err := m.KeysByID(t.Context(), "", "a"); !errors.Is(err, kmclient.ErrKeyNotFound) {
		t.Errorf("KeysByID without a file: %v, want ErrKeyNotFound", err)
	}
	if err := m.CloseKey(t.Context(), "a"); !errors.Is(err, kmclient.ErrKeyNotFound) {
		t.Errorf("CloseKey without a file: %v, want ErrKeyNotFound", err)
	}
	if _, err := m.GetKeys(t.Context(), "", 255, 1); !errors.Is(err, kmclient.ErrBadRequest) {
		t.Errorf("GetKeys of 255 bits: %v, want ErrBadRequest", err)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 0 {
		t.Errorf("something was created: %v", entries)
	}
}

func TestLimits(t *testing.T) {
	m := newMock(t, filepath.Join(t.TempDir(), "keys.json"))
	for _, test := range []struct {
		size, number int
		good         bool
	}{
		{8, 255, true}, {16, 255, true}, {1 << 20, 1, true}, {256, 255, true},
		{0, 1, false}, {12, 1, false}, {1<<20 + 8, 1, false}, {256, 0, false}, {256, -1, false}, {256, 256, false},
	} {
		keys, err := m.GetKeys(t.Context(), "", test.size, test.number)
		if !test.good {
			if !errors.Is(err, kmclient.ErrBadRequest) {
				t.Errorf("%d keys of %d bits: %v, want ErrBadRequest", test.number, test.size, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%d keys of %d bits: %v", test.number, test.size, err)
			continue
		}
		var ids []string
		for _, k := range keys {
			ids = append(ids, k.ID())
		}
		if got, err := m.KeysByID(t.Context(), "", ids...); err != nil || len(got) != test.number {
			t.Errorf("%d keys of %d bits can't be fetched again: %v", test.number, test.size, err)
		}
	}
}

// TestIDs lets the counter run into IDs that the file already has, as if the counter
// had been restored from a backup.
func TestIDs(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.json")
	f := newKeyFile()
	for now, i := time.Now(), 0; i < 5; i++ {
		f.generated = 7
		f.add(f.freshID(now.Add(time.Duration(i)*time.Second)), fakekm.RandomBytes(32))
	}
	f.generated = 7
	if err := os.WriteFile(path, f.encode(), 0o600); err != nil {
		t.Fatal(err)
	}
	m := newMock(t, path)
	getKeys(t, m, 3)
	if s, err := m.Status(t.Context(), ""); err != nil || fakekm.Count(s.StoredKeys) != 8 {
		t.Errorf("5 keys and 3 new ones are %d (%v)", fakekm.Count(s.StoredKeys), err)
	}
}

func TestLeftover(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.json")
	m := newMock(t, path)
	k := getKeys(t, m, 1)[0]
	if err := os.WriteFile(path+".tmp", []byte(`{"keys":{"half`), 0o400); err != nil { // as a crash leaves it
		t.Fatal(err)
	}
	if _, err := newMock(t, path).KeysByID(t.Context(), "", k.ID()); err != nil {
		t.Errorf("with half a temporary file, the keys are not found: %v", err)
	}
	getKeys(t, m, 1)
	if _, err := os.Stat(path + ".tmp"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the temporary file of a crash is still there (%v)", err)
	}
}

func TestLink(t *testing.T) {
	dir := t.TempDir()
	target, link := filepath.Join(dir, "target.json"), filepath.Join(dir, "link.json")
	getKeys(t, newMock(t, target), 1)
	if err := os.Symlink(target, link); err != nil {
		t.Skip("no symbolic links here")
	}
	k := getKeys(t, newMock(t, link), 1)[0]
	if _, err := newMock(t, target).KeysByID(t.Context(), "", k.ID()); err != nil {
		t.Errorf("a key written through a link is not in the file: %v", err)
	}
}

// TestLinkToNothing: the first key is written to the file that links lead to, and does
// not replace them.
func TestLinkToNothing(t *testing.T) {
	dir := t.TempDir()
	target, link, loop := filepath.Join(dir, "shared", "target.json"), filepath.Join(dir, "link.json"), filepath.Join(dir, "loop.json")
	if os.Symlink("second.json", link) != nil {
		t.Skip("no symbolic links here")
	}
	if err := errors.Join(os.Symlink("shared/target.json", filepath.Join(dir, "second.json")), os.Symlink(loop, loop)); err != nil {
		t.Fatal(err)
	}
	k := getKeys(t, newMock(t, link), 1)[0]
	if _, err := newMock(t, target).KeysByID(t.Context(), "", k.ID()); err != nil {
		t.Errorf("a key written through a link is not in the file: %v", err)
	}
	if _, err := newMock(t, loop).GetKeys(t.Context(), "", 256, 1); !errors.Is(err, kmclient.ErrStore) {
		t.Errorf("a link to itself: %v, want ErrStore", err)
	}
}

// TestFullDisk: a disk may have space later; nobody needs a backup.
func TestFullDisk(t *testing.T) {
	s := &fileStore{path: "keys.json"}
	for err, passes := range map[error]bool{syscall.ENOSPC: true, syscall.EDQUOT: true, syscall.EIO: true, fs.ErrPermission: false} {
		got := s.failed("can't be written", &fs.PathError{Op: "write", Path: "keys.json.tmp", Err: err})
		if !errors.Is(got, kmclient.ErrStore) || errors.Is(got, kmclient.ErrStoreBusy) != passes || !errors.Is(got, err) {
			t.Errorf("%v: %v, want an ErrStore that is an ErrStoreBusy as well: %t", err, got, passes)
		}
	}
}

func TestUnreadable(t *testing.T) {
	key := `"MOCK-KEY-00000000-20251012195642":"` + strings.Repeat("A", 42) + `8="`
	for name, text := range unreadableFiles(key) {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "keys.json")
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			m := newMock(t, path)
			_, statusErr := m.Status(t.Context(), "")
			_, getErr := m.GetKeys(t.Context(), "", 256, 1)
			_, byIDErr := m.KeysByID(t.Context(), "", "a")
			_, listErr := m.ListKeys(t.Context())
			for op, err := range map[string]error{
				"Status": statusErr, "GetKeys": getErr, "KeysByID": byIDErr, "ListKeys": listErr,
				"CloseKey": m.CloseKey(t.Context(), "a"),
			} {
				if !errors.Is(err, kmclient.ErrStore) || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "backup") {
					t.Errorf("%s: got %v, want an ErrStore that names the file and says what to do", op, err)
				} else if strings.Contains(err.Error(), "AAAA") {
					t.Errorf("%s: the error shows the key: %v", op, err)
				}
			}
			if got, err := os.ReadFile(path); err != nil || string(got) != text {
				t.Errorf("the file was touched (%v)", err)
			}
		})
	}
}

func TestNotAFile(t *testing.T) {
	dir := t.TempDir()
	folder, pipe, large := filepath.Join(dir, "folder"), filepath.Join(dir, "pipe"), filepath.Join(dir, "large")
	err := errors.Join(os.Mkdir(folder, 0o700), syscall.Mkfifo(pipe, 0o600),
		os.WriteFile(large, nil, 0o600), os.Truncate(large, fileLimit+1))
	if err != nil {
		t.Skipf("not possible here: %v", err)
	}
	for _, path := range []string{folder, pipe, large} {
		if _, err := newMock(t, path).GetKeys(t.Context(), "", 256, 1); !errors.Is(err, kmclient.ErrStore) {
			t.Errorf("%s: got %v, want ErrStore", filepath.Base(path), err)
		}
	}
}

func TestNoSpaceForTheFile(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	m := newMock(t, filepath.Join(dir, "file", "keys.json"))
	if keys, err := m.GetKeys(t.Context(), "", 256, 1); !errors.Is(err, kmclient.ErrStore) || keys != nil {
		t.Errorf("a file below a file: %v, %v, want ErrStore and no key", keys, err)
	}
}

// TestWriteFails makes the rename impossible.
func TestWriteFails(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.json")
	m := newMock(t, path)
	k := getKeys(t, m, 1)[0]
	if err := os.MkdirAll(path+".tmp/full", 0o700); err != nil {
		t.Fatal(err)
	}
	if keys, err := m.GetKeys(t.Context(), "", 256, 1); !errors.Is(err, kmclient.ErrStore) || keys != nil {
		t.Errorf("got %v, %v: a key that is not on disk must not be given out", keys, err)
	}
	if err := m.CloseKey(t.Context(), k.ID()); !errors.Is(err, kmclient.ErrStore) {
		t.Errorf("CloseKey: %v, want ErrStore", err)
	}
	if _, err := m.KeysByID(t.Context(), "", k.ID()); err != nil {
		t.Errorf("a key that could not be closed is gone: %v", err)
	}
}

func TestContext(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.json")
	m, other := newMock(t, path), newMock(t, path)
	k := getKeys(t, m, 1)[0]
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := m.GetKeys(canceled, "", 256, 1); !errors.Is(err, context.Canceled) || !errors.Is(err, kmclient.ErrUnavailable) {
		t.Errorf("a canceled context: %v, want ErrUnavailable and context.Canceled", err)
	}

	unlock, err := other.store.lock(t.Context())
	if err != nil {
		t.Fatalf("lock: %v", err)
	}
	m.lockWait = 20 * time.Millisecond
	_, err = m.GetKeys(t.Context(), "", 256, 1)
	if !errors.Is(err, kmclient.ErrUnavailable) || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("while another process has the lock: %v, want ErrUnavailable, not the end of the caller's context", err)
	}
	short, cancelShort := context.WithTimeout(t.Context(), 5*time.Millisecond)
	defer cancelShort()
	if err := m.CloseKey(short, k.ID()); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the caller's deadline while another process has the lock: %v", err)
	}
	if _, err := m.KeysByID(t.Context(), "", k.ID()); err != nil {
		t.Errorf("reading needs no lock, but: %v", err)
	}
	unlock()
	getKeys(t, m, 1)
}

func TestWarnsOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.json")
	f := newKeyFile()
	for range manyKeys {
		f.add(f.freshID(time.Now()), fakekm.RandomBytes(32))
	}
	if err := os.WriteFile(path, f.encode(), 0o600); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	m, err := New(Options{Path: path, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	getKeys(t, m, 1)
	getKeys(t, m, 1)
	if n := strings.Count(log.String(), "level=WARN"); n != 1 {
		t.Errorf("a large file: warned %d times, want once:\n%s", n, &log)
	}
}
