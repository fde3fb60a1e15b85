package cipher_test

// A second reader of the message format, written from docs/format.md alone and
// with nothing but Go's standard library. It shares no code with the product:
// where the two differ, one of them or the page is wrong. It is made to be
// compared with the page, so it holds the whole message in memory.
// The numbers (§) are sections of that page.

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/big"
	"mime"
	"mime/quotedprintable"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	errIndNotOurs = errors.New("ind: ordinary mail")
	errIndDamaged = errors.New("ind: structure is broken")
	errIndVersion = errors.New("ind: unknown version")
	errIndSAE     = errors.New("ind: not from our peer to us")
	errIndSuite   = errors.New("ind: unknown suite")
	errIndKey     = errors.New("ind: unknown or wrong key")
	errIndAltered = errors.New("ind: content was altered")
)

const (
	indPiece   = 65536   // most plaintext octets in a chunk or a frame
	indMaxKeys = 262144  // most keys in an OTP message
	indMaxIDs  = 1 << 24 // most octets of their IDs together
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

// independentOpen reads a message as docs/format.md says and returns the
// plaintext. keys maps key ID (as spelled) to octets; sae and peer are the
// reader's own SAE ID and its peer's, "" for none.
func independentOpen(message []byte, keys map[string][]byte, sae, peer string) ([]byte, error) {
	top := indParse(message)
	var found []indPair
	if err := indWalk(top, 1, &found); err != nil {
		return nil, err
	}
	named := top.all("qkdmail-key-id")
	switch {
	case len(found) == 0 && len(named) == 0:
		return nil, errIndNotOurs
	case len(found) == 0:
		return nil, indDamaged("Qkdmail-Key-ID without a control part")
	case len(found) > 1:
		return nil, indDamaged("%d control parts", len(found))
	}
	control, err := indControl(found[0].control)
	if err != nil {
		return nil, err
	}
	for _, id := range named {
		if indIDValue(id) != indIDValue(control["key-id"]) {
			return nil, indDamaged("Qkdmail-Key-ID names another key")
		}
	}
	suite := control["suite"]
	if suite != "AES-256-GCM" && suite != "OTP" {
		return nil, indErr(errIndSuite, "%q", suite)
	}
	// Before a key is asked for (§3). "-" stands for "none configured" and so
	// is nobody's own SAE ID.
	own, sender := indSAE(sae), control["sender-sae"]
	if control["recipient-sae"] != own || sender != indSAE(peer) || sae != "" && sender == own {
		return nil, indErr(errIndSAE, "from %s to %s", sender, control["recipient-sae"])
	}
	payload, err := indPayload(found[0].payload)
	if err != nil {
		return nil, err
	}
	if suite == "OTP" {
		return indOTP(payload, control, keys)
	}
	return indGCM(payload, control, keys)
}

// ---- §2.2 MIME

// indEntity is a message or a part of one.
type indEntity struct {
	fields []string // unfolded
	body   []byte
}

// indPair is a control part and what follows it.
type indPair struct{ control, payload indEntity }

var ( // A CR alone is no line end.
	indLineEnd   = regexp.MustCompile(`\r?\n`)
	indFold      = regexp.MustCompile(`\r?\n([ \t])`)
	indHeaderEnd = regexp.MustCompile(`(^|\r?\n)\r?\n`)
)

// indLower changes US-ASCII letters only.
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

// all returns the values of all fields of that name (in lower case).
func (e indEntity) all(name string) (values []string) {
	for _, f := range e.fields {
		if n, value, ok := strings.Cut(f, ":"); ok && indLower(strings.TrimRight(n, " \t")) == name {
			values = append(values, strings.Trim(value, " \t"))
		}
	}
	return values
}

// first returns the value of the first field of that name.
func (e indEntity) first(name string) string { return append(e.all(name), "")[0] }

// mediaType returns the type in lower case and the parameters, if readable.
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
			return indDamaged("no payload behind the control part")
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
	case "base64": // blanks may stand in it (RFC 2045 §6.8)
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
	// First of all the version: another one may have other fields.
	if v := values["version"]; indVisible(v) && v != "1" {
		return nil, indErr(errIndVersion, "%q", v)
	}
	if problem == nil && (len(values) != len(indFields) || !indTime.MatchString(values["time"])) {
		problem = indDamaged("control part: a field is missing, or Time is no number")
	}
	return values, problem
}

