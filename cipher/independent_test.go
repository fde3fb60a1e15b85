package cipher_test

// A second reader of the message format, written from docs/format.md alone, using only
// Go's standard library. It shares no code with the package under test: if the two
// differ, one of them or the page is wrong. It is written for comparison with the page,
// so it simply holds the whole message in memory. The sections (§) are those of that
// page.

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/quotedprintable"
	"regexp"
	"slices"
	"strings"
)

var (
	errIndNotOurs = errors.New("ind: ordinary mail")
	errIndDamaged = errors.New("ind: structure is broken")
	errIndVersion = errors.New("ind: unknown version")
	errIndSAE     = errors.New("ind: not from our peer to us")
	errIndSuite   = errors.New("ind: unknown suite")
	errIndHybrid  = errors.New("ind: no private key for X-Wing")
	errIndKey     = errors.New("ind: unknown or wrong key")
	errIndAltered = errors.New("ind: content was altered")
)

const (
	indPiece   = 65536   // most bytes of plaintext in a chunk or frame
	indMaxKeys = 262144  // most keys in an OTP message
	indMaxIDs  = 1 << 24 // most bytes of their IDs together
)

func indDamaged(format string, args ...any) error { return indErr(errIndDamaged, format, args...) }

func indErr(sentinel error, format string, args ...any) error {
	return fmt.Errorf("%w: %s", sentinel, fmt.Sprintf(format, args...))
}

func indMust[T any](v T, err error) T {
	if err != nil {
		panic(err) // can't happen
	}
	return v
}

// An indReader is a reader with its keys and SAE IDs.
type indReader struct {
	keys      map[string][]byte // by ID, as spelled
	seeds     [][]byte          // private keys for X-Wing
	sae, peer string            // SAE IDs of the reader and its peer, "" for none
	asked     int               // keys that it asked for
	begin     []byte            // fingerprint and enc of the message being read
}

// open reads a message as docs/format.md describes. It returns the original message and
// the digests of its recipients.
func (r *indReader) open(outer []byte) (message []byte, recipients [][]byte, err error) {
	top := indParse(outer)
	var found []indPair
	if err := indWalk(top, 1, &found); err != nil {
		return nil, nil, err
	}
	named := top.all("qkdmail-key-id")
	switch {
	case len(found) == 0 && len(named) == 0:
		return nil, nil, errIndNotOurs
	case len(found) == 0:
		return nil, nil, indDamaged("Qkdmail-Key-ID without a control part")
	case len(found) > 1:
		return nil, nil, indDamaged("%d control parts", len(found))
	}
	control, err := indControl(found[0].control)
	if err != nil {
		return nil, nil, err
	}
	for _, id := range named {
		if indIDValue(id) != indIDValue(control["key-id"]) {
			return nil, nil, indDamaged("Qkdmail-Key-ID names another key")
		}
	}
	// This comes before a key is asked for (§3). "-" means that no SAE ID is
	// configured, so it is not the reader's own.
	own, sender := indSAE(r.sae), control["sender-sae"]
	if control["recipient-sae"] != own || sender != indSAE(r.peer) || r.sae != "" && sender == own {
		return nil, nil, indErr(errIndSAE, "from %s to %s", sender, control["recipient-sae"])
	}
	payload, err := indPayload(found[0].payload)
	if err != nil {
		return nil, nil, err
	}
	plaintext, err := r.openPayload(payload, control)
	if err != nil {
		return nil, nil, err
	}
	return indMessage(plaintext)
}

// openPayload opens the payload of any suite.
func (r *indReader) openPayload(payload []byte, control map[string]string) (plaintext []byte, err error) {
	plain, hybrid := strings.CutSuffix(control["suite"], "+X-WING")
	open := r.openGCM
	switch plain {
	case "AES-256-GCM":
	case "OTP":
		open = r.openOTP
	default:
		return nil, indErr(errIndSuite, "%q", control["suite"])
	}
	var secret []byte
	if hybrid {
		if secret, payload, err = r.openSecret(payload, control); err != nil {
			return nil, err
		}
	}
	return open(payload, control, secret)
}

// ---- §2.2 MIME

// indEntity is a message or a part of one.
type indEntity struct {
	fields []string // unfolded
	body   []byte
}

