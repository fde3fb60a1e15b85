package etsi014

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/kmclient/internal/kmhttp"
)

// A key of 16 bytes that is anywhere in an answer, in whatever encoding, never appears
// in an error.
func FuzzNoKeyInErrors(f *testing.F) {
	f.Add([]byte("seed"), 400, "the key ", " is bad", uint8(0))
	f.Add([]byte("seed"), 500, `{"a":"`, `"}`, uint8(1))
	f.Add([]byte("seed"), 200, "KeyPool", "_exhausted", uint8(2))
	f.Add([]byte("seed"), 503, "ab:cd:ef:01:23:45:67:", ":89", uint8(4))
	f.Add([]byte("seed"), 401, "9b42e9e2-38cc-4d7f-ba7e-94e0ed1a8a1c", "/asked-for-1", uint8(3))
	f.Fuzz(func(t *testing.T, seed []byte, status int, before, after string, form uint8) {
		sum := sha256.Sum256(seed) // a key is random
		key := sum[:16]
		encoded := []string{
			base64.StdEncoding.EncodeToString(key), base64.RawStdEncoding.EncodeToString(key),
			base64.URLEncoding.EncodeToString(key), base64.RawURLEncoding.EncodeToString(key),
			hex.EncodeToString(key), strings.ToUpper(hex.EncodeToString(key)),
		}[int(form)%6]
		core := strings.TrimRight(encoded, "=")
		text := before + encoded + after
		quoted := strconv.Quote(text)
		other := base64.StdEncoding.EncodeToString(sum[16:])
		for _, body := range []string{
			text,
			quoted,
			`{"message":` + quoted + `}`,
			`{"error":{"message":` + quoted + `,"key":` + quoted + `}}`,
			`{"message":"x","details":[{"reason":` + quoted + `},` + quoted + `,{` + quoted + `:1}]}`,
			`{"message":"x","details":[{"Key":` + quoted + `,"a":[{"keys":[` + quoted + `]}]}]}`,
			`{"keys":[{"key_ID":"x","key":` + quoted + `}],"message":` + quoted + `}`,
			`{"keys":[{"key_ID":"` + encoded + `","key":"` + other + `"}]}`,
			`{"keys":[{"key_ID":` + quoted + `,"key":"` + other + `"}]}`,
		} {
			var errs []error
			for _, op := range []string{kmhttp.OpStatus, kmhttp.OpGetKeys, kmhttp.OpKeysByID, kmhttp.OpCloseKey} {
				q := kmhttp.Call{Op: op, IDs: []string{"asked-for-1"}}
				errs = append(errs, kmhttp.Refusal(q, status, nil, []byte(body)), kmhttp.BadAnswer(q, 200, []byte(body), kmclient.ErrBadAnswer))
			}
			if _, err := kmhttp.DecodeKeys([]byte(body), 256, 1); err != nil {
				errs = append(errs, err)
			}
			if _, err := kmhttp.DecodeKey([]byte(body), "asked-for-1"); err != nil {
				errs = append(errs, err)
			}
			if _, err := kmhttp.DecodeStatus([]byte(body)); err != nil {
				errs = append(errs, err)
			}
			if keys, err := kmhttp.DecodeKeyList([]byte(body)); err == nil {
				_, err := match(keys, []string{"asked-for-1"})
				errs = append(errs, err, kmclient.CheckKeys(keys, 256, 2))
			}
			for _, err := range errs {
				if err != nil && strings.Contains(fmt.Sprint(err), core) {
					t.Fatalf("HTTP %d with %q: the error shows the key: %v", status, body, err)
				}
			}
		}
	})
}
