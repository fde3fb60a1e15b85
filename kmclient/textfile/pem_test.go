package textfile

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// newCert returns a certificate and its private key, both in PEM.
func newCert(t testing.TB, name string) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}))
}

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file.pem")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// withoutLine returns text without its line n, counted from 0.
func withoutLine(text string, n int) string {
	lines := strings.SplitAfter(text, "\n")
	return strings.Join(append(lines[:n:n], lines[n+1:]...), "")
}

// TestCAs: all CAs in a file, or an error that says where.
func TestCAs(t *testing.T) {
	a, key := newCert(t, "a")
	b, _ := newCert(t, "b")
	line := strings.Split(a, "\n")[1] // of base64
	der, _ := pem.Decode([]byte(a))
	crlf := func(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") }
	replaced := func(n int, by string) string {
		lines := strings.SplitAfter(a, "\n")
		lines[n] = by + "\n"
		return strings.Join(lines, "")
	}
	for _, tt := range []struct {
		name, text string
		want       int    // certificates
		says       string // if there are none
	}{
		{"one", a, 1, ""},
		{"two", a + b, 2, ""},
		{"with a mark", "\uFEFF" + a + b, 2, ""},
		{"CRLF", crlf(a + b), 2, ""},
		{"with a mark, CRLF", "\uFEFF" + crlf(a+b), 2, ""},
		{"no last line end", strings.TrimSuffix(a, "\n"), 1, ""},
		{"blanks at line ends", strings.ReplaceAll(a, "\n", " \t\n"), 1, ""},
		{"text between", "# the first\nsubject=CN = ä\n\n" + a + "\n  Certificate:\n    Data: 1\n==========\n----------\n# the end\n" + b, 2, ""},
		{"a fingerprint", strings.Repeat("0a", 32) + "\n" + a, 1, ""},
		{"a key as well", key + a + key + b, 2, ""},

		{"empty", "", 0, "no certificate in it"},
		{"only a mark", "\uFEFF", 0, "no certificate in it"},
		{"text", "nothing here\n", 0, "no certificate in it"},
		{"a key", key, 0, "no certificate in it"},
		{"UTF-16", string(inUTF16(a, binary.LittleEndian, true)), 0, "iconv"},
		{"UTF-16 without a mark", string(inUTF16(a, binary.BigEndian, false)), 0, "iconv"},
		{"DER", string(der.Bytes), 0, "file.pem:1: this is not text"},
		{"DER behind a good one", a + string(der.Bytes), 0, "this is not text"},
		{"first damaged", strings.Replace(a, "\n", "\nAAAA", 3) + b, 0, "file.pem:1: "},
		{"second damaged", a + strings.Replace(b, "\n", "\nAAAA", 3), 0, "file.pem:" + lineAfter(a) + ": "},
		{"not base64", replaced(2, "!!!!") + b, 0, "file.pem:1: the block that begins here is damaged"},
		{"a line missing", withoutLine(a, 2) + b, 0, "file.pem:1: this certificate can't be parsed"},
		{"something else in the block", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("hello")})) + b, 0, "file.pem:1: this certificate can't be parsed"},
		{"an empty block", "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n" + b, 0, "file.pem:1: "},
		{"two in one block", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: append(der.Bytes, der.Bytes...)})), 0, "file.pem:1: this certificate can't be parsed"},
		{"cut", a + b[:len(b)/2], 0, "file.pem:" + lineAfter(a) + ": the block that begins here has no end"},
		{"no end", strings.Replace(a, "-----END CERTIFICATE-----\n", "", 1) + b, 0, "file.pem:1: the block that begins here has no end"},
		{"no beginning", strings.Replace(a, "-----BEGIN CERTIFICATE-----\n", "", 1) + b, 0, "file.pem:1: base64 outside of a block"},
		{"neither", line + "\n" + b, 0, "file.pem:1: base64 outside of a block"},
		{"a beginning cut", strings.TrimPrefix(a, "-----BEGIN CERT") + b, 0, "file.pem:"},
		{"another end", replacedEnd(a, "-----END X509 CRL-----") + b, 0, "file.pem:1: the block that begins here is damaged"},
		{"four dashes", a[1:] + b, 0, "file.pem:1: this line is meant"},
		{"one dash", strings.TrimLeft(a, "-") + b, 0, "file.pem:1: this line is meant"},
		{"long dashes", strings.ReplaceAll(a, "-----", "\u2014\u2013") + b, 0, "file.pem:1: this line is meant"},
		{"lower case", strings.ToLower(a) + b, 0, "file.pem:1: this line is meant"},
		{"indented", "  " + a + b, 0, "file.pem:1: this line is meant"},
		{"quoted", "> " + strings.ReplaceAll(a, "\n", "\n> ") + "\n" + b, 0, "file.pem:1: this line is meant"},
		{"behind a word", "ca: " + a + b, 0, "file.pem:1: this line is meant"},
		{"one line", strings.ReplaceAll(a, "\n", "") + "\n" + b, 0, "file.pem:1: "},
		{"CR alone", strings.ReplaceAll(a, "\n", "\r"), 0, "file.pem:1: "},
		{"OpenSSL's own", strings.ReplaceAll(a, " CERTIFICATE", " TRUSTED CERTIFICATE") + b, 0, `file.pem:1: "TRUSTED CERTIFICATE" is not read`},
		{"PEM headers", strings.Replace(a, "-----\n", "-----\nProc-Type: 4,ENCRYPTED\n\n", 1) + b, 0, "file.pem:1: this certificate has PEM headers"},
		{"a NUL", a + "\x00\n" + b, 0, "this is not text"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := write(t, tt.text)
			pool, err := CAs(path)
			if tt.says != "" {
				if err == nil || !strings.Contains(err.Error(), tt.says) || !strings.Contains(err.Error(), path) {
					t.Errorf("error %v, want one that names the file and has %q", err, tt.says)
				}
				if !errors.Is(err, ErrPEM) && !errors.Is(err, ErrUTF16) {
					t.Errorf("the error is neither an ErrPEM nor an ErrUTF16: %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			want := x509.NewCertPool()
			want.AppendCertsFromPEM([]byte(a))
			if tt.want > 1 {
				want.AppendCertsFromPEM([]byte(b))
			}
			if !pool.Equal(want) {
				t.Errorf("these are not the %d CAs in the file", tt.want)
			}
		})
	}
}