// indVisible tells whether v is 1 to 255 octets from 0x21 to 0x7E.
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

// indIDValue is equal for two key IDs that name the same key: a UUID in its
// canonical spelling, every other ID as it is.
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

// indKey returns a key that no one has to refuse.
func indKey(keys map[string][]byte, id string) ([]byte, error) {
	key, ok := keys[id]
	if !ok {
		return nil, indErr(errIndKey, "no key %q", id)
	}
	if len(key) >= 8 && bytes.Count(key, key[:1]) == len(key) {
		return nil, indErr(errIndKey, "key %q is one octet over and over", id)
	}
	return key, nil
}

// ---- §5 AES-256-GCM

func indGCM(payload []byte, control map[string]string, keys map[string][]byte) ([]byte, error) {
	const full = indPiece + 16
	if len(payload) < 64+16 {
		return nil, indDamaged("payload of %d octets", len(payload))
	}
	salt, commitment, chunks := payload[:32], payload[32:64], payload[64:]
	// The last chunk: whole, with a tag, and not empty behind others.
	if last := len(chunks) % full; len(chunks) > full && last > 0 && last <= 16 {
		return nil, indDamaged("last chunk of %d octets", last)
	}
	key, err := indKey(keys, control["key-id"])
	if err != nil {
		return nil, err
	}
	if len(key) != 32 {
		return nil, indErr(errIndKey, "%d octets", len(key))
	}
	prk := indMust(hkdf.Extract(sha256.New, key, salt))
	derive := func(label string) []byte {
		info := label + "\x00" + string(indControlOctets(control))
		return indMust(hkdf.Expand(sha256.New, prk, info, 32))
	}
	if subtle.ConstantTimeCompare(derive("qkdmail/1 A256GCM commitment"), commitment) != 1 {
		return nil, indErr(errIndKey, "commitment")
	}
	gcm := indMust(cipher.NewGCM(indMust(aes.NewCipher(derive("qkdmail/1 A256GCM chunks")))))
	var plaintext []byte
	for i := uint64(0); len(chunks) > 0; i++ {
		n := min(full, len(chunks))
		nonce := make([]byte, 12)
		binary.BigEndian.PutUint64(nonce[3:], i)
		if n == len(chunks) {
			nonce[11] = 1
		}
		if plaintext, err = gcm.Open(plaintext, nonce, chunks[:n], nil); err != nil {
			return nil, indErr(errIndAltered, "chunk %d", i)
		}
		chunks = chunks[n:]
	}
	return plaintext, nil
}

// ---- §6 OTP

