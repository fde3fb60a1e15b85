package keydb

import (
	"bytes"
	"context"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/internal/sqlitedb"
	"github.com/qkdmail/qkdmail/kmclient/textfile"
)

// What an import reads at most, in octets.
const (
	MaxImport      = 1 << 30
	maxImportValue = MaxKeySize/8*4/3 + 64<<10 // of one value
)

const counterGenerated = "keys_generated" // the counter of the mock's IDs

// Import stores the keys of a JSON file of the reference system, or of
// kmclient's mock, in the pool "":
//
//	{"keys": {ID: base64, …}, "keys_generated": n, "last_updated": "…"}
//
// It returns how many were new. All are stored or none. A key that the
// database has already is passed over if its bytes are the same, and is an
// ErrExists if not. Members with other names are ignored. The file is read as
// a stream, up to MaxImport; nothing else can be written meanwhile, so r
// should be no slower than a disk.
func (db *DB) Import(ctx context.Context, r io.Reader) (imported int, err error) {
	err = db.write(ctx, func(c conn) error {
		pool, err := db.grow(c, "", 0)
		if err != nil {
			return err
		}
		in := &importer{ctx: ctx, conn: c, pool: pool, generated: -1, source: meter{r: textfile.NewReader(r)}}
		in.json = json.NewDecoder(&in.source)
		if err := in.run(); err != nil {
			return in.inFile(err)
		}
		if in.generated < 0 {
			in.generated = in.read
		}
		imported = int(in.added)
		_, err = db.grow(c, "", imported)
		return errors.Join(err, c.raise(counterGenerated, in.generated))
	})
	if err != nil {
		return 0, err
	}
	return imported, nil
}

// An importer reads one file.
type importer struct {
	ctx         context.Context
	conn        conn
	pool        int64
	source      meter
	json        *json.Decoder
	read, added int64 // keys
	generated   int64 // -1: not said
	keysSeen    bool
}

func (in *importer) run() error {
	if err := in.members(in.member); err != nil {
		return err
	}
	if !in.keysSeen {
		return errors.New(`no member "keys"`)
	}
	in.allow()
	if _, err := in.json.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows the JSON object")
	}
	return nil
}

// members reads a JSON object and calls value with the name of each member.
func (in *importer) members(value func(name string) error) error {
	in.allow()
	switch open, err := in.json.Token(); {
	case err != nil:
		return err
	case open != json.Delim('{'):
		return errors.New("not a JSON object")
	}
	for in.allow(); in.json.More(); in.allow() {
		name, err := in.json.Token()
		if err != nil {
			return err
		}
		text, ok := name.(string)
		if !ok {
			return errors.New("a name that is not text")
		}
		in.allow()
		if err := value(text); err != nil {
			return err
		}
	}
	_, err := in.json.Token()
	return err
}

func (in *importer) member(name string) error {
	switch name {
	case "keys":
		if in.keysSeen {
			return errors.New(`"keys" comes twice`)
		}
		in.keysSeen = true
		return in.members(in.key)
	case "keys_generated":
		var n *int64
		if err := in.json.Decode(&n); err != nil {
			return err
		}
		if n == nil || *n < 0 || *n > 1<<53 {
			return errors.New(`"keys_generated" is no count`)
		}
		in.generated = *n
		return nil
	}
	var ignored json.RawMessage
	err := in.json.Decode(&ignored)
	clear(ignored)
	return err
}

// key reads one key and stores it.
func (in *importer) key(id string) error {
	if in.ctx.Err() != nil {
		return kmclient.GaveUp(in.ctx)
	}
	var value json.RawMessage
	if err := in.json.Decode(&value); err != nil {
		return err
	}
	defer clear(value)
	octets, err := decodeBase64(value)
	if err == nil {
		err = checkKey(id, octets)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", strconv.QuoteToASCII(id), err)
	}
	defer clear(octets)
	in.read++
	err = in.conn.insert(in.pool, Grant{}, stateStored, id, mockTime(id), octets)
	if errors.Is(err, ErrExists) {
		return in.conn.sameKey(in.pool, id, octets)
	}
	in.added++
	return err
}

