package kmsim

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"
)

func TestQuirkUnknownKey(t *testing.T) {
	for _, status := range []int{401, 404, 500} {
		s := start(t, Options{Quirks: Quirks{UnknownKeyStatus: status}})
		if m := s.dec("x"); m.status != status || status != 401 && m.text() != notFound {
			t.Errorf("HTTP %d %s, want %d", m.status, m.body, status)
		}
	}
}

func TestQuirkHTMLErrors(t *testing.T) {
	s := start(t, Options{Quirks: Quirks{HTMLErrors: true}})
	for _, m := range []message{s.dec("x"), s.do(a, atA, "GET", "/api/v1/keys/SAE_D/status", ""), s.do(a, atA, "POST", encB, "<")} {
		if m.status < 400 || m.header.Get("Content-Type") != "text/html; charset=utf-8" || !bytes.HasPrefix(m.body, []byte("<!DOCTYPE html>")) {
			t.Errorf("HTTP %d %s", m.status, m.body)
		}
	}
	s.enc("{}")
}

func TestQuirkNumericTarget(t *testing.T) {
	var status struct {
		Target any `json:"target_KME_ID"`
	}
	m := start(t, Options{Quirks: Quirks{NumericTarget: true}}).do(a, atA, "GET", statusB, "")
	if err := json.Unmarshal(m.body, &status); err != nil || status.Target != 5.0 {
		t.Errorf("%s (%v)", m.body, err)
	}
}

func TestQuirkIgnored(t *testing.T) {
	s := start(t, Options{Quirks: Quirks{IgnoreQuery: true}})
	keys, ids := s.do(a, atA, "GET", encB+"?number=3&size=128", "").keys(t)
	if len(ids) != 1 || len(keys[ids[0]]) != 32 {
		t.Errorf("GET: %d keys of %d bytes, want 1 of 32", len(ids), len(keys[ids[0]]))
	}
	keys, ids = s.enc(`{"number":3,"size":128}`)
	if len(ids) != 3 || len(keys[ids[0]]) != 16 {
		t.Errorf("POST: %d keys of %d bytes, want 3 of 16", len(ids), len(keys[ids[0]]))
	}
	s = start(t, Options{Quirks: Quirks{IgnoreSize: true}})
	keys, ids = s.enc(`{"number":3,"size":128}`)
	if len(ids) != 3 || len(keys[ids[0]]) != 32 {
		t.Errorf("size ignored: %d keys of %d bytes, want 3 of 32", len(ids), len(keys[ids[0]]))
	}
}

func TestQuirkKeepKeys(t *testing.T) {
	s := start(t, Options{Quirks: Quirks{KeepKeys: true}})
	_, ids := s.enc(`{}`)
	first, _ := s.dec(ids...).keys(t)
	again, _ := s.dec(ids...).keys(t)
	if !bytes.Equal(first[ids[0]], again[ids[0]]) {
		t.Error("another key the second time")
	}
}

func TestQuirkRepeatKeys(t *testing.T) {
	s := start(t, Options{Quirks: Quirks{RepeatKeys: true}})
	first, ids := s.enc(`{"number":2}`)
	again, more := s.enc(`{"number":3}`)
	if strings.Join(ids, " ") != strings.Join(more[:2], " ") || !bytes.Equal(first[ids[0]], again[ids[0]]) {
		t.Errorf("got %q, then %q", ids, more)
	}
}

func TestQuirkFewerKeys(t *testing.T) {
	s := start(t, Options{Quirks: Quirks{FewerKeys: true}})
	if _, ids := s.enc(`{"number":3}`); len(ids) != 2 {
		t.Errorf("%d keys, want 2", len(ids))
	}
	if m := s.do(a, atA, "POST", encB, `{}`); string(m.body) != `{"keys":[]}` {
		t.Errorf("one key fewer than one: %s", m.body)
	}
}

func TestQuirkMostKeys(t *testing.T) {
	s := start(t, Options{Quirks: Quirks{MostKeys: 2}})
	for body, want := range map[string]int{`{"number":3}`: 2, `{"number":2}`: 2, `{}`: 1} {
		if _, ids := s.enc(body); len(ids) != want {
			t.Errorf("%s: %d keys, want %d", body, len(ids), want)
		}
	}
}

func TestQuirkLimits(t *testing.T) {
	s := start(t, Options{MaxKeysPerRequest: 2, MaxKeySize: 512, Quirks: Quirks{IgnoreLimits: true, RoundSize: 64}})
	keys, ids := s.enc(`{"number":3,"size":1025}`)
	if len(ids) != 3 || len(keys[ids[0]]) != 1088/8 {
		t.Errorf("%d keys of %d bytes, want 3 of 1088 bits", len(ids), len(keys[ids[0]]))
	}
	if m := s.do(a, atA, "POST", encB, `{"number":0}`); m.status != 400 {
		t.Errorf("no key at all: HTTP %d, want 400", m.status)
	}
}

func TestQuirkStatus(t *testing.T) {
	s := start(t, Options{Capacity: 5, Quirks: Quirks{ZeroStock: true, HideLimits: true}})
	text := string(s.do(a, atA, "GET", statusB, "").body)
	if !strings.Contains(text, `"stored_key_count":0`) || strings.Contains(text, "max_key_size") || strings.Contains(text, "max_key_per_request") {
		t.Errorf("%s, want no stock and no limits", text)
	}
	s = start(t, Options{Quirks: Quirks{StatusStatus: 503}})
	if m := s.do(a, atA, "GET", statusB, ""); m.status != 503 {
		t.Errorf("HTTP %d, want 503", m.status)
	}
	s.enc(`{}`)
}

func TestQuirkExhaustedMessage(t *testing.T) {
	s := start(t, Options{Capacity: 1, Quirks: Quirks{ExhaustedMessage: "come again"}})
	s.enc(`{}`)
	if m := s.do(a, atA, "POST", encB, `{}`); m.status != 503 || m.text() != "come again" {
		t.Errorf("HTTP %d %s", m.status, m.body)
	}
}

func TestQuirkForgetEarlier(t *testing.T) {
	s := start(t, Options{Quirks: Quirks{ForgetEarlier: true}})
	_, first := s.enc(`{}`)
	_, second := s.enc(`{}`)
	if m := s.dec(first...); m.status != 400 || m.text() != notFound {
		t.Errorf("the earlier key: HTTP %d %s", m.status, m.body)
	}
	s.dec(second...).keys(t)
}

func TestQuirkLoseAnswers(t *testing.T) {
	s := start(t, Options{Quirks: Quirks{LoseAnswers: 2}})
	s.do(a, atA, "GET", statusB, "") // has no keys, so it is not lost
	for range 2 {
		if m, err := s.try(a, atA, "POST", encB, `{}`); err == nil {
			t.Errorf("HTTP %d, want no answer", m.status)
		}
	}
	s.enc(`{}`)
	s.stop()
	if n := s.waiting(); n != 3 {
		t.Errorf("%d keys are stored, want 3", n)
	}
}

func TestQuirkSlow(t *testing.T) {
	s := start(t, Options{Quirks: Quirks{Slow: 10 * time.Second}})
	s.do(a, atA, "GET", statusB, "")
	s.client(a).Timeout = 100 * time.Millisecond
	if m, err := s.try(a, atA, "POST", encB, `{}`); err == nil {
		t.Errorf("HTTP %d, want a time-out", m.status)
	}
	s.stop()
	if n := s.waiting(); n != 1 {
		t.Errorf("%d keys are stored, want 1", n)
	}
}
