package kmsim

import (
	"context"
	"html"
	"net/http"
	"sync/atomic"
	"time"
)

// A core is what both APIs share: the keys, and how a request is answered,
// logged, delayed or made to fail.
type core struct {
	o     Options
	held  *keyring
	rules []failRule
	lost  atomic.Int64 // answers still to be lost
}

func newCore(o Options) (*core, error) {
	o, err := o.complete()
	if err != nil {
		return nil, err
	}
	rules, err := parseFail(o.Fail)
	if err != nil {
		return nil, err
	}
	c := &core{o: o, held: newKeyring(o.MaxWaiting), rules: rules}
	c.lost.Store(int64(o.Quirks.LoseAnswers))
	return c, nil
}

// A call holds notes about a request while it is answered.
type call struct {
	sae  string // the caller's ID, once it is known
	keys int    // handed out
}

// serve answers a request to a KME with the result of do, unless the request
// must fail.
func (c *core) serve(w http.ResponseWriter, r *http.Request, kme string, do func(*http.Request, *call) (any, error)) {
	start := time.Now()
	info := &call{}
	status, fate := 0, strike(c.rules) // status 0: no answer
	defer func() {
		took := time.Since(start)
		c.logRequest(r, info, status, took)
		if c.o.Observe != nil {
			c.o.Observe(Request{KME: kme, Operation: operation(r), Status: status, Keys: info.keys, Took: took})
		}
	}()
	if pause(r.Context(), c.o.Latency) != nil || fate.action == failCut {
		panic(http.ErrAbortHandler)
	}
	var answer any
	var err error
	if fate.action == failStatus {
		err = &problem{status: fate.status, message: "simulated failure"}
	} else {
		r.Body = http.MaxBytesReader(w, r.Body, 64<<10+256*int64(c.o.MaxKeysPerRequest))
		answer, err = do(r, info)
	}
	if keys, ok := answer.(wiper); ok {
		defer keys.wipe()
	}
	if fate.action == failLost || info.keys > 0 && (c.lost.Add(-1) >= 0 || pause(r.Context(), c.o.Quirks.Slow) != nil) {
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

// pause waits, unless the context ends first.
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