// sameKey reports whether the pool has this key, with these octets.
func (c conn) sameKey(pool int64, id string, octets []byte) error {
	var held []byte
	err := c.Row([]any{&held}, "SELECT octets FROM keys WHERE id=? AND pool=?", kmclient.CanonicalID(id), pool)
	defer clear(held)
	if errors.Is(err, sqlitedb.ErrNoRow) || err == nil && subtle.ConstantTimeCompare(held, octets) != 1 {
		return fmt.Errorf("%w, with other bytes: %s", ErrExists, id)
	}
	return err
}

// decodeBase64 decodes a JSON string of standard base64 with its padding only.
func decodeBase64(value []byte) ([]byte, error) {
	if len(value) < 2 || value[0] != '"' {
		return nil, errors.New("a key that is not a string")
	}
	text := bytes.ReplaceAll(value[1:len(value)-1], []byte(`\/`), []byte("/")) // as some write it
	defer clear(text)
	octets := make([]byte, base64.StdEncoding.DecodedLen(len(text)))
	n, err := base64.StdEncoding.Strict().Decode(octets, text)
	if err != nil || bytes.ContainsAny(text, "\\\r\n") { // encoding/base64 skips line breaks
		clear(octets)
		return nil, errors.New("a key that is not base64")
	}
	return octets[:n], nil
}

// inFile says where in the file err is, without the words of encoding/json,
// which quote the file.
func (in *importer) inFile(err error) error {
	if in.source.err != nil {
		err = in.source.err
	} else if _, ok := errors.AsType[*json.SyntaxError](err); ok {
		err = errors.New("not JSON")
	} else if _, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		err = errors.New("a value of the wrong type")
	} else if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = errors.New("it ends too early")
	}
	return fmt.Errorf("%w: octet %d: %w", ErrImport, in.json.InputOffset(), err)
}

// allow lets the JSON decoder read one more value, but not more.
func (in *importer) allow() {
	in.source.limit = min(in.json.InputOffset()+maxImportValue, MaxImport)
}

// A meter reads up to a limit that can be moved on.
type meter struct {
	r           io.Reader
	read, limit int64
	err         error // other than the end of the file
}

func (m *meter) Read(p []byte) (int, error) {
	if m.err != nil {
		return 0, m.err
	}
	left := m.limit - m.read
	if left <= 0 {
		m.err = errors.New("too large a file, or a value in it")
		return 0, m.err
	}
	n, err := m.r.Read(p[:min(int64(len(p)), left)])
	m.read += int64(n)
	if err != nil && err != io.EOF {
		m.err = err
	}
	return n, err
}

// Export writes the keys of the pool "" as the reference system has them in
// its file, as a stream; see [DB.Import]. What was written before an error is
// of no use. Whoever gets the file has the keys.
func (db *DB) Export(ctx context.Context, w io.Writer) error {
	out := NewFileWriter(w)
	var generated int
	err := db.read(ctx, func(c conn) (err error) {
		if generated, err = c.generated(); err != nil {
			return err
		}
		return c.Rows(func(scan sqlitedb.Scan) error {
			var id string
			var octets []byte
			if err := scan(&id, &octets); err != nil {
				return err
			}
			defer clear(octets)
			if ctx.Err() != nil {
				return kmclient.GaveUp(ctx)
			}
			return out.Add(id, octets)
		}, "SELECT spelled, octets FROM keys WHERE pool=(SELECT id FROM pools WHERE name='') ORDER BY seq")
	})
	if err != nil {
		return err
	}
	return out.Close(int64(generated))
}

// generated returns how many keys the mock has made.
func (db *DB) generated(ctx context.Context) (n int, err error) {
	err = db.read(ctx, func(c conn) (err error) {
		n, err = c.generated()
		return err
	})
	return n, err
}

func (c conn) generated() (n int, err error) {
	err = c.Row([]any{&n}, "SELECT coalesce(max(value), 0) FROM counters WHERE name=?", counterGenerated)
	return n, err
}

// raise sets a counter that never goes back.
func (c conn) raise(name string, value int64) error {
	return c.Exec("INSERT INTO counters (name, value) VALUES (?, ?) ON CONFLICT DO UPDATE SET value=max(value, excluded.value)", name, value)
}
