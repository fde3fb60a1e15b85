package engine

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/google/uuid"
)

// How SQL rows hold a record, whichever engine has the tables.

// NewVersion returns a version that no record has had or will have.
func NewVersion() int64 { return 1 + rand.Int64N(1<<62) }

// NotNull returns b, but never nil, which would be NULL.
func NotNull(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// FromTime returns a due time as Unix time in seconds, with 0 for never.
func FromTime(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}

// ToTime is the reverse of FromTime.
func ToTime(due int64) time.Time {
	if due == 0 {
		return time.Time{}
	}
	return time.Unix(due, 0)
}

// UUID returns a key ID as a UUID if it is one in canonical spelling: that takes 16
// bytes of a row. No two IDs give the same UUID.
func UUID(id string) (u uuid.UUID, ok bool) {
	u, err := uuid.Parse(id)
	return u, err == nil && u.String() == id
}

// NewClaim returns the record of a claim, which has only one state.
func NewClaim(n Name) *Record { return &Record{Name: n, Version: 1, Value: []byte{}} }

// CheckClaim returns an error unless a change makes a claim, the only change that a
// claim allows.
func CheckClaim(ch Change) error {
	if ch.Old != nil || len(ch.New.Value) > 0 || !ch.New.Due.IsZero() {
		return fmt.Errorf("a claim is only made, with neither value nor date: %v", ch.Name())
	}
	return nil
}
