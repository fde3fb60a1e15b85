package sealed

import (
	"testing"

	"github.com/qkdmail/qkdmail/kmclient/keystore/internal/engine"
)

func FuzzDecodeHead(f *testing.F) {
	f.Add([]byte(`{"version":1,"store_id":"AAAAAAAAAAAAAAAAAAAAAA==","generations":[{"number":1,"check":"AQ=="}]}`))
	f.Fuzz(func(t *testing.T, value []byte) {
		h, err := decodeHead(&engine.Record{Value: value})
		if err == nil && (len(h.Generations) < 1 || len(h.StoreID) != 16) {
			t.Errorf("%+v", h)
		}
	})
}