func replacedEnd(cert, end string) string {
	return strings.Replace(cert, "-----END CERTIFICATE-----", end, 1)
}

// lineAfter is the number of the line that follows text.
func lineAfter(text string) string { return big.NewInt(int64(strings.Count(text, "\n") + 1)).String() }

// TestSystemCAs: a file with the CAs of an operating system is accepted.
func TestSystemCAs(t *testing.T) {
	const path = "/etc/ssl/certs/ca-certificates.crt"
	if _, err := os.Stat(path); err != nil {
		t.Skip("no CAs of the operating system here")
	}
	if _, err := CAs(path); err != nil {
		t.Error(err)
	}
}

// TestKeyPair: certificates and private keys are read as CAs are.
func TestKeyPair(t *testing.T) {
	cert, key := newCert(t, "a")
	_, other := newCert(t, "b")
	for _, tt := range []struct{ name, cert, key, says string }{
		{"plain", cert, key, ""},
		{"with marks", "\uFEFF" + cert, "\uFEFF" + key, ""},
		{"in one file", "\uFEFF" + cert + key, "\uFEFF" + key + cert, ""},
		{"certificate in UTF-16", string(inUTF16(cert, binary.LittleEndian, true)), key, "iconv"},
		{"key in UTF-16", cert, string(inUTF16(key, binary.BigEndian, false)), "iconv"},
		{"another key", cert, other, "private key does not match"},
		{"no key", cert, cert, "private key"},
		{"no certificate", "", key, "certificate"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			certFile, keyFile := write(t, tt.cert), write(t, tt.key)
			pair, err := KeyPair(certFile, keyFile)
			if tt.says == "" {
				if err != nil || len(pair.Certificate) != 1 {
					t.Errorf("%d certificates, %v", len(pair.Certificate), err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.says) || !strings.Contains(err.Error(), "file.pem") {
				t.Errorf("error %v, want one that names a file and has %q", err, tt.says)
			}
			if err != nil && strings.Contains(err.Error(), key[40:80]) {
				t.Error("the error shows the private key")
			}
		})
	}
	if _, err := KeyPair(write(t, cert), filepath.Join(t.TempDir(), "missing")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing key: %v", err)
	}
}

// FuzzCAs: whatever is accepted gives all the CAs that crypto/x509 finds in it, and no
// others; a refusal names a line of the text.
func FuzzCAs(f *testing.F) {
	a, key := newCert(f, "a")
	b, _ := newCert(f, "b")
	for _, seed := range []string{"", a, a + b, "# x\r\n" + a + key, strings.Replace(a, "\n", "\nA", 3) + b, a[:100], a[1:], "-----BEGIN \n-----END ", "-----END CERTIFICATE-----"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		certs, line, err := parseCAs(text)
		if err != nil {
			if lines := strings.Count(string(text), "\n") + 1; line < 1 || line > lines {
				t.Errorf("line %d of %d: %v", line, lines, err)
			}
			return
		}
		got, want := x509.NewCertPool(), x509.NewCertPool()
		for _, c := range certs {
			got.AddCert(c)
		}
		want.AppendCertsFromPEM(text)
		if !got.Equal(want) {
			t.Errorf("%d CAs, and not those that crypto/x509 finds", len(certs))
		}
	})
}
