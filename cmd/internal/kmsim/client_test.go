package kmsim

import (
	"bytes"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/etsi014"
)

// etsiClient returns the project's own client of an SAE.
func (s *site) etsiClient(sae, kme string) *etsi014.Client {
	s.t.Helper()
	km, err := etsi014.New(etsi014.Options{
		URLs: []string{s.url[kme]}, SAE: sae, KMEID: kme,
		CertFile: s.file(sae, "crt"), KeyFile: s.file(sae, "key"), CAFile: filepath.Join(s.certs, "ca.crt"),
	})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(km.CloseIdle)
	return km
}

func TestETSIClient(t *testing.T) {
	s := start(t, Options{})
	sender, recipient := s.etsiClient(a, atA), s.etsiClient(b, atB)
	sent, err := sender.GetKeys(t.Context(), b, 1024, 130) // two requests
	if err != nil {
		t.Fatal(err)
	}
	got, err := recipient.KeysByID(t.Context(), a, sent[129].ID(), sent[0].ID())
	if err != nil || !bytes.Equal(got[0].Reveal(), sent[129].Reveal()) || !bytes.Equal(got[1].Reveal(), sent[0].Reveal()) {
		t.Errorf("KeysByID: %v, %v", got, err)
	}
	if _, err := recipient.KeysByID(t.Context(), a, sent[0].ID()); !errors.Is(err, kmclient.ErrKeyNotFound) {
		t.Errorf("KeysByID again: %v, want ErrKeyNotFound", err)
	}
	if st, err := sender.Status(t.Context(), b); err != nil || st.TargetKME != atB || st.MaxKeyPerRequest != 128 {
		t.Errorf("Status: %+v, %v", st, err)
	}
	if _, err := sender.GetKeys(t.Context(), "SAE_D", 256, 1); !errors.Is(err, kmclient.ErrRefused) {
		t.Errorf("a peer that is not paired: %v, want ErrRefused", err)
	}
}

// The client has the right answer, or a clear error, for each quirk.
func TestETSIClientQuirks(t *testing.T) {
	for name, c := range map[string]struct {
		o        Options
		enc, dec error // of two keys of 512 bits, and of fetching them with one that isn't there
	}{
		"exhausted, 400": {Options{Capacity: 1, ExhaustedStatus: 400}, kmclient.ErrKeyExhausted, nil},
		"exhausted, 503": {Options{Capacity: 1}, kmclient.ErrKeyExhausted, nil},
		"unknown, 400":   {Options{}, nil, kmclient.ErrKeyNotFound},
		"unknown, 404":   {Options{Quirks: Quirks{UnknownKeyStatus: 404}}, nil, kmclient.ErrKeyNotFound},
		"unknown, 500":   {Options{Quirks: Quirks{UnknownKeyStatus: 500}}, nil, kmclient.ErrKeyNotFound},
		"numeric target": {Options{Quirks: Quirks{NumericTarget: true}}, nil, kmclient.ErrKeyNotFound},
		"GET ignored":    {Options{Quirks: Quirks{IgnoreQuery: true}}, nil, kmclient.ErrKeyNotFound},
		"size ignored":   {Options{Quirks: Quirks{IgnoreSize: true}}, kmclient.ErrBadKey, nil},
		"keys kept":      {Options{Quirks: Quirks{KeepKeys: true}}, nil, kmclient.ErrKeyNotFound},
		"fewer keys":     {Options{Quirks: Quirks{FewerKeys: true}}, nil, nil},
		"answer lost":    {Options{Quirks: Quirks{LoseAnswers: 1}}, nil, kmclient.ErrKeyNotFound},
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t, c.o)
			sender, recipient := s.etsiClient(a, atA), s.etsiClient(b, atB)
			if _, err := sender.Status(t.Context(), b); err != nil {
				t.Errorf("Status: %v", err)
			}
			keys, err := sender.GetKeys(t.Context(), b, 512, 2)
			if name == "fewer keys" {
				if err != nil || len(keys) != 1 {
					t.Errorf("GetKeys: %v, %v, want the one key that it gives", keys, err)
				}
				return
			}
			if !errors.Is(err, c.enc) || (err == nil) != (len(keys) == 2) {
				t.Fatalf("GetKeys: %v, %v, want %v", keys, err, c.enc)
			}
			if err != nil {
				return
			}
			missing := strings.Repeat("0", 8) + "-0000-4000-8000-" + strings.Repeat("0", 12)
			if _, err := recipient.KeysByID(t.Context(), a, keys[0].ID(), missing); !errors.Is(err, c.dec) {
				t.Errorf("KeysByID with one unknown: %v, want %v", err, c.dec)
			}
			got, err := recipient.KeysByID(t.Context(), a, keys[0].ID(), keys[1].ID())
			if err != nil || !bytes.Equal(got[1].Reveal(), keys[1].Reveal()) {
				t.Errorf("KeysByID: %v, %v", got, err)
			}
		})
	}
	s := start(t, Options{Quirks: Quirks{RepeatKeys: true, HTMLErrors: true}})
	sender := s.etsiClient(a, atA)
	if _, err := sender.GetKeys(t.Context(), b, 512, 1); err != nil {
		t.Errorf("GetKeys: %v", err)
	}
	if keys, err := sender.GetKeys(t.Context(), b, 512, 1); !errors.Is(err, kmclient.ErrBadKey) {
		t.Errorf("a key that was given out before: %v, %v, want ErrBadKey", keys, err)
	}
	if _, err := sender.GetKeys(t.Context(), "SAE_D", 256, 1); !errors.Is(err, kmclient.ErrRefused) {
		t.Errorf("a 401 in HTML: %v, want ErrRefused", err)
	}
}
