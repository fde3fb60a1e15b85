package sqlitedb

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// crashed returns the path of a database as a crash leaves it, with n commits in
// its log.
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
	for _, end := range []string{"", "-wal"} {
		text, err := os.ReadFile(from + end)
		if err == nil {
			err = os.WriteFile(to+end, text, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return to
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
		// As a crash may leave it: nobody was told of the last commit.
		"last":             {func(log []byte) []byte { at, c := frames(log); log[at[c[n-1]]+30] ^= 1; return log }, n - 1},
		"last is torn":     {func(log []byte) []byte { return log[:len(log)-1000] }, n - 1},
		"last has no end":  {func(log []byte) []byte { at, c := frames(log); return log[:at[c[n-1]]] }, n - 1},
		"last out of turn": {func(log []byte) []byte { at, c := frames(log); clear(log[at[c[n-2]+1]:at[c[n-1]]]); return log }, n - 1},
		// What stood in the log before it was begun anew.
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
			wantStore(t, err, "move the log away")
			wantStore(t, err, path)
			if after, err := os.ReadFile(path + "-wal"); err != nil || !bytes.Equal(after, log) {
				t.Errorf("the log was changed (%v)", err)
			}
			if err := os.Remove(path + "-wal"); err != nil { // as the error says
				t.Fatal(err)
			}
			count(t, openTest(t, path))
		})
	}
}

// A log of whatever octets is judged without a panic, and a sound one that has
// them at its end is not damaged unless they pass for frames of it.
func FuzzLog(f *testing.F) {
	head := make([]byte, logHead)
	binary.BigEndian.PutUint32(head, 0x377F0682)
	binary.BigEndian.PutUint32(head[4:], 3007000)
	binary.BigEndian.PutUint32(head[8:], 512)
	copy(head[16:], "salt+salt")
	sum := logSum(binary.LittleEndian, [2]uint32{}, head[:24])
	binary.BigEndian.PutUint32(head[24:], sum[0])
	binary.BigEndian.PutUint32(head[28:], sum[1])
	frame := make([]byte, frameHead+512)
	frame[7] = 1
	copy(frame[8:], head[16:24])
	f.Add(head)
	f.Add(frame)
	f.Add(append(slices.Clone(frame), frame...))
	f.Add([]byte("no log"))
	f.Fuzz(func(t *testing.T, b []byte) {
		_ = readLog(bytes.NewReader(b))
		err := readLog(bytes.NewReader(append(slices.Clone(head), b...)))
		if err != nil && bytes.Count(b, head[16:24]) < 2 {
			t.Errorf("%v: though there are not two frames of the log", err)
		}
	})
}
