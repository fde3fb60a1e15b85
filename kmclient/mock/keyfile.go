package mock

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/internal/keyjson"
	"github.com/qkdmail/qkdmail/kmclient/internal/redact"
)

// The members of the file. The reference system does not know the last one, and drops
// it when it writes the file.
const (
	memberKeys      = "keys"
	memberGenerated = "keys_generated"
	memberUpdated   = "last_updated"
	memberStates    = "key_states"
)

// A keyFile is the content of the file:
//
//	{"keys": {ID: base64, …}, "keys_generated": n, "last_updated": "…", "key_states": {ID: "in_use", …}}
//
// A key without a state is in state stored. The mock gives a state only to keys that it
// has made itself, so that reading another program's file does not change it.
//
// A keyFile keeps the order of everything, and members that it does not know, so that a
// diff of the file shows only what has changed.
type keyFile struct {
	keys      []storedKey
	index     map[string]int            // of keys, by CanonicalID
	generated int64                     // the number in the last ID
	updated   string                    // as Python's datetime.isoformat writes it
	states    map[string]kmclient.State // by CanonicalID; only while the file is parsed
	members   []member                  // in their order
}

type storedKey struct {
	id     string         // accepted by CheckID
	secret []byte         // at least one byte
	state  kmclient.State // StateInUse, StateUsed, or "" for StateStored
}

// A member is a member of the JSON object. value is nil if keyFile has a field for it.
type member struct {
	name  string
	value json.RawMessage
}

// newKeyFile returns the content of a file that does not exist yet.
func newKeyFile() *keyFile {
	return &keyFile{
		index:   map[string]int{},
		members: []member{{name: memberKeys}, {name: memberGenerated}, {name: memberUpdated}},
	}
}

// parseKeyFile parses a file. It refuses what it could not write back without loss. Its
// errors quote no key.
func parseKeyFile(data []byte) (*keyFile, error) {
	f := &keyFile{index: map[string]int{}, generated: -1}
	d := json.NewDecoder(bytes.NewReader(data))
	err := eachMember(d, func(name string) error {
		if slices.ContainsFunc(f.members, func(m member) bool { return m.name == name }) {
			return fmt.Errorf("%q comes twice", name)
		}
		value, err := f.parseMember(d, name)
		f.members = append(f.members, member{name, value})
		return err
	})
	if err != nil {
		return nil, inFile(d, err)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, inFile(d, errors.New("something follows the JSON object"))
	}
	return f, f.complete()
}

// complete adds the members that are missing: a file may have only "keys".
func (f *keyFile) complete() error {
	for _, name := range []string{memberKeys, memberGenerated, memberUpdated} {
		if slices.ContainsFunc(f.members, func(m member) bool { return m.name == name }) {
			continue
		}
		if name == memberKeys {
			return errors.New(`no member "keys"`)
		}
		f.members = append(f.members, member{name: name})
	}
	if f.generated < 0 {
		f.generated = int64(len(f.keys))
	}
	for i := range f.keys {
		f.keys[i].state = f.states[kmclient.CanonicalID(f.keys[i].id)]
	}
	f.states = nil
	return nil
}

// parseMember parses the value of a member.
func (f *keyFile) parseMember(d *json.Decoder, name string) (json.RawMessage, error) {
	switch name {
	case memberKeys:
		return nil, eachMember(d, func(id string) error { return f.parseKey(d, id) })
	case memberGenerated:
		var n *int64
		if err := d.Decode(&n); err != nil {
			return nil, err
		}
		if n == nil || *n < 0 || *n > 1<<53 {
			return nil, fmt.Errorf("%q is not a count", name)
		}
		f.generated = *n
		return nil, nil
	case memberUpdated:
		return nil, d.Decode(&f.updated)
	case memberStates:
		f.states = map[string]kmclient.State{}
		return nil, eachMember(d, func(id string) error { return f.parseState(d, id) })
	}
	var value json.RawMessage
	err := d.Decode(&value)
	return value, err
}

func (f *keyFile) parseKey(d *json.Decoder, id string) error {
	if err := kmclient.CheckID(id); err != nil {
		return err
	}
	var key keyjson.Bytes
	if err := d.Decode(&key); err != nil {
		return fmt.Errorf("%s: %w", id, err)
	}
	if len(key) == 0 {
		return fmt.Errorf("%s: a key without bytes", id)
	}
	if !f.add(id, key) {
		return fmt.Errorf("the key ID %s comes twice", id)
	}
	return nil
}

func (f *keyFile) parseState(d *json.Decoder, id string) error {
	var state kmclient.State
	if err := d.Decode(&state); err != nil {
		return err
	}
	if state != kmclient.StateInUse && state != kmclient.StateUsed {
		return fmt.Errorf("%q is not a state of a key", redact.Line(string(state)))
	}
	f.states[kmclient.CanonicalID(id)] = state
	return nil
}

// eachMember reads a JSON object from d. For each member it calls value, which reads
// the value from d, with the member's name.
func eachMember(d *json.Decoder, value func(name string) error) error {
	if open, err := d.Token(); err != nil || open != json.Delim('{') {
		return cmp.Or(err, errors.New("not a JSON object"))
	}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return err
		}
		text, ok := name.(string)
		if !ok || strings.ContainsRune(text, utf8.RuneError) {
			return errors.New("a name that is not text")
		}
		if err := value(text); err != nil {
			return err
		}
	}
	_, err := d.Token()
	return err
}