// indPair is a control part and what follows it.
type indPair struct{ control, payload indEntity }

var ( // A CR alone is not a line end.
	indLineEnd   = regexp.MustCompile(`\r?\n`)
	indFold      = regexp.MustCompile(`\r?\n([ \t])`)
	indHeaderEnd = regexp.MustCompile(`(^|\r?\n)\r?\n`)
)

// indLower changes only US-ASCII letters.
func indLower(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' {
			r += 'a' - 'A'
		}
		return r
	}, s)
}

func indParse(data []byte) indEntity {
	header, body := data, []byte(nil)
	if at := indHeaderEnd.FindIndex(data); at != nil {
		header, body = data[:at[0]], data[at[1]:]
	}
	return indEntity{indLineEnd.Split(indFold.ReplaceAllString(string(header), "$1"), -1), body}
}

// all returns the values of all fields with that name (in lower case).
func (e indEntity) all(name string) (values []string) {
	for _, f := range e.fields {
		if n, value, ok := strings.Cut(f, ":"); ok && indLower(strings.TrimRight(n, " \t")) == name {
			values = append(values, strings.Trim(value, " \t"))
		}
	}
	return values
}

// first returns the value of the first field with that name.
func (e indEntity) first(name string) string { return append(e.all(name), "")[0] }

// mediaType returns the type, in lower case, and the parameters, if readable.
func (e indEntity) mediaType() (string, map[string]string) {
	field := e.first("content-type")
	name, _, _ := strings.Cut(field, ";")
	_, params, _ := mime.ParseMediaType(field)
	return indLower(strings.Trim(name, " \t")), params
}

func (e indEntity) is(mediaType string) bool {
	t, _ := e.mediaType()
	return t == mediaType
}

// indSplit cuts the body of a multipart into its parts. The line end before a
// delimiter belongs to the delimiter.
func indSplit(body []byte, boundary string) (parts []indEntity) {
	delimiter, err := regexp.Compile(`(?:^|\r?\n)--` + regexp.QuoteMeta(boundary) + `(--)?[ \t]*(?:\r?\n|$)`)
	if err != nil || boundary == "" {
		return nil
	}
	for inside := false; ; inside = true {
		at := delimiter.FindSubmatchIndex(body)
		if at == nil { // no closing delimiter
			at = []int{len(body), len(body), 0, 0}
		}
		if inside {
			parts = append(parts, indParse(body[:at[0]]))
		}
		if at[2] >= 0 {
			return parts
		}
		body = body[at[1]:]
	}
}

// indWalk looks for control parts in e, which is depth deep.
func indWalk(e indEntity, depth int, found *[]indPair) error {
	t, params := e.mediaType()
	if depth > 4 || !strings.HasPrefix(t, "multipart/") {
		return nil
	}
	parts := indSplit(e.body, params["boundary"])
	const control, payload = "application/vnd.qkdmail", "application/octet-stream"
	if t == "multipart/encrypted" && indLower(params["protocol"]) == control &&
		(len(parts) != 2 || !parts[0].is(control) || !parts[1].is(payload)) {
		return indDamaged("multipart/encrypted isn't a control part and a payload")
	}
	for i, p := range parts {
		if !p.is(control) {
			if err := indWalk(p, depth+1, found); err != nil {
				return err
			}
			continue
		}
		if i+1 == len(parts) || !parts[i+1].is(payload) {
			return indDamaged("no payload after the control part")
		}
		*found = append(*found, indPair{p, parts[i+1]})
	}
	return nil
}

// indPayload undoes the strict base64 of §2.3.
func indPayload(part indEntity) ([]byte, error) {
	if indLower(part.first("content-transfer-encoding")) != "base64" {
		return nil, indDamaged("the payload is not in base64")
	}
	text := indLineEnd.ReplaceAll(part.body, nil)
	payload, err := base64.StdEncoding.Strict().AppendDecode(nil, text)
	if err != nil || bytes.IndexByte(text, '\r') >= 0 { // Go skips a CR
		return nil, indDamaged("payload: a bare CR or %v", err)
	}
	return payload, nil
}

// ---- §3 The control part

