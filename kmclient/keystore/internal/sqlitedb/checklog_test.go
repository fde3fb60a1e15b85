package sqlitedb

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// crashed returns the path of a database as after a crash, with n commits in its log.
func crashed(t *testing.T, n int) string {
	t.Helper()
	from, to := testPath(t), filepath.Join(t.TempDir(), "t.db")
	db := openTest(t, from)
	for i := range n {
		size := 1500
		if i == n-1 {
			size = 30_000 // a commit of several frames
		}
		if err := db.put(t.Context(), i, strings.Repeat("v", size)); err != nil {
			t.Fatal(err)
		}
	}
	copyDB(t, from, to)
	return to
}

// copyDB copies a database that is open, with its log.
func copyDB(t *testing.T, from, to string) {
	t.Helper()
	for _, end := range []string{"", "-wal"} {
		text, err := os.ReadFile(from + end)
		if err == nil {
			err = os.WriteFile(to+end, text, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// frames returns where the frames of a log begin, and which of them end a
// commit.
func frames(log []byte) (at []int, commits []int) {
	size := frameHead + int(binary.BigEndian.Uint32(log[8:]))
	for i := logHead; i+size <= len(log); i += size {
		if binary.BigEndian.Uint32(log[i+4:]) != 0 {
			commits = append(commits, len(at))
		}
		at = append(at, i)
	}
	return at, commits
}

func TestDamagedLog(t *testing.T) {
	const n = 30
	for name, c := range map[string]struct {
		damage func(log []byte) []byte
		rows   int // -1: refused
	}{
		"sound":          {func(log []byte) []byte { return log }, n},
		"empty":          {func([]byte) []byte { return nil }, 0},
		"head only":      {func(log []byte) []byte { return log[:logHead] }, 0},
		"never written":  {func(log []byte) []byte { return make([]byte, len(log)) }, 0},
		"no log":         {func(log []byte) []byte { return bytes.Repeat([]byte("no log "), len(log)/7) }, -1},
		"head":           {func(log []byte) []byte { log[17] ^= 1; return log }, -1},
		"magic":          {func(log []byte) []byte { log[0] ^= 1; return log }, -1},
		"page size":      {func(log []byte) []byte { log[10] ^= 1; return log }, -1},
		"first frame":    {func(log []byte) []byte { at, _ := frames(log); log[at[0]+100] ^= 1; return log }, -1},
		"middle":         {func(log []byte) []byte { log[len(log)/2] ^= 0x80; return log }, -1},
		"salt of middle": {func(log []byte) []byte { at, c := frames(log); log[at[c[n/2]-1]+9] ^= 1; return log }, -1},
		"zeros in middle": {func(log []byte) []byte {
			clear(log[len(log)/2 : len(log)/2+8192])
			return log
		}, -1},
		"last but one": {func(log []byte) []byte { at, c := frames(log); log[at[c[n-2]]+30] ^= 1; return log }, -1},
		// As after a crash: the last commit was never reported as made.
		"last":             {func(log []byte) []byte { at, c := frames(log); log[at[c[n-1]]+30] ^= 1; return log }, n - 1},
		"last is torn":     {func(log []byte) []byte { return log[:len(log)-1000] }, n - 1},
		"last has no end":  {func(log []byte) []byte { at, c := frames(log); return log[:at[c[n-1]]] }, n - 1},
		"last out of turn": {func(log []byte) []byte { at, c := frames(log); clear(log[at[c[n-2]+1]:at[c[n-1]]]); return log }, n - 1},
		// Frames from before the log was restarted.
		"left over": {func(log []byte) []byte {
			old := slices.Clone(log[logHead:])
			at, _ := frames(log)
			for _, i := range at {
				old[i-logHead+8]++
			}
			return append(log, old...)
		}, n},
	} {
		t.Run(name, func(t *testing.T) {
			path := crashed(t, n)
			log, err := os.ReadFile(path + "-wal")
			if err != nil {
				t.Fatal(err)
			}
			if _, commits := frames(log); len(commits) < n {
				t.Fatalf("%d commits in the log", len(commits))
			}
			log = c.damage(log)
			if err := os.WriteFile(path+"-wal", log, 0o600); err != nil {
				t.Fatal(err)
			}
			if c.rows >= 0 {
				db := openTest(t, path)
				if got := count(t, db); got != c.rows {
					t.Errorf("%d rows, want %d", got, c.rows)
				}
				return
			}
			_, err = Open(t.Context(), path, testFormat(), 0)
			wantStore(t, err, "copy both files before anything else")
			wantStore(t, err, path)
			if after, err := os.ReadFile(path + "-wal"); err != nil || !bytes.Equal(after, log) {
				t.Errorf("the log was changed (%v)", err)
			}
			if err := os.Remove(path + "-wal"); err != nil { // the file without its log, as the error says
				t.Fatal(err)
			}
			count(t, openTest(t, path))
		})
	}
}

// Power is lost twice, each time in the middle of a commit that was never reported as
// made. What the second leaves is followed by the rest of the first, with the same
// salt: nothing is damaged.
func TestTwoTornCommits(t *testing.T) {
	path := crashed(t, 5) // the last commit has several frames
	log, err := os.ReadFile(path + "-wal")
	if err != nil {
		t.Fatal(err)
	}
	at, c := frames(log)
	clear(log[at[c[4]-3]:at[c[4]-2]]) // a frame of the last commit did not reach the disk
	if err := os.WriteFile(path+"-wal", log, 0o600); err != nil {
		t.Fatal(err)
	}
	db := openTest(t, path)
	if n := count(t, db); n != 4 {
		t.Fatalf("%d rows after the first loss of power", n)
	}
	for i, v := range []string{"acknowledged", "torn"} {
		if err := db.put(t.Context(), 100+i, v); err != nil {
			t.Fatal(err)
		}
	}
	second := filepath.Join(t.TempDir(), "t.db")
	copyDB(t, path, second)
	if log, err = os.ReadFile(second + "-wal"); err != nil {
		t.Fatal(err)
	}
	at, c = frames(log)
	if len(c) < 7 {
		t.Fatalf("%d commits in the log, with what is left of the first torn one", len(c))
	}
	torn := at[c[5]] + frameHead
	clear(log[torn+4096-512 : torn+4096]) // nor did a sector of the page with row 101
	if err := os.WriteFile(second+"-wal", log, 0o600); err != nil {
		t.Fatal(err)
	}
	if n := count(t, openTest(t, second)); n != 5 {
		t.Errorf("%d rows, want the 5 that were acknowledged", n)
	}
}

// A history is a log as SQLite writes it, with small pages.
type history struct {
	log  []byte
	end  int       // of the last commit
	sum  [2]uint32 // of that
	rand *rand.Rand
}

func newHistory(seed uint64) *history {
	log := make([]byte, logHead)
	binary.BigEndian.PutUint32(log, 0x377F0682)
	binary.BigEndian.PutUint32(log[4:], 3007000)
	binary.BigEndian.PutUint32(log[8:], 512)
	copy(log[16:], "salt+salt")
	h := &history{log: log, end: logHead, sum: logSum(binary.LittleEndian, [2]uint32{}, log[:24]), rand: rand.New(rand.NewPCG(seed, 0))}
	putSum(log[24:], h.sum)
	return h
}

func putSum(b []byte, sum [2]uint32) {
	binary.BigEndian.PutUint32(b, sum[0])
	binary.BigEndian.PutUint32(b[4:], sum[1])
}

// write adds a transaction of n frames. If it is torn, some of its sectors don't
// reach the disk, or it was rolled back, and it is not committed.
func (h *history) write(n int, torn bool) {
	text, sum := []byte{}, h.sum
	for i := range n {
		frame := make([]byte, frameHead+512)
		binary.BigEndian.PutUint32(frame, h.rand.Uint32N(100)+1)
		if rolledBack := torn && h.rand.IntN(4) == 0; i == n-1 && !rolledBack {
			binary.BigEndian.PutUint32(frame[4:], 100)
		}
		copy(frame[8:], h.log[16:24])
		for j := frameHead; j < len(frame); j += 8 {
			binary.BigEndian.PutUint64(frame[j:], h.rand.Uint64N(3)) // so that some pages are as they were before
		}
		sum = logSum(binary.LittleEndian, logSum(binary.LittleEndian, sum, frame[:8]), frame[frameHead:])
		putSum(frame[16:], sum)
		text = append(text, frame...)
	}
	h.log = append(h.log, make([]byte, max(0, h.end+len(text)-len(h.log)))...)
	if !torn {
		copy(h.log[h.end:], text)
		h.end, h.sum = h.end+len(text), sum
		return
	}
	lost := h.rand.IntN(len(text))
	for at := 0; at < len(text); at += 128 {
		if sector := at / 128; sector != lost/128 && h.rand.IntN(3) > 0 {
			copy(h.log[h.end+at:], text[at:min(at+128, len(text))])
		}
	}
}

// However often power is lost in the middle of commits, the log is sound. A wrong byte
// before the last commits makes it damaged.
func TestLogHistories(t *testing.T) {
	for seed := range uint64(300) {
		h := newHistory(seed)
		for step := range 40 {
			h.write(1+h.rand.IntN(6), h.rand.IntN(2) == 0)
			if err := readLog(bytes.NewReader(h.log)); err != nil {
				t.Fatalf("seed %d, step %d: %v", seed, step, err)
			}
		}
		damaged := h.end
		for range 3 {
			h.write(1+h.rand.IntN(6), false)
		}
		h.log[h.rand.IntN(damaged)] ^= 1
		if err := readLog(bytes.NewReader(h.log)); err == nil {
			t.Errorf("seed %d: a wrong byte is not noticed", seed)
		}
	}
}

// Checking any bytes as a log does not panic. A sound log with these bytes at its end
// is not damaged unless they look like its frames.
func FuzzLog(f *testing.F) {
	head := newHistory(0).log
	frame := make([]byte, frameHead+512)
	frame[7] = 1
	copy(frame[8:], head[16:24])
	f.Add(head)
	f.Add(frame)
	f.Add(append(slices.Clone(frame), frame...))
	f.Add([]byte("no log"))
	damaged := newHistory(1)
	for range 3 {
		damaged.write(2, false)
	}
	damaged.log[logHead+frameHead] ^= 1
	f.Add(damaged.log[logHead:])
	f.Fuzz(func(t *testing.T, b []byte) {
		_ = readLog(bytes.NewReader(b))
		err := readLog(bytes.NewReader(append(slices.Clone(head), b...)))
		if err != nil && bytes.Count(b, head[16:24]) < 2 {
			t.Errorf("%v, although the log does not have two frames", err)
		}
	})
}