// inFile adds the position in the file to err. It replaces errors of encoding/json,
// which quote the file.
func inFile(d *json.Decoder, err error) error {
	if _, ok := errors.AsType[*json.SyntaxError](err); ok {
		err = errors.New("not JSON")
	} else if _, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		err = errors.New("a value of the wrong type")
	} else if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = errors.New("it ends too early")
	}
	return fmt.Errorf("byte %d: %w", d.InputOffset(), err)
}

// add appends a key, unless there is one with its ID.
func (f *keyFile) add(id string, secret []byte) bool {
	name := kmclient.CanonicalID(id)
	if _, taken := f.index[name]; taken {
		return false
	}
	f.index[name] = len(f.keys)
	f.keys = append(f.keys, storedKey{id: id, secret: secret})
	return true
}

// setState sets the state of a key, and reports whether it has changed.
func (f *keyFile) setState(id string, state kmclient.State) bool {
	i, ok := f.index[kmclient.CanonicalID(id)]
	if !ok || f.keys[i].state == state {
		return false
	}
	f.keys[i].state = state
	if !slices.ContainsFunc(f.members, func(m member) bool { return m.name == memberStates }) {
		f.members = append(f.members, member{name: memberStates})
	}
	return true
}

// find returns the key with this ID.
func (f *keyFile) find(id string) (storedKey, bool) {
	i, ok := f.index[kmclient.CanonicalID(id)]
	if !ok {
		return storedKey{}, false
	}
	return f.keys[i], true
}

// copyOf returns a copy of the key with this ID, or nil.
func (f *keyFile) copyOf(id string) *kmclient.Key {
	k, ok := f.find(id)
	if !ok {
		return nil
	}
	key := kmclient.NewKey(k.id, bytes.Clone(k.secret))
	if k.state != "" {
		key.SetState(k.state)
	}
	return key
}

// remove clears and removes the key with this ID.
func (f *keyFile) remove(id string) bool {
	name := kmclient.CanonicalID(id)
	gone, ok := f.index[name]
	if !ok {
		return false
	}
	clear(f.keys[gone].secret)
	f.keys = slices.Delete(f.keys, gone, gone+1)
	delete(f.index, name)
	for name, i := range f.index {
		if i > gone {
			f.index[name] = i - 1
		}
	}
	return true
}

// freshID returns an ID that was never used: the counter never goes back, and an ID
// that is already in the file, for whatever reason, is skipped.
func (f *keyFile) freshID(now time.Time) string {
	for {
		f.generated++
		id := keyID(f.generated, now)
		if _, taken := f.index[kmclient.CanonicalID(id)]; !taken {
			return id
		}
	}
}

// keyID returns the ID of the key with this number.
func keyID(number int64, made time.Time) string {
	return fmt.Sprintf("MOCK-KEY-%08d-%s", number, made.Format("20060102150405"))
}

// encode returns the file as Python's json.dump(…, indent=2) writes it.
func (f *keyFile) encode() []byte {
	size := 256
	for _, k := range f.keys {
		size += 2*len(k.id) + base64.StdEncoding.EncodedLen(len(k.secret)) + 40
	}
	for _, m := range f.members {
		size += len(m.name) + 2*len(m.value) + 16
	}
	out := append(make([]byte, 0, size), '{')
	for _, m := range f.members {
		if m.name == memberStates && !slices.ContainsFunc(f.keys, func(k storedKey) bool { return k.state != "" }) {
			continue
		}
		if len(out) > 1 {
			out = append(out, ',')
		}
		out = append(appendString(append(out, "\n  "...), m.name), ": "...)
		switch m.name {
		case memberKeys:
			out = f.appendKeys(out)
		case memberGenerated:
			out = strconv.AppendInt(out, f.generated, 10)
		case memberUpdated:
			out = appendString(out, f.updated)
		case memberStates:
			out = f.appendStates(out)
		default:
			out = appendIndented(out, m.value)
		}
	}
	return append(out, "\n}"...)
}

func (f *keyFile) appendKeys(out []byte) []byte {
	if len(f.keys) == 0 {
		return append(out, "{}"...)
	}
	out = append(out, '{')
	for i, k := range f.keys {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(appendString(append(out, "\n    "...), k.id), `: "`...)
		out = append(base64.StdEncoding.AppendEncode(out, k.secret), '"')
	}
	return append(out, "\n  }"...)
}

func (f *keyFile) appendStates(out []byte) []byte {
	before := "{\n    "
	for _, k := range f.keys {
		if k.state != "" {
			out = append(appendString(append(out, before...), k.id), ": "...)
			out = appendString(out, string(k.state))
			before = ",\n    "
		}
	}
	return append(out, "\n  }"...)
}

// appendString appends a JSON string in US-ASCII as Python writes it.
func appendString(out []byte, s string) []byte {
	out = append(out, '"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			out = append(out, '\\', byte(r))
		case r >= ' ' && r <= '~':
			out = append(out, byte(r))
		case r > 0xFFFF:
			hi, lo := utf16.EncodeRune(r)
			out = fmt.Appendf(out, `\u%04x\u%04x`, hi, lo)
		default:
			out = fmt.Appendf(out, `\u%04x`, r)
		}
	}
	return append(out, '"')
}

// appendIndented appends a value, which is known to be JSON.
func appendIndented(out []byte, value json.RawMessage) []byte {
	var b bytes.Buffer
	if err := json.Indent(&b, value, "  ", "  "); err != nil {
		return append(out, value...)
	}
	return append(out, b.Bytes()...)
}
