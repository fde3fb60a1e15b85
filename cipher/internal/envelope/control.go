package envelope

import (
	"encoding/binary"
	"fmt"
	"iter"
	"strconv"
	"strings"
	"time"
)

// maxControl is the largest size of a decoded control part, in bytes.
const maxControl = 4096

// MaxValue is the longest value in a control part, in bytes.
const MaxValue = 255

// Control is the control part: what a reader must know before it asks for a
// key. Values are 1 to 255 bytes of printable US-ASCII without blanks.
type Control struct {
	Suite        string
	Time         time.Time // whole seconds
	SenderSAE    string    // "-" where none is configured
	RecipientSAE string
	KeyID        string
}

// values returns the values of the fields, in the order of Octets.
func (c *Control) values() [len(fieldNames) - 1]string {
	return [...]string{c.Suite, strconv.FormatInt(c.Time.Unix(), 10), c.SenderSAE, c.RecipientSAE, c.KeyID}
}

// Check reports an error if a control part can't have one of the values.
func (c *Control) Check() error {
	if c.Time.Unix() < 0 {
		return fmt.Errorf("%w: control part: Time %d", ErrDamaged, c.Time.Unix())
	}
	for i, v := range c.values() {
		if err := checkValue(fieldNames[i+1], v); err != nil {
			return err
		}
	}
	return nil
}

// Octets returns the control octets, which every suite authenticates. They are
// made from the values and not copied from the message, since mail systems
// re-wrap and re-encode parts.
func (c *Control) Octets() []byte {
	b := append(make([]byte, 0, 256), "qkdmail/1\n"...)
	for _, v := range c.values() {
		b = binary.BigEndian.AppendUint16(b, uint16(len(v)))
		b = append(b, v...)
	}
	return b
}

// fieldNames are the fields of a control part: Version, then the values in the
// order of Octets.
var fieldNames = [...]string{"Version", "Suite", "Time", "Sender-SAE", "Recipient-SAE", "Key-ID"}

// Text returns the control part, with LF line ends.
func (c *Control) Text() string {
	b := make([]byte, 0, 256)
	b = append(append(b, fieldNames[0]...), ": 1\n"...)
	for i, v := range c.values() {
		b = append(b, fieldNames[i+1]...)
		b = append(b, ": "...)
		b = append(b, v...)
		b = append(b, '\n')
	}
	return string(b)
}

// ParseControl reads a decoded control part: one field per line, each exactly once, in
// any order, with names in any case. Blanks around names and values are ignored.
func ParseControl(text []byte) (*Control, error) {
	if len(text) > maxControl {
		return nil, fmt.Errorf("%w: control part over %d bytes", ErrDamaged, maxControl)
	}
	if err := checkVersion(string(text)); err != nil {
		return nil, err
	}
	var values [len(fieldNames)]string
	for name, value := range controlFields(string(text)) {
		i := fieldIndex(name)
		if i < 0 {
			return nil, fmt.Errorf("%w: control part: unknown field %.40q", ErrDamaged, name)
		}
		if values[i] != "" {
			return nil, fmt.Errorf("%w: control part: %s twice", ErrDamaged, fieldNames[i])
		}
		if err := checkValue(fieldNames[i], value); err != nil {
			return nil, err
		}
		values[i] = value
	}
	return fromValues(values)
}

// controlFields yields the lines of a control part as names and values. A line
// without a colon is a name without a value.
func controlFields(text string) iter.Seq2[string, string] {
	return func(yield func(name, value string) bool) {
		for line := range strings.SplitSeq(text, "\n") {
			line = strings.Trim(strings.TrimSuffix(line, "\r"), " \t")
			name, value, _ := strings.Cut(line, ":")
			if line != "" && !yield(strings.TrimRight(name, " \t"), strings.TrimLeft(value, " \t")) {
				return
			}
		}
	}
}

// checkVersion reports a version other than 1. It comes first, since everything else
// may mean something different in another version.
func checkVersion(text string) error {
	for name, value := range controlFields(text) {
		if equalFold(name, fieldNames[0]) && value != "1" {
			return fmt.Errorf("%w %.20q", ErrVersion, value)
		}
	}
	return nil
}

func fromValues(values [len(fieldNames)]string) (*Control, error) {
	for i, v := range values {
		if v == "" {
			return nil, fmt.Errorf("%w: control part: no %s", ErrDamaged, fieldNames[i])
		}
	}
	sec, err := strconv.ParseInt(values[2], 10, 64)
	// A time has one spelling, since Octets makes it from its value.
	if err != nil || sec < 0 || strconv.FormatInt(sec, 10) != values[2] {
		return nil, fmt.Errorf("%w: control part: Time %.40q", ErrDamaged, values[2])
	}
	return &Control{
		Suite:        values[1],
		Time:         time.Unix(sec, 0).UTC(),
		SenderSAE:    values[3],
		RecipientSAE: values[4],
		KeyID:        values[5],
	}, nil
}

func fieldIndex(name string) int {
	for i, n := range fieldNames {
		if equalFold(n, name) {
			return i
		}
	}
	return -1
}

func checkValue(name, v string) error {
	if len(v) < 1 || len(v) > MaxValue {
		return fmt.Errorf("%w: control part: %s of %d bytes: must be 1 to %d", ErrDamaged, name, len(v), MaxValue)
	}
	for i := range len(v) {
		if v[i] < 0x21 || v[i] > 0x7E {
			return fmt.Errorf("%w: control part: %s has a byte outside of 0x21 to 0x7E", ErrDamaged, name)
		}
	}
	return nil
}
