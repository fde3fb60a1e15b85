package sqlitedb

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"
)

// SQLite reads its write-ahead log up to the first frame with a wrong checksum. That is
// right for what a crash leaves: an incomplete last commit that was never reported as
// made. But one wrong byte on disk would make all later commits disappear silently, and
// for good once the log is written again. So the log is checked before SQLite reads it.
// If a frame after an unreadable one continues the checksum of a commit's last frame,
// then that commit was once on disk, since the next commit does not begin before.
//
// Any other frame there proves nothing: after a loss of power in the middle of a
// commit, the log goes on from the commit before, and frames of the torn commit still
// follow, with the same salt.
//
// Three kinds of damage look like a crash and go unnoticed: damage in the very last
// commit, damage in the frame header that ends the commit before it, and a log cut off
// between two commits.
//
// See "The Write-Ahead Log" in https://sqlite.org/fileformat2.html.
const (
	logHead   = 32
	frameHead = 24
	maxPage   = 65536
)

var errLog = errors.New("an unreadable part is followed by later commits")

// checkLog returns an error if the log of the database at path is damaged. Another
// process may be writing to it, which can look like damage, but no longer at the next
// look.
func checkLog(path string) (err error) {
	for range 5 {
		if err = checkLogOnce(path + "-wal"); !errors.Is(err, errLog) {
			return err
		}
		time.Sleep(20 * time.Millisecond)
	}
	return fmt.Errorf("its write-ahead log %s-wal is damaged, and changes that were reported as made can't be read: "+
		"copy both files before anything else, then restore a backup; "+
		"without its log the file lacks all the changes in the log: %w", path, err)
}

func checkLogOnce(path string) error {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	return readLog(bufio.NewReaderSize(f, 1<<20))
}

// readLog reads a log to its end. A log that has no header yet is sound.
func readLog(r io.Reader) error {
	head := make([]byte, logHead)
	if _, err := io.ReadFull(r, head); err != nil {
		return ended(err)
	}
	var order binary.ByteOrder = binary.LittleEndian // in which checksums are computed
	switch binary.BigEndian.Uint32(head) {
	case 0x377F0682:
	case 0x377F0683:
		order = binary.BigEndian
	case 0: // never written
		return nil
	default:
		return errLog
	}
	pageSize := binary.BigEndian.Uint32(head[8:])
	sum := logSum(order, [2]uint32{}, head[:24])
	if pageSize < 512 || pageSize > maxPage || pageSize&(pageSize-1) != 0 || sum != storedSum(head[24:]) {
		return errLog
	}
	salt := binary.BigEndian.Uint64(head[16:])
	frame := make([]byte, frameHead+pageSize)
	readable, boundary := true, false // boundary: the frame before ends a commit
	for {
		if _, err := io.ReadFull(r, frame); err != nil {
			return ended(err)
		}
		ours := binary.BigEndian.Uint64(frame[8:]) == salt // else left over from before the log was restarted, or damaged
		stored := storedSum(frame[16:])
		follows := ours && stored == logSum(order, logSum(order, sum, frame[:8]), frame[frameHead:])
		if follows && boundary && !readable {
			return errLog
		}
		readable = readable && follows
		sum, boundary = stored, ours && binary.BigEndian.Uint32(frame[4:]) != 0
	}
}

// ended returns the outcome of a log that was read to its end.
func ended(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return nil
	}
	return err
}

func storedSum(b []byte) [2]uint32 {
	return [2]uint32{binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(b[4:])}
}

// logSum carries a checksum on over b, whose length is a multiple of 8.
func logSum(order binary.ByteOrder, s [2]uint32, b []byte) [2]uint32 {
	for ; len(b) >= 8; b = b[8:] {
		s[0] += order.Uint32(b) + s[1]
		s[1] += order.Uint32(b[4:]) + s[0]
	}
	return s
}
