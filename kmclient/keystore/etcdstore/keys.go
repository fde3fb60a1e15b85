package etcdstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/qkdmail/qkdmail/kmclient/keystore"
)

const (
	end         = "\x00" // of a part of a key
	afterEnd    = "\x01" // follows all that begins the same and goes on with end
	valueFormat = "\x01"
	dueSize     = 8
)

var errForeign = errors.New("a record is damaged or was not made by this program; it is left as it is")

// A layout makes the keys of one store and reads them.
type layout struct {
	records string // what the key of a record begins with
	dues    string // what the key of a due time begins with
}

func newLayout(prefix string) layout {
	return layout{records: prefix + "/r" + end, dues: prefix + "/d" + end}
}

// limit returns the key that follows all that begin with start, which ends with
// end.
func limit(start string) string { return strings.TrimSuffix(start, end) + afterEnd }

func (l layout) record(n keystore.Name) string {
	return l.records + string(n.Kind) + end + n.KM + end + n.SAE + end + n.ID
}

// deepest is where narrow begins: with IDs in hexadecimal, as most are, one of
// 4096 parts.
const deepest = 3

// narrow returns a key after start, where a scan of records that begins there
// may end: start and whatever has the same first octets of the ID, depth of
// them. With depth -1 that are all records.
//
// A scan costs etcd as much as there are keys in its range, however few of them
// it is to return: with a million records most of a second.
func (l layout) narrow(start string, depth int) string {
	parts := strings.SplitN(strings.TrimPrefix(start, l.records), end, 4)
	if depth < 0 || len(parts) < 4 {
		return limit(l.records)
	}
	id := parts[3]
	same := start[:len(start)-len(id)+min(depth, len(id))]
	last := len(same) - 1
	for same[last] == 0xFF { // there is no next one
		last--
	}
	return same[:last] + string([]byte{same[last] + 1})
}

func (l layout) parseRecord(key []byte) (n keystore.Name, err error) {
	rest, ours := strings.CutPrefix(string(key), l.records)
	parts := strings.Split(rest, end)
	if !ours || len(parts) != 4 {
		return n, fmt.Errorf("%w: key %.300q", errForeign, key)
	}
	return keystore.Name{Kind: keystore.Kind(parts[0]), KM: parts[1], SAE: parts[2], ID: parts[3]}, nil
}

// parse reads a record with its key.
func (l layout) parse(kv *mvccpb.KeyValue) (*keystore.Record, error) {
	n, err := l.parseRecord(kv.Key)
	if err != nil {
		return nil, err
	}
	return decodeValue(n, kv.Value, kv.ModRevision)
}

// dueBefore returns what the key of a due time begins with, without the time.
func (l layout) dueBefore(km, sae string) string { return l.dues + km + end + sae + end }

// due returns the key that says when a record is due, "" if it never is.
func (l layout) due(r *keystore.Record) string {
	if r.Due.IsZero() {
		return ""
	}
	return l.dueBefore(r.KM, r.SAE) + encodeDue(r.Due) + string(r.Kind) + end + r.ID
}

// parseDue reads a key that begins with dueBefore(km, sae).
func (l layout) parseDue(key []byte, km, sae string) (n keystore.Name, due time.Time, ok bool) {
	rest, ours := strings.CutPrefix(string(key), l.dueBefore(km, sae))
	if !ours || len(rest) < dueSize {
		return n, due, false
	}
	kind, id, ok := strings.Cut(rest[dueSize:], end)
	return keystore.Name{Kind: keystore.Kind(kind), KM: km, SAE: sae, ID: id}, decodeDue(rest[:dueSize]), ok
}

// signBit is what makes negative numbers come before others.
const signBit = 1 << 63

func encodeDue(t time.Time) string {
	return string(binary.BigEndian.AppendUint64(nil, uint64(t.Unix())^signBit))
}

// decodeDue reads 8 octets.
func decodeDue(s string) time.Time {
	t := time.Unix(int64(binary.BigEndian.Uint64([]byte(s))^signBit), 0)
	if t.IsZero() {
		return time.Time{}
	}
	return t
}

func encodeValue(r *keystore.Record) string {
	return valueFormat + encodeDue(r.Due) + string(r.Value)
}

func decodeValue(n keystore.Name, value []byte, revision int64) (*keystore.Record, error) {
	if len(value) < 1+dueSize || value[0] != valueFormat[0] {
		return nil, fmt.Errorf("%w: %v", errForeign, n)
	}
	due := decodeDue(string(value[1 : 1+dueSize]))
	return &keystore.Record{Name: n, Due: due, Value: value[1+dueSize:], Version: revision}, nil
}
