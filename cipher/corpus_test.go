package cipher_test

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/qkdmail/qkdmail/cipher"
)

func TestScratch(t *testing.T) {
	files, _ := filepath.Glob("../../shared/corpus/*.eml")
	km := newTestKM(t)
	out := os.Getenv("OUT")
	for _, suite := range []cipher.Suite{cipher.SuiteAES256GCM, cipher.SuiteOTP} {
		for _, f := range files {
			b, _ := os.ReadFile(f)
			var enc bytes.Buffer
			w, err := cipher.Encrypt(t.Context(), &enc, km, &cipher.EncryptOptions{Suite: suite, Headers: cipher.HeaderPolicy(os.Getenv("HCP"))})
			if err != nil {
				t.Fatal(err)
			}
			w.Write(b)
			if err := w.Close(); err != nil {
				t.Fatal(f, err)
			}
			if out != "" {
				os.WriteFile(filepath.Join(out, string(suite)+filepath.Base(f)), enc.Bytes(), 0o644)
			}
			r, err := cipher.Decrypt(t.Context(), &enc, km, nil)
			if err != nil {
				t.Fatal(f, err)
			}
			got, err := io.ReadAll(r)
			if err != nil || !bytes.Equal(got, b) {
				t.Errorf("%s: %d %d, %v", f, len(got), len(b), err)
			}
		}
	}
}
