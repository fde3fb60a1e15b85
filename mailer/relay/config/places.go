package config

import (
	"bytes"
	"fmt"
	"strconv"

	"github.com/pelletier/go-toml/v2/unstable"
	"github.com/qkdmail/qkdmail/mailer/internal/readable"
)

// maxKeyDepth is how many parts of a dotted key are looked at. The configuration has two.
const maxKeyDepth = 3

// keyLines returns the line of each key and table of a TOML text, by its path as subKey
// makes it. The text has no errors.
func keyLines(text []byte) map[string]int {
	k := &keyFinder{text: text, line: 1, lines: map[string]int{}, entries: map[string]int{}}
	var p unstable.Parser
	p.Reset(text)
	var table string
	var depth int
	for p.NextExpression() {
		switch e := p.Expression(); e.Kind {
		case unstable.Table, unstable.ArrayTable:
			table, depth = k.path("", 0, e.Key(), e.Kind == unstable.ArrayTable)
		case unstable.KeyValue:
			k.keyValue(table, depth, e)
		}
	}
	return k.lines
}

type keyFinder struct {
	text    []byte
	offset  int // up to here lines were counted
	line    int // the line of offset
	lines   map[string]int
	entries map[string]int // how many an array of tables has so far
}

// path extends prefix by a dotted key, notes its line and returns it with its
// depth. A part that is an array of tables means its last entry.
func (k *keyFinder) path(prefix string, depth int, key unstable.Iterator, newEntry bool) (string, int) {
	for key.Next() && depth < maxKeyDepth {
		part := key.Node()
		prefix = subKey(prefix, string(part.Data))
		if newEntry && key.IsLast() {
			k.entries[prefix]++
		}
		if n := k.entries[prefix]; n > 0 {
			prefix = entryKey(prefix, n-1)
		}
		if _, ok := k.lines[prefix]; !ok {
			k.lines[prefix] = k.lineOf(int(part.Raw.Offset))
		}
		depth++
	}
	return prefix, depth
}

// keyValue notes a key, and those in the inline tables of its value.
func (k *keyFinder) keyValue(prefix string, depth int, e *unstable.Node) {
	prefix, depth = k.path(prefix, depth, e.Key(), false)
	k.value(prefix, depth, e.Value())
}

func (k *keyFinder) value(prefix string, depth int, v *unstable.Node) {
	if depth >= maxKeyDepth {
		return
	}
	it := v.Children()
	switch v.Kind {
	case unstable.InlineTable:
		for it.Next() {
			k.keyValue(prefix, depth, it.Node())
		}
	case unstable.Array:
		for i := 0; it.Next(); i++ {
			k.value(entryKey(prefix, i), depth+1, it.Node())
		}
	}
}

// lineOf returns the line of an offset. Offsets come in ascending order.
func (k *keyFinder) lineOf(offset int) int {
	if offset > k.offset {
		k.line += bytes.Count(k.text[k.offset:offset], []byte("\n"))
		k.offset = offset
	}
	return k.line
}

// subKey returns the path of a key within a table, quoted if it is not a bare key.
func subKey(table, key string) string {
	if !readable.IsName(key) {
		key = strconv.Quote(readable.Short(key))
	}
	if table == "" {
		return key
	}
	return table + "." + key
}

// entryKey returns the path of an entry of an array.
func entryKey(array string, index int) string { return fmt.Sprintf("%s[%d]", array, index) }
