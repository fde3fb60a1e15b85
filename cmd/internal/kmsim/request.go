package kmsim

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/qkdmail/qkdmail/kmclient"
)

// The words of errors that both APIs use.
const (
	wrongMultiple = "size shall be a multiple of 8"
	notMandatory  = "not all extension_mandatory parameters are supported"
	notMet        = "not all extension_mandatory request options could be met"
	notHandled    = "not all extension_optional request options handled"
	notFound      = "one or more keys specified are not found on KME"
)

// pathSegments returns the unescaped segments of a path, or nil if one of them
// is empty or malformed. The path is not cleaned: an ID may be "..", or have an
// escaped slash.
func pathSegments(r *http.Request) []string {
	segments := strings.Split(strings.TrimPrefix(r.URL.EscapedPath(), "/"), "/")
	for i, s := range segments {
		var err error
		if segments[i], err = url.PathUnescape(s); err != nil || segments[i] == "" || !utf8.ValidString(segments[i]) {
			return nil
		}
	}
	return segments
}

// readObject reads a body that is one JSON object into fields, and allows no
// other members. Names must match exactly, case included, unlike with
// encoding/json; null is the same as nothing.
func readObject(r *http.Request, fields map[string]any) error {
	body, err := io.ReadAll(r.Body)
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return err
	}
	if err != nil {
		return badRequest("the body can't be read")
	}
	if len(body) == 0 { // every member is optional, and so is the object
		return nil
	}
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return &problem{status: http.StatusUnsupportedMediaType, message: "the content type shall be application/json"}
	}
	var members map[string]json.RawMessage
	if !utf8.Valid(body) || json.Unmarshal(body, &members) != nil || members == nil {
		return badRequest("the body shall be one JSON object in UTF-8")
	}
	for name, value := range members {
		into, ok := fields[name]
		if !ok {
			return badRequest("unknown member %s", shorten(name))
		}
		d := json.NewDecoder(bytes.NewReader(value))
		d.DisallowUnknownFields()
		if d.Decode(into) != nil {
			return badRequest("%s is malformed", name)
		}
	}
	return nil
}

// readQuery reads a query in which each parameter may come once.
func readQuery(r *http.Request, known ...string) (map[string]string, error) {
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, badRequest("the query is malformed")
	}
	q := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		list := values[name]
		switch {
		case !slices.Contains(known, name):
			return nil, badRequest("unknown parameter %s: use POST", shorten(name))
		case len(list) != 1:
			return nil, badRequest("%s shall come once", name)
		}
		q[name] = list[0]
	}
	return q, nil
}

func noQuery(r *http.Request) error {
	if r.URL.RawQuery != "" {
		return badRequest("a POST has no query")
	}
	return nil
}

// shorten makes a caller's word fit for an error message.
func shorten(s string) string {
	const most = 64
	if r := []rune(s); len(r) > most {
		s = string(r[:most]) + "…"
	}
	return strconv.Quote(s)
}

// A keyRequest is what a caller wants.
type keyRequest struct {
	size, number        *int // bits, keys; nil: not in the request
	mandatory, optional []extension
}

// An extension of a request, as its names. It is an object, as ETSI GS QKD 014
// §6.2 has it, or a name alone, as clients of the QMail REST API write it.
type extension []string

// UnmarshalJSON reads an object or a string.
func (e *extension) UnmarshalJSON(raw []byte) error {
	if len(raw) > 0 && raw[0] == '"' {
		*e = extension{""}
		return json.Unmarshal(raw, &(*e)[0])
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(raw, &members); err != nil || members == nil {
		return errors.New("an extension that is neither an object nor a string")
	}
	*e = slices.Sorted(maps.Keys(members))
	return nil
}

// checkAmount returns the size and number of keys that a request asks for.
func (c *core) checkAmount(q keyRequest) (size, number int, err error) {
	size, number = c.o.KeySize, 1
	if q.size != nil {
		size = *q.size
	}
	if q.number != nil {
		number = *q.number
	}
	quirks := c.o.Quirks
	if quirks.RoundSize > 0 {
		size = (size + quirks.RoundSize - 1) / quirks.RoundSize * quirks.RoundSize
	}
	switch {
	case size%8 != 0:
		return 0, 0, badRequest(wrongMultiple)
	case quirks.IgnoreLimits && size > 0 && size <= maxKeySize && number > 0 && number <= kmclient.MaxRequestKeys:
	case size < c.o.MinKeySize || size > c.o.MaxKeySize:
		return 0, 0, badRequest("size shall be %d to %d bits", c.o.MinKeySize, c.o.MaxKeySize)
	case number < 1 || number > c.o.MaxKeysPerRequest:
		return 0, 0, badRequest("number shall be 1 to %d", c.o.MaxKeysPerRequest)
	}
	if quirks.IgnoreSize {
		size = c.o.KeySize
	}
	return size, number, nil
}

// checkExtensions reports whether the extensions of a request are served.
func (c *core) checkExtensions(q keyRequest) error {
	unknown, unmet := c.extensions(q.mandatory)
	switch {
	case len(unknown) > 0:
		return &problem{status: http.StatusBadRequest, message: notMandatory, details: unknown}
	case len(unmet) > 0:
		return &problem{status: http.StatusBadRequest, message: notMet, details: unmet}
	}
	unknown, unmet = c.extensions(q.optional)
	if all := append(unknown, unmet...); c.o.StrictOptional && len(all) > 0 {
		return &problem{status: http.StatusBadRequest, message: notHandled, details: all}
	}
	return nil
}

// extensions returns the extensions that the simulator does not know, and those
// that it can't meet.
func (c *core) extensions(list []extension) (unknown, unmet []map[string]string) {
	for _, names := range list {
		if len(names) == 0 {
			names = extension{""}
		}
		for _, name := range names {
			detail := map[string]string{"extension": name}
			if met, known := c.o.Extensions[name]; !known {
				unknown = append(unknown, detail)
			} else if !met {
				unmet = append(unmet, detail)
			}
		}
	}
	return unknown, unmet
}
