package etcdstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/qkdmail/qkdmail/kmclient/keystore"
)

const (
	end         = "\x00" // of a part of a key
	afterEnd    = "\x01" // follows all that begins the same and goes on with end
	valueFormat = "\x01"
	dueSize     = 8
	maxPart     = 255 // octets of a part of a name
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

func (l layout) parseRecord(key []byte) (n keystore.Name, err error) {
	rest, ours := strings.CutPrefix(string(key), l.records)
	parts := strings.Split(rest, end)
	if !ours || len(parts) != 4 {
		return n, fmt.Errorf("%w: key %.300q", errForeign, key)
	}
	return keystore.Name{Kind: keystore.Kind(parts[0]), KM: parts[1], SAE: parts[2], ID: parts[3]}, nil
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

// checkName refuses what would be another record's key.
func checkName(n keystore.Name) error {
	for _, p := range []string{string(n.Kind), n.KM, n.SAE, n.ID} {
		if len(p) > maxPart || strings.Contains(p, end) {
			return fmt.Errorf("no record can have the name %.300q", n.String())
		}
	}
	return nil
}