func indOTP(payload []byte, control map[string]string, keys map[string][]byte) ([]byte, error) {
	var plaintext []byte
	seen := map[string]bool{} // key IDs by value
	spelled := 0              // their octets
	rest := payload
	take := func(n int) (octets []byte) { // nil where n octets aren't left
		if n <= len(rest) {
			octets, rest = rest[:n:n], rest[n:]
		}
		return octets
	}
	for number := uint64(0); ; number++ {
		frame := rest
		head := take(2)
		if head == nil || head[0] > 1 || head[1] == 0 {
			return nil, indDamaged("frame %d: flags or number of keys", number)
		}
		last := head[0] == 1
		var ids []string
		for range head[1] {
			id, err := indTakeID(take)
			if err != nil {
				return nil, err
			}
			spelled += len(id)
			if seen[indIDValue(id)] || len(seen) == indMaxKeys || spelled > indMaxIDs {
				return nil, indDamaged("frame %d: key %q twice, or too many keys", number, id)
			}
			seen[indIDValue(id)] = true
			ids = append(ids, id)
		}
		if number == 0 && indIDValue(ids[0]) != indIDValue(control["key-id"]) {
			return nil, indDamaged("the first key is not the Key-ID")
		}
		lengthOctets := take(4)
		if lengthOctets == nil {
			return nil, indDamaged("frame %d ends in its header", number)
		}
		length := binary.BigEndian.Uint32(lengthOctets)
		if length > indPiece || length == 0 && !(number == 0 && last) {
			return nil, indDamaged("frame %d: length %d", number, length)
		}
		header := frame[:len(frame)-len(rest)]
		ciphertext := take(int(length))
		tag := take(16)
		if ciphertext == nil || tag == nil {
			return nil, indDamaged("frame %d is cut short", number)
		}
		// No key is asked for where the message is refused anyway (§7).
		if last != (len(rest) == 0) {
			return nil, indDamaged("something follows the last frame, or no frame follows another")
		}
		var first, pad []byte
		answer := map[string]bool{}
		for i, id := range ids {
			key, err := indKey(keys, id)
			if err != nil {
				return nil, err
			}
			skip := 16
			if i == 0 {
				first, skip = key, 32
			}
			if len(key) < skip || answer[string(key)] {
				return nil, indErr(errIndKey, "%q is too short or comes twice", id)
			}
			answer[string(key)] = true
			pad = append(pad, key[skip:]...)
		}
		if len(pad) < len(ciphertext) {
			return nil, indErr(errIndKey, "frame %d: too little pad", number)
		}
		var data, lengths []byte
		for _, x := range [][]byte{indControlOctets(control), header, ciphertext} {
			data = append(append(data, x...), make([]byte, (16-len(x)%16)%16)...)
			lengths = binary.LittleEndian.AppendUint64(lengths, uint64(len(x)))
		}
		data = binary.LittleEndian.AppendUint64(append(data, lengths...), number)
		if subtle.ConstantTimeCompare(indPoly1305(first[16:32], first[:16], data), tag) != 1 {
			return nil, indErr(errIndAltered, "frame %d", number)
		}
		for i, c := range ciphertext {
			plaintext = append(plaintext, c^pad[i])
		}
		if last {
			return plaintext, nil
		}
	}
}

// indTakeID reads one key ID of a frame header.
func indTakeID(take func(int) []byte) (string, error) {
	size := take(1)
	if size == nil {
		return "", indDamaged("cut short before a key ID")
	}
	if size[0] == 0 {
		octets := take(16)
		if octets == nil {
			return "", indDamaged("cut short in a UUID")
		}
		return indSpellUUID(hex.EncodeToString(octets)), nil
	}
	id := string(take(int(size[0])))
	if !indVisible(id) {
		return "", indDamaged("key ID %q", id)
	}
	return id, nil
}

// indPoly1305 is RFC 8439 §2.5, number by number.
func indPoly1305(r, s, data []byte) []byte {
	number := func(littleEndian []byte) *big.Int {
		b := slices.Clone(littleEndian)
		slices.Reverse(b)
		return new(big.Int).SetBytes(b)
	}
	clamp, _ := new(big.Int).SetString("0ffffffc0ffffffc0ffffffc0fffffff", 16)
	p, _ := new(big.Int).SetString("3fffffffffffffffffffffffffffffffb", 16) // 2^130-5
	rr := number(r)
	rr.And(rr, clamp)
	acc := new(big.Int)
	for block := range slices.Chunk(data, 16) {
		acc.Add(acc, number(append(slices.Clone(block), 1)))
		acc.Mul(acc, rr).Mod(acc, p)
	}
	acc.Add(acc, number(s))
	tag := acc.FillBytes(make([]byte, 17))[1:] // modulo 2^128; acc is below 2^131
	slices.Reverse(tag)
	return tag
}

// TestIndependentPoly1305 checks the vector of RFC 8439 §2.5.2.
func TestIndependentPoly1305(t *testing.T) {
	key, _ := hex.DecodeString("85d6be7857556d337f4452fe42d506a80103808afb0db2fd4abff6af4149f51b")
	tag := indPoly1305(key[:16], key[16:], []byte("Cryptographic Forum Research Group"))
	if got := hex.EncodeToString(tag); got != "a8061dc1305136c6c22b8baf0c0127a9" {
		t.Error("tag", got)
	}
}