var indFields = []string{"version", "suite", "time", "sender-sae", "recipient-sae", "key-id"}

var indTime = regexp.MustCompile(`^(0|[1-9][0-9]*)$`)

// indControl returns the values of the control part by lower-case name.
func indControl(part indEntity) (map[string]string, error) {
	var body io.Reader = bytes.NewReader(part.body)
	switch cte := indLower(part.first("content-transfer-encoding")); cte {
	case "", "7bit", "8bit", "binary":
	case "quoted-printable":
		body = quotedprintable.NewReader(body)
	case "base64": // blanks are allowed here (RFC 2045 §6.8)
		body = base64.NewDecoder(base64.StdEncoding, strings.NewReader(strings.Join(strings.Fields(string(part.body)), "")))
	default:
		return nil, indDamaged("control part: transfer encoding %q", cte)
	}
	text, err := io.ReadAll(io.LimitReader(body, 4097))
	if err != nil || len(text) > 4096 {
		return nil, indDamaged("control part: too long or %v", err)
	}
	values := map[string]string{}
	var problem error
	for _, line := range indLineEnd.Split(string(text), -1) {
		field := strings.Trim(line, " \t")
		if field == "" {
			continue
		}
		name, value, ok := strings.Cut(field, ":")
		name, value = indLower(strings.Trim(name, " \t")), strings.Trim(value, " \t")
		_, twice := values[name]
		if !ok || twice || !slices.Contains(indFields, name) || !indVisible(value) {
			problem = indDamaged("control part: line %q", field)
		}
		if !twice {
			values[name] = value
		}
	}
	// The version comes first: another one may have other fields.
	if v := values["version"]; indVisible(v) && v != "1" {
		return nil, indErr(errIndVersion, "%q", v)
	}
	if problem == nil && (len(values) != len(indFields) || !indTime.MatchString(values["time"])) {
		problem = indDamaged("control part: a field is missing, or Time is no number")
	}
	return values, problem
}

// indVisible reports whether v is 1 to 255 bytes from 0x21 to 0x7E.
func indVisible(v string) bool {
	for i := range len(v) {
		if v[i] < 0x21 || v[i] > 0x7E {
			return false
		}
	}
	return len(v) >= 1 && len(v) <= 255
}

// indSAE spells an SAE ID as the control part does.
func indSAE(id string) string {
	switch id {
	case "":
		return "-"
	case "-":
		return "%2D"
	}
	var out strings.Builder
	for i := range len(id) {
		if c := id[i]; c < 0x21 || c > 0x7E || c == '%' {
			fmt.Fprintf(&out, "%%%02X", c)
		} else {
			out.WriteByte(c)
		}
	}
	return out.String()
}

// indControlOctets is what the suites authenticate (§3.1).
func indControlOctets(control map[string]string) []byte {
	out := []byte("qkdmail/1\n")
	for _, name := range indFields[1:] {
		out = binary.BigEndian.AppendUint16(out, uint16(len(control[name])))
		out = append(out, control[name]...)
	}
	return out
}

// ---- §4 Keys

var indUUID = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)

func indSpellUUID(digits string) string {
	return digits[:8] + "-" + digits[8:12] + "-" + digits[12:16] + "-" + digits[16:20] + "-" + digits[20:]
}

// indIDValue returns the same value for two IDs of the same key: a UUID in canonical
// spelling, any other ID as it is.
func indIDValue(id string) string {
	u := indLower(id)
	if len(u) == 38 && u[0] == '{' && u[37] == '}' {
		u = u[1:37]
	} else if len(u) == 45 {
		u = strings.TrimPrefix(u, "urn:uuid:")
	} else if len(u) == 32 {
		u = indSpellUUID(u)
	}
	if indUUID.MatchString(u) {
		return u
	}
	return id
}

// key returns a key, unless every reader must refuse it.
func (r *indReader) key(id string) ([]byte, error) {
	r.asked++
	key, ok := r.keys[id]
	if !ok {
		return nil, indErr(errIndKey, "no key %q", id)
	}
	if len(key) >= 8 && bytes.Count(key, key[:1]) == len(key) {
		return nil, indErr(errIndKey, "key %q is one byte repeated", id)
	}
	return key, nil
}
