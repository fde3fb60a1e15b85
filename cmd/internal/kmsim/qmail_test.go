package kmsim

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/rest"
)

// qmail serves the QMail REST API until the test ends and returns its URL.
func qmail(t testing.TB, o Options) string {
	t.Helper()
	q, err := NewQMail(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	address := serve(t, ctx, &running, q, ServeOptions{})
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		cancel()
		running.Wait()
	})
	return address
}

func TestQMailRules(t *testing.T) {
	base := qmail(t, Options{})
	create := func() string {
		m, err := send(http.DefaultClient, base+"/api/v1/keys/get", "POST", "application/json", `{"key_size":128,"number":1}`)
		if err != nil {
			t.Fatal(err)
		}
		_, ids := m.keys(t)
		return ids[0]
	}
	for _, r := range []struct {
		method, path, kind, body string
		status                   int
		has                      string
	}{
		{"GET", "/api/v1/status", "", "", 200, `"key_size":256,"stored_key_count":100000,`},
		{"GET", "/api/v1/status", "", "", 200, `"status":"operational","qkd_link_status":"active","available_keys":100000,"queue_length":0,`},
		{"HEAD", "/api/v1/status", "", "", 200, ``},
		{"POST", "/api/v1/status", "", "", 405, `{"message":"method not allowed"}`},
		{"POST", "/api/v1/keys/get", "application/json", `{"key_size":256,"number":2}`, 200, `{"keys":[{"key_ID":"`},
		{"POST", "/api/v1/keys/get", "application/json", `{"key_size":256,"number":2,"extension_mandatory":[]}`, 200, `{"keys":[`},
		{"POST", "/api/v1/keys/get", "", "", 200, `{"keys":[`},
		{"POST", "/api/v1/keys/get", "application/json", `{"extension_mandatory":["x"]}`, 400, `{"message":"not all extension_mandatory parameters are supported","details":[{"extension":"x"}]}`},
		{"POST", "/api/v1/keys/get", "application/json", `{"extension_mandatory":[{"x":1}]}`, 400, `"message":"not all extension_mandatory parameters are supported"`},
		{"POST", "/api/v1/keys/get", "application/json", `{"key_size":255}`, 400, `"size shall be a multiple of 8"`},
		{"POST", "/api/v1/keys/get", "application/json", `{"number":129}`, 400, `"number shall be 1 to 128"`},
		{"POST", "/api/v1/keys/get", "application/json", `{"size":256}`, 400, `unknown member \"size\"`},
		{"POST", "/api/v1/keys/get", "application/json", `{"number":1}x`, 400, `one JSON object`},
		{"POST", "/api/v1/keys/get", "text/plain", `{"number":1}`, 415, `application/json`},
		{"POST", "/api/v1/keys/get", "application/json", `{"x":"` + strings.Repeat("x", 1<<20), 413, `at most`},
		{"GET", "/api/v1/keys/get", "", "", 404, `{"message":"key not found"}`},
		{"GET", "/api/v1/keys/{id}", "", "", 200, `{"key_ID":"{id}","key":"`},
		{"GET", "/api/v1/keys/{id}", "", "", 200, `","key_size":128}`},
		{"HEAD", "/api/v1/keys/{id}", "", "", 200, ``},
		{"GET", "/api/v1/keys/no%2Fsuch", "", "", 404, `{"message":"key not found"}`},
		{"DELETE", "/api/v1/keys/{id}", "", "", 200, `{"message":"key deleted"}`},
		{"DELETE", "/api/v1/keys/none", "", "", 404, `{"message":"key not found"}`},
		{"PUT", "/api/v1/keys/{id}", "", "", 405, `{"message":"method not allowed"}`},
		{"POST", "/api/v1/keys/{id}", "", "", 405, `{"message":"method not allowed"}`},
		{"GET", "/api/v1/keys", "", "", 404, `{"message":"no such path"}`},
		{"GET", "/api/v1/keys/", "", "", 404, `{"message":"no such path"}`},
		{"GET", "/", "", "", 404, `{"message":"no such path"}`},
	} {
		t.Run(r.method+" "+r.path+" "+fmt.Sprint(r.status), func(t *testing.T) {
			fill := strings.NewReplacer("{id}", create()).Replace
			m, err := send(http.DefaultClient, base+fill(r.path), r.method, r.kind, r.body)
			if err != nil || m.status != r.status || !strings.Contains(string(m.body), fill(r.has)) {
				t.Errorf("HTTP %d %.300s (%v)\nwant %d, in it %s", m.status, m.body, err, r.status, fill(r.has))
			}
			if kind := m.header.Get("Content-Type"); kind != "application/json" {
				t.Errorf("content type %q", kind)
			}
		})
	}
}

// The client of package rest works with it, and keys stay until they are
// closed.
func TestQMailClient(t *testing.T) {
	base := qmail(t, Options{})
	km, err := rest.New(rest.Options{URL: base})
	if err != nil {
		t.Fatal(err)
	}
	defer km.CloseIdle()
	ctx := t.Context()
	keys, err := km.GetKeys(ctx, "", 512, 3)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		got, err := km.KeysByID(ctx, "", keys[2].ID(), keys[0].ID())
		if err != nil || !bytes.Equal(got[0].Reveal(), keys[2].Reveal()) {
			t.Fatalf("KeysByID: %v, %v", got, err)
		}
	}
	if err := km.CloseKey(ctx, keys[0].ID()); err != nil {
		t.Errorf("CloseKey: %v", err)
	}
	if err := km.CloseKey(ctx, keys[0].ID()); !errors.Is(err, kmclient.ErrKeyNotFound) {
		t.Errorf("CloseKey again: %v", err)
	}
}

func TestQMailExhausted(t *testing.T) {
	km, err := rest.New(rest.Options{URL: qmail(t, Options{Capacity: 1})})
	if err != nil {
		t.Fatal(err)
	}
	defer km.CloseIdle()
	if _, err := km.GetKeys(t.Context(), "", 256, 2); !errors.Is(err, kmclient.ErrKeyExhausted) {
		t.Errorf("GetKeys: %v, want ErrKeyExhausted", err)
	}
}

func TestQMailLogHasNoKey(t *testing.T) {
	var log bytes.Buffer
	q, err := NewQMail(Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	answer := httptest.NewRecorder()
	q.ServeHTTP(answer, httptest.NewRequest("POST", "/api/v1/keys/get", nil))
	keys, ids := message{status: answer.Code, body: answer.Body.Bytes()}.keys(t)
	if !strings.Contains(log.String(), "path=/api/v1/keys/get") || strings.Contains(log.String(), base64.StdEncoding.EncodeToString(keys[ids[0]])[:20]) {
		t.Errorf("the log has no request, or a key: %s", log.String())
	}
}
