package textfile

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"unicode"
)

// ErrPEM: a PEM file is not what it should be. The error names the file and the line.
var ErrPEM = errors.New("bad PEM file")

// maxPEM is how long a PEM file can be, in bytes. The CAs of a whole operating
// system are some 200 KiB.
const maxPEM = 4 << 20

// CAs returns the CAs in a PEM file. Text between them is allowed (RFC 7468 §5.2), and
// so are blocks that are not certificates. But if a CA were left out silently, nobody
// would notice until the day its certificates are needed. So everything that looks like
// a certificate must be one: a certificate that can't be parsed, a block that is cut
// short or damaged, a line that can only be part of a block, or no certificate at all
// is an [ErrPEM].
func CAs(path string) (*x509.CertPool, error) {
	text, err := Read(path, maxPEM)
	if err != nil {
		return nil, err
	}
	certs, line, err := parseCAs(text)
	if err != nil {
		return nil, fmt.Errorf("%w: %s:%d: %w", ErrPEM, path, line, err)
	}
	if len(certs) == 0 {
		return nil, fmt.Errorf("%w: %s: no certificate in it", ErrPEM, path)
	}
	pool := x509.NewCertPool()
	for _, c := range certs {
		pool.AddCert(c)
	}
	return pool, nil
}

// KeyPair returns the certificate, the intermediate ones after it, and the private key
// from two PEM files, which may be the same file.
func KeyPair(certFile, keyFile string) (tls.Certificate, error) {
	cert, err := Read(certFile, maxPEM)
	if err != nil {
		return tls.Certificate{}, err
	}
	defer clear(cert) // the key may be in it
	key, err := Read(keyFile, maxPEM)
	if err != nil {
		return tls.Certificate{}, err
	}
	defer clear(key)
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("%w: certificate %s, private key %s: %s", ErrPEM, certFile, keyFile, strings.TrimPrefix(err.Error(), "tls: "))
	}
	return pair, nil
}

// parseCAs returns the certificates in a PEM text, or what is wrong and in which line.
func parseCAs(text []byte) (certs []*x509.Certificate, line int, err error) {
	for line = 1; len(text) > 0; {
		size, block, err := nextBlock(text)
		switch {
		case err != nil:
			return nil, line, err
		case block == nil:
		case block.Type == "CERTIFICATE" && len(block.Headers) > 0:
			return nil, line, errors.New("this certificate has PEM headers, which none should have")
		case block.Type == "CERTIFICATE":
			cert, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				return nil, line, fmt.Errorf("this certificate can't be parsed: %s", strings.TrimPrefix(err.Error(), "x509: "))
			}
			certs = append(certs, cert)
		case strings.HasSuffix(block.Type, "CERTIFICATE"):
			return nil, line, fmt.Errorf("%q is not read, only CERTIFICATE: convert it with: openssl x509", block.Type)
		}
		line += bytes.Count(text[:size], []byte("\n"))
		text = text[size:]
	}
	return certs, line, nil
}

// nextBlock reads the line at the start of text, or the whole block that begins
// there, and returns its size in bytes.
func nextBlock(text []byte) (size int, block *pem.Block, err error) {
	line, size := cutLine(text)
	if !bytes.HasPrefix(line, []byte("-----BEGIN ")) {
		return size, nil, checkText(line)
	}
	for {
		next, n := cutLine(text[size:])
		size += n
		switch {
		case bytes.HasPrefix(next, []byte("-----END ")):
			block, rest := pem.Decode(text[:size])
			if block == nil || len(bytes.TrimSpace(rest)) > 0 {
				return 0, nil, errors.New("the block that begins here is damaged")
			}
			return size, block, nil
		case n == 0 || bytes.HasPrefix(next, []byte("-----BEGIN ")):
			return 0, nil, errors.New("the block that begins here has no end")
		}
	}
}

// cutLine returns the first line of text without its line end and the blanks
// before that, and its size with them.
func cutLine(text []byte) (line []byte, size int) {
	size = len(text)
	if i := bytes.IndexByte(text, '\n'); i >= 0 {
		size = i + 1
	}
	return bytes.TrimRight(text[:size], " \t\r\n"), size
}

// Most programs that link this package read no PEM file.
var (
	delimiter = lazily(`-{4,}\s*(BEGIN|END)\b`)
	named     = lazily(`^(?i:(BEGIN|END)(TRUSTED|X509)?CERTIFICATE)$`)
	notWord   = lazily(`[^A-Za-z0-9]+`)
	encoded   = lazily(`^\s*[A-Za-z0-9+/]{56,}={0,2}$`)
	hexDigits = lazily(`^\s*[A-Fa-f0-9]+$`) // a fingerprint
)

// lazily compiles a regular expression when it is first used.
func lazily(expr string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(expr) })
}

// checkText refuses a line between blocks that can only be part of a block, or is not
// text.
func checkText(line []byte) error {
	switch {
	case delimiter().Match(line), named().Match(notWord().ReplaceAll(line, nil)):
		return errors.New("this line is meant to begin or end a block, and does not")
	case encoded().Match(line) && !hexDigits().Match(line):
		return errors.New("base64 outside of a block")
	case bytes.ContainsFunc(line, func(r rune) bool { return r < ' ' && !unicode.IsSpace(r) }):
		return errors.New("this is not text: if it is a certificate in DER form, convert it with: openssl x509 -inform DER")
	}
	return nil
}
