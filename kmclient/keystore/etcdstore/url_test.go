package etcdstore_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/keystore/etcdstore"
)

func TestParseURL(t *testing.T) {
	long := strings.Repeat("p", 254)
	for text, want := range map[string]etcdstore.Options{
		"etcd://a:1":                       {Endpoints: []string{"a:1"}, Prefix: "/qkdmail"},
		"etcd://a:1/":                      {Endpoints: []string{"a:1"}, Prefix: "/qkdmail"},
		"etcd://a":                         {Endpoints: []string{"a:2379"}, Prefix: "/qkdmail"},
		"etcd://a:1,b.example:2/x":         {Endpoints: []string{"a:1", "b.example:2"}, Prefix: "/x"},
		"etcd://192.0.2.1:1,[::1]:2/x/y-z": {Endpoints: []string{"192.0.2.1:1", "[::1]:2"}, Prefix: "/x/y-z"},
		"etcd://[2001:db8::1]/a.b_c":       {Endpoints: []string{"[2001:db8::1]:2379"}, Prefix: "/a.b_c"},
		"etcd://a:65535/" + long:           {Endpoints: []string{"a:65535"}, Prefix: "/" + long},
	} {
		got, err := etcdstore.ParseURL(text)
		if err != nil || !slices.Equal(got.Endpoints, want.Endpoints) || got.Prefix != want.Prefix {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
	for text, words := range map[string]string{
		"":                    "is not of the form",
		"http://a:1":          "is not of the form",
		"etcds://a:1":         "is not of the form",
		"etcd:a:1":            "is not of the form",
		"etcd://":             "must be HOST:PORT",
		"etcd:///x":           "must be HOST:PORT",
		"etcd://a:1,/x":       "must be HOST:PORT",
		"etcd://a:0":          "must be HOST:PORT",
		"etcd://a:65536":      "must be HOST:PORT",
		"etcd://a:01":         "must be HOST:PORT",
		"etcd://a:http":       "must be HOST:PORT",
		"etcd://a:1:2":        "must be HOST:PORT",
		"etcd://::1":          "must be HOST:PORT",
		"etcd://[a]:1":        "must be HOST:PORT",
		"etcd://[192.0.2.1]":  "must be HOST:PORT",
		"etcd://[fe80::1%25]": "must be HOST:PORT",
		"etcd://a b:1":        "must be HOST:PORT",
		"etcd://http://a:1":   "must be HOST:PORT",
		"etcd://a:1//x":       "must be /PART",
		"etcd://a:1/x/":       "must be /PART",
		"etcd://a:1/x?tls=1":  "must be /PART",
		"etcd://a:1/x#y":      "must be /PART",
		"etcd://a:1/%41":      "must be /PART",
		"etcd://a:1/x\x00":    "must be /PART",
		"etcd://a:1/p" + long: "must be /PART",
		"etcd://" + strings.Repeat("a,", 64) + "a": "65 etcd endpoints",
	} {
		if o, err := etcdstore.ParseURL(text); !errors.Is(err, kmclient.ErrConfig) || !strings.Contains(err.Error(), words) {
			t.Errorf("%q: %+v, %v, want an ErrConfig: %s", text, o, err, words)
		}
	}
}

// A password that was put into a URL is not shown.
func TestParseURLPassword(t *testing.T) {
	for _, text := range []string{"etcd://user:secret@a:1/x", "etcd://user:secret%40@a:1", "http://user:secret@a", "user:secret@a:1", "etcd://a/secret@b"} {
		_, err := etcdstore.ParseURL(text)
		if !errors.Is(err, kmclient.ErrConfig) || strings.Contains(err.Error(), "secret") || !strings.Contains(err.Error(), "no password") {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// What was parsed can be written and parsed again, with the same result.
func FuzzParseURL(f *testing.F) {
	for _, seed := range []string{"etcd://a", "etcd://a:1,b:2/x/y", "etcd://[::1]:2,192.0.2.1/x", "etcd://user@a", "etcd://[fe80::1%1]", "etcd://a:1//"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		o, err := etcdstore.ParseURL(text)
		if err != nil {
			if !errors.Is(err, kmclient.ErrConfig) || len(err.Error()) > 2000 {
				t.Errorf("%q: %v", text, err)
			}
			return
		}
		written := "etcd://" + strings.Join(o.Endpoints, ",") + o.Prefix
		again, err := etcdstore.ParseURL(written)
		if err != nil || !slices.Equal(again.Endpoints, o.Endpoints) || again.Prefix != o.Prefix {
			t.Errorf("%q, written as %q: %+v, %v", text, written, again, err)
		}
		if strings.Contains(o.Prefix, "\x00") || o.Prefix[0] != '/' || len(o.Prefix) > 255 {
			t.Errorf("%q: prefix %q", text, o.Prefix)
		}
	})
}
