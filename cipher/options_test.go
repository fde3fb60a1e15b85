package cipher_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/qkdmail/qkdmail/cipher"
	"github.com/qkdmail/qkdmail/kmclient"
)

func TestOptions(t *testing.T) {
	for _, opts := range []cipher.EncryptOptions{
		{Suite: "ROT13"}, {Headers: "hcp_unknown"}, {PadLimit: -1}, {PadLimit: cipher.MaxPadLimit + 1},
		{Time: time.Unix(-1, 0)}, {Time: time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)},
	} {
		if _, err := cipher.Encrypt(t.Context(), io.Discard, newTestKM(), &opts); !errors.Is(err, cipher.ErrOptions) {
			t.Errorf("%+v: error %v, want %v", opts, err, cipher.ErrOptions)
		}
	}
}

// TestAuto checks that SuiteAuto takes the pad up to the limit and AES-256-GCM
// above, whatever the key manager has in stock.
func TestAuto(t *testing.T) {
	for _, limit := range []int{0, 1, 100, 65536, 200_000} {
		edge := limit
		if limit == 0 {
			edge = cipher.DefaultPadLimit
		}
		for size, want := range map[int]cipher.Suite{
			0: cipher.SuiteOTP, edge - 1: cipher.SuiteOTP, edge: cipher.SuiteOTP,
			edge + 1: cipher.SuiteAES256GCM, 3 * edge: cipher.SuiteAES256GCM,
		} {
			outer := encrypt(t, newTestKM(), make([]byte, size), &cipher.EncryptOptions{Suite: cipher.SuiteAuto, PadLimit: limit})
			info, err := cipher.Inspect(bytes.NewReader(outer))
			if err != nil || info.Suite != want || info.PlaintextSize != int64(size+4) {
				t.Errorf("limit %d, message of %d bytes: %+v, %v; want suite %s", limit, size, info, err, want)
			}
		}
	}
	_, err := encryptTo(t, io.Discard, failingOTP{newTestKM()}, nil, &cipher.EncryptOptions{Suite: cipher.SuiteAuto})
	if !errors.Is(err, kmclient.ErrKeyExhausted) {
		t.Errorf("no keys for a pad: error %v, want %v and not AES-256-GCM", err, kmclient.ErrKeyExhausted)
	}
}

// failingOTP has keys only for AES-256-GCM.
type failingOTP struct{ *testKM }

func (failingOTP) Status(context.Context, string) (kmclient.Status, error) {
	return kmclient.Status{}, kmclient.ErrKeyExhausted
}
