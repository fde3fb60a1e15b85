package kmclient

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/qkdmail/qkdmail/kmclient/internal/fakekm"
)

func TestCheckKeys(t *testing.T) {
	a, b := fakekm.RandomBytes(32), fakekm.RandomBytes(32)
	key := func(id string, secret []byte) *Key { return NewKey(id, bytes.Clone(secret)) }
	for name, test := range map[string]struct {
		keys         []*Key
		size, number int
		good         bool
	}{
		"two keys":             {[]*Key{key("1", a), key("2", b)}, 256, 2, true},
		"none asked, none got": {nil, 256, 0, true},
		"any size":             {[]*Key{key("1", a), key("2", b[:16])}, 0, 2, true},
		"another size":         {[]*Key{key("1", a), key("2", b[:31])}, 256, 2, false},
		"too few":              {[]*Key{key("1", a)}, 256, 2, false},
		"too many":             {[]*Key{key("1", a), key("2", b)}, 256, 1, false},
		"same ID":              {[]*Key{key("1", a), key("1", b)}, 256, 2, false},
		"same UUID in other case": {[]*Key{
			key("9b42e9e2-0a1b-4c2d-8e3f-0123456789ab", a), key("9B42E9E2-0A1B-4C2D-8E3F-0123456789AB", b),
		}, 256, 2, false},
		"same bytes":               {[]*Key{key("1", a), key("2", a)}, 256, 2, false},
		"all bytes zero":           {[]*Key{key("1", make([]byte, 32))}, 256, 1, false},
		"all bytes equal":          {[]*Key{key("1", bytes.Repeat([]byte{0x41}, 8))}, 64, 1, false},
		"one byte is always equal": {[]*Key{key("1", a[:1]), key("2", a[:1])}, 8, 2, true},
		"empty key":                {[]*Key{key("1", nil)}, 0, 1, false},
		"no ID":                    {[]*Key{key("", a)}, 256, 1, false},
		"ID with a space":          {[]*Key{key("a b", a)}, 256, 1, false},
	} {
		err := CheckKeys(test.keys, test.size, test.number)
		switch {
		case test.good && err != nil:
			t.Errorf("%s: refused: %v", name, err)
		case !test.good && !errors.Is(err, ErrBadKey):
			t.Errorf("%s: got %v, want an ErrBadKey", name, err)
		case err != nil && (fakekm.Shows(err.Error(), a) || fakekm.Shows(err.Error(), b)):
			t.Errorf("%s: the error shows a key", name)
		}
	}
}

func TestCheckIDs(t *testing.T) {
	const id = "9b42e9e2-0a1b-4c2d-8e3f-0123456789ab"
	many := make([]string, MaxRequestKeys+1)
	for i := range many {
		many[i] = fmt.Sprint(i)
	}
	for name, test := range map[string]struct {
		ids  []string
		good bool
	}{
		"one":           {[]string{id}, true},
		"two":           {[]string{id, "1"}, true},
		"as many as go": {many[1:], true},
		"none":          {nil, false},
		"too many":      {many, false},
		"twice":         {[]string{"1", "1"}, false},
		"a UUID twice":  {[]string{id, strings.ToUpper(id)}, false},
		"no ID":         {[]string{"1", ""}, false},
	} {
		if err := CheckIDs(test.ids); test.good && err != nil || !test.good && !errors.Is(err, ErrBadRequest) {
			t.Errorf("%s: %v, want good: %t", name, err, test.good)
		}
	}
}

func TestCheckSize(t *testing.T) {
	for size, good := range map[int]bool{8: true, 256: true, 1 << 20: true, 0: false, -8: false, 7: false, 255: false} {
		err := CheckSize(size)
		if good && err != nil || !good && !errors.Is(err, ErrBadRequest) {
			t.Errorf("CheckSize(%d) = %v, want good: %t", size, err, good)
		}
	}
}
