package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
)

// A meter stands before a key manager and counts the octets of the keys that it
// hands out.
type meter struct {
	*httptest.Server
	octets atomic.Int64
}

func newMeter(km string) (*meter, error) {
	target, err := url.Parse(km)
	if err != nil {
		return nil, err
	}
	m := &meter{}
	m.Server = httptest.NewServer(&httputil.ReverseProxy{
		Rewrite:        func(r *httputil.ProxyRequest) { r.SetURL(target) },
		ModifyResponse: m.count,
	})
	return m, nil
}

func (m *meter) count(answer *http.Response) error {
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		return err
	}
	answer.Body = io.NopCloser(bytes.NewReader(body))
	var keys struct{ Keys []struct{ Key string } }
	if err := json.Unmarshal(body, &keys); err != nil {
		return err
	}
	for _, k := range keys.Keys {
		octets, err := base64.StdEncoding.DecodeString(k.Key)
		if err != nil {
			return err
		}
		m.octets.Add(int64(len(octets)))
	}
	return nil
}

// keyLimit is the longest key of the key manager for pads, in bits.
const keyLimit = 4096

// keys measures how much key a message under the pad takes from a key manager
// with short keys.
func (b *bench) keys(ctx context.Context) error {
	km, err := b.keyManager(ctx, "--max-key-size", strconv.Itoa(keyLimit))
	if err != nil {
		return err
	}
	m, err := newMeter(km)
	if err != nil {
		return err
	}
	defer m.Close()
	plain, sealed, restored := filepath.Join(b.dir, "plain"), filepath.Join(b.dir, "sealed"), filepath.Join(b.dir, "restored")
	for _, size := range b.pad {
		if err := writeMail(plain, size); err != nil {
			return err
		}
		info, err := os.Stat(plain)
		if err != nil {
			return err
		}
		before := m.octets.Load()
		if _, err := measure(ctx, sealed, []string{b.program(), "encrypt", "--suite", "otp", "--km", m.URL, plain}); err != nil {
			return err
		}
		octets := m.octets.Load() - before
		if _, err := measure(ctx, restored, []string{b.program(), "decrypt", "--km", m.URL, sealed}); err != nil {
			return err
		}
		if err := sameFile(plain, restored); err != nil {
			return err
		}
		b.padKeys[size] = float64(octets) / float64(info.Size())
	}
	return nil
}
