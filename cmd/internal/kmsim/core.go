package kmsim

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"
)

// A core is what both APIs have in common: it reads requests, writes answers
// and the access log, and does what Options say against that.
type core struct {
	o     Options
	held  *keyring
	rules []FailRule
	lost  atomic.Int64 // answers that are still to be lost
}

func newCore(o Options) (*core, error) {
	o, err := o.complete()
	if err != nil {
		return nil, err
	}
	rules, err := ParseFail(o.Fail)
	if err != nil {
		return nil, err
	}
	c := &core{o: o, held: newKeyring(o.MaxWaiting), rules: rules}
	c.lost.Store(int64(o.Quirks.LoseAnswers))
	return c, nil
}

// A problem is an answer that is an error.
type problem struct {
	status  int
	message string // none with a 401
	details []map[string]string
	allow   string // methods, with a 405
}

func (p *problem) Error() string { return p.message }

func badRequest(format string, args ...any) *problem {
	return &problem{status: http.StatusBadRequest, message: fmt.Sprintf(format, args...)}
}

func notAllowed(methods string) *problem {
	return &problem{status: http.StatusMethodNotAllowed, message: "method not allowed", allow: methods}
}

// A call is what the access log says of a request.
type call struct {
	sae  string // the caller's ID, once it is known
	keys int    // handed out
}

// A wiper is an answer that has keys.
type wiper interface{ wipe() }

// serve answers a request to a KME with what do returns.
func (c *core) serve(w http.ResponseWriter, r *http.Request, kme string, do func(*http.Request, *call) (any, error)) {
	start := time.Now()
	info := &call{}
	status, fate := 0, strike(c.rules) // status 0: no answer
	defer func() {
		took := time.Since(start)
		c.o.Logger.LogAttrs(r.Context(), levelOf(status), "request", requestAttrs(r, info, status, took)...)
		if c.o.Observe != nil {
			c.o.Observe(Request{KME: kme, Operation: operation(r), Status: status, Keys: info.keys, Took: took})
		}
	}()
	if pause(r.Context(), c.o.Latency) != nil || fate.Action == failCut {
		panic(http.ErrAbortHandler)
	}
	var answer any
	var err error
	if fate.Action == failStatus {
		err = &problem{status: fate.Status, message: "simulated failure"}
	} else {
		r.Body = http.MaxBytesReader(w, r.Body, 64<<10+256*int64(c.o.MaxKeysPerRequest))
		answer, err = do(r, info)
	}
	if wipe, ok := answer.(wiper); ok {
		defer wipe.wipe()
	}
	if fate.Action == failLost || info.keys > 0 && c.lost.Add(-1) >= 0 || pause(r.Context(), c.slow(info)) != nil {
		panic(http.ErrAbortHandler)
	}
	status = http.StatusOK
	if err != nil {
		p := c.problemOf(err)
		status, answer = p.status, c.errorBody(p)
		if p.allow != "" {
			w.Header().Set("Allow", p.allow)
		}
	}
	c.write(w, status, answer)
}

func (c *core) slow(info *call) time.Duration {
	if info.keys == 0 {
		return 0
	}
	return c.o.Quirks.Slow
}

// write sends an answer: JSON, or the HTML page that a string is.
func (c *core) write(w http.ResponseWriter, status int, answer any) {
	var body []byte
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	switch a := answer.(type) {
	case nil:
	case string:
		h.Set("Content-Type", "text/html; charset=utf-8")
		body = []byte(a)
	default:
		var err error
		if body, err = json.Marshal(a); err != nil { // can't be, of our own types
			c.o.Logger.Error("simulator failed", "error", err)
			panic(http.ErrAbortHandler)
		}
		h.Set("Content-Type", "application/json")
	}
	defer clear(body)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body) // the caller has gone
}

// problemOf turns an error of whatever kind into an answer.
func (c *core) problemOf(err error) *problem {
	if p, ok := errors.AsType[*problem](err); ok {
		return p
	}
	if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return &problem{status: http.StatusRequestEntityTooLarge, message: fmt.Sprintf("the body shall have at most %d octets", tooLarge.Limit)}
	}
	return &problem{status: c.o.ExhaustedStatus, message: "key store exhausted: " + err.Error()} // errFull
}

// errorBody returns the body of an error: none with a 401.
func (c *core) errorBody(p *problem) any {
	switch {
	case c.o.Quirks.HTMLErrors:
		text := html.EscapeString(http.StatusText(p.status) + ": " + p.message)
		return "<!DOCTYPE html>\n<html><head><title>Error</title></head><body><h1>" + text + "</h1></body></html>\n"
	case p.status == http.StatusUnauthorized:
		return nil
	}
	return struct {
		Message string              `json:"message"`
		Details []map[string]string `json:"details,omitempty"`
	}{p.message, p.details}
}

// readObject reads a body that is one JSON object into fields, whose members
// are all that it may have. Names count exactly, which encoding/json would not
// mind; null is the same as nothing.
func readObject(r *http.Request, fields map[string]any) error {
	body, err := io.ReadAll(r.Body)
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return err
	}
	if err != nil {
		return badRequest("the body can't be read")
	}
	if len(body) == 0 { // every member may be left out, and so may the object
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

// pathSegments returns the unescaped segments of a path, nil if there is
// something wrong with it. Nothing is cleaned: an ID may be "..", or have an
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

// shorten makes a word of a caller's fit for an error message.
func shorten(s string) string {
	const most = 64
	if r := []rune(s); len(r) > most {
		s = string(r[:most]) + "…"
	}
	return strconv.Quote(s)
}

// pause waits, unless the context ends before.
func pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
