package cipher

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode"

	"github.com/qkdmail/qkdmail/cipher/rawheader"
	"golang.org/x/net/idna"
)

// MaxRecipients is how many recipients a message can be sealed for.
const MaxRecipients = 4096

// Recipients are those that a message is sealed for, as digests of their addresses. If
// there are none, the sender did not say. Whoever guesses an address can try it, so
// don't log them.
type Recipients [][16]byte

// Include reports whether the message may go to a recipient: it is sealed for this
// address, or for no one. The address is as in RCPT TO, without angle brackets.
func (r Recipients) Include(address string) bool {
	return len(r) == 0 || slices.Contains(r, recipientDigest(address))
}

// recipientDigest returns the digest of an address in a recipient list.
func recipientDigest(address string) (digest [16]byte) {
	sum := sha256.Sum256([]byte("qkdmail/1 recipient\x00" + normalRecipient(address)))
	copy(digest[:], sum[:])
	return digest
}

// normalRecipient returns an address in the one form that is compared: without source
// route (RFC 5321 §4.1.2) and quotes that it does not need, A to Z in lower case, the
// domain in A-labels without a dot at the end.
func normalRecipient(address string) string {
	if strings.HasPrefix(address, "@") {
		if _, rest, ok := strings.Cut(address, ":"); ok {
			address = rest
		}
	}
	local, domain := address, ""
	if text, n := rawheader.QuotedString(address); n > 0 && (n == len(address) || address[n] == '@') {
		local, domain = text, strings.TrimPrefix(address[n:], "@")
	} else if at := strings.LastIndexByte(address, '@'); at >= 0 {
		local, domain = address[:at], address[at+1:]
	}
	if !isDotString(local) {
		local = `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(local) + `"`
	}
	if local = lowerASCII(local); domain == "" {
		return local
	}
	return local + "@" + normalDomain(domain)
}

func normalDomain(domain string) string {
	if strings.ContainsFunc(domain, func(r rune) bool { return r > unicode.MaxASCII }) {
		profile := idna.New(idna.MapForLookup(), idna.Transitional(false), idna.StrictDomainName(false))
		if ascii, err := profile.ToASCII(domain); err == nil {
			domain = ascii
		}
	}
	return strings.TrimSuffix(lowerASCII(domain), ".")
}

// isDotString reports whether a local part needs no quotes (RFC 5321 §4.1.2, RFC 6531
// §3.3).
func isDotString(s string) bool {
	for atom := range strings.SplitSeq(s, ".") {
		if atom == "" || atomLen(atom) != len(atom) {
			return false
		}
	}
	return true
}

func lowerASCII(s string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			r += 'a' - 'A'
		}
		return r
	}, s)
}

// checkRecipients refuses what can't be sealed for. The error is an ErrOptions.
func checkRecipients(addresses []string) error {
	if len(addresses) > MaxRecipients {
		return fmt.Errorf("%w: %d recipients: a message can be sealed for %d, split it", ErrOptions, len(addresses), MaxRecipients)
	}
	for _, a := range addresses {
		if a == "" || strings.ContainsAny(a, "\r\n\x00") {
			return fmt.Errorf("%w: a recipient that is no address: use the one of RCPT TO, as in bob@b.example", ErrOptions)
		}
	}
	return nil
}

// listSize returns the size of a recipient list, in bytes.
func listSize(recipients int) int { return 4 + 16*recipients }

// recipientList returns what a suite encrypts before the message.
func recipientList(addresses []string) []byte {
	list := binary.BigEndian.AppendUint32(make([]byte, 0, listSize(len(addresses))), uint32(len(addresses)))
	for _, a := range addresses {
		digest := recipientDigest(a)
		list = append(list, digest[:]...)
	}
	return list
}

// Recipients returns for whom the message is sealed. It verifies the message as far as
// that takes, and releases nothing. The errors are those of Read, and final.
func (r *Reader) Recipients() (Recipients, error) {
	if err := r.readList(); err != nil {
		return nil, err
	}
	return r.list, nil
}

// readList reads the list of recipients, unless that is done.
func (r *Reader) readList() error {
	if r.listed {
		return nil
	}
	var count [4]byte
	if err := r.readPlain(count[:]); err != nil {
		return err
	}
	n := binary.BigEndian.Uint32(count[:])
	if n > MaxRecipients {
		r.err = fmt.Errorf("%w: a list of %d recipients, more than %d", ErrDamaged, n, MaxRecipients)
		return r.err
	}
	r.list = make(Recipients, n)
	for i := range r.list {
		if err := r.readPlain(r.list[i][:]); err != nil {
			return err
		}
	}
	r.listed = true
	return nil
}

// readPlain fills p with plaintext before the message.
func (r *Reader) readPlain(p []byte) error {
	for len(p) > 0 {
		if err := r.fill(); err == io.EOF {
			r.err = fmt.Errorf("%w: it ends in its list of recipients", ErrDamaged)
			return r.err
		} else if err != nil {
			return err
		}
		n := copy(p, r.plain)
		p, r.plain = p[n:], r.plain[n:]
	}
	return nil
}
