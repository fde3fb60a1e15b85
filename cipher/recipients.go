package cipher

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

// MaxRecipients is how many recipients a message can be sealed for.
const MaxRecipients = 4096

// Recipients are those that a message is sealed for, as digests of their addresses. If
// there are none, the sender did not say. Whoever guesses an address can try it, so
// don't log them.
type Recipients [][16]byte

// Include reports whether the message may go to a recipient: it is sealed for this
// address, or for no one. The address is as in EncryptOptions.Recipients.
func (r Recipients) Include(address string) bool {
	return len(r) == 0 || slices.Contains(r, recipientDigest(address))
}

// Spelling returns one spelling of an address for all that are the same on the list: a
// message must not be delivered again for each. An address that is on it more than once
// may be of several mailboxes, whose names differ in case only; it comes back as it is,
// and so does one that is not on the list.
func (r Recipients) Spelling(address string) string {
	digest, times := recipientDigest(address), 0
	for i := range r {
		if r[i] == digest {
			times++
		}
	}
	if times != 1 {
		return address
	}
	return normalRecipient(address)
}

// recipientDigest returns the digest of an address in a recipient list.
func recipientDigest(address string) (digest [16]byte) {
	sum := sha256.Sum256([]byte("qkdmail/1 recipient\x00" + normalRecipient(address)))
	copy(digest[:], sum[:])
	return digest
}

// normalRecipient returns the one form of an address that is compared: as in RCPT TO,
// without source route and quotes that the local part does not need, A to Z in lower
// case, the domain in A-labels without a dot at the end. The address itself has no
// quotes, so that those in it are characters like any other: `"bob"@b.example` and
// bob@b.example are two mailboxes.
func normalRecipient(address string) string {
	local, domain := address, ""
	if at := strings.LastIndexByte(address, '@'); at >= 0 {
		local, domain = address[:at], "@"+normalDomain(address[at+1:])
	}
	if !isDotString(local) {
		local = `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(local) + `"`
	}
	return lowerASCII(local) + domain
}

// normalDomain leaves a domain that has no A-labels as it is, but for A to Z and dots at
// the end. So it leaves an address literal, and a domain with ẞ (U+1E9E): up to Unicode
// 15.0 it became ss, and later ß, so one reader's bob would be another's.
func normalDomain(domain string) string {
	domain = strings.TrimRight(lowerASCII(domain), ".")
	if !isASCII(domain) && utf8.ValidString(domain) && !strings.ContainsRune(domain, 'ẞ') {
		// UTS #46, non-transitional, with UseSTD3ASCIIRules, CheckHyphens, CheckJoiners.
		profile := idna.New(idna.MapForLookup(), idna.Transitional(false))
		if ascii, err := profile.ToASCII(domain); err == nil {
			domain = strings.TrimRight(ascii, ".")
		}
	}
	return domain
}

func isASCII(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r > unicode.MaxASCII })
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

// lowerASCII changes A to Z and no other byte, even where s is no UTF-8.
func lowerASCII(s string) string {
	b := []byte(s)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}

// checkRecipients refuses what can't be sealed for. The error is an ErrOptions.
func checkRecipients(addresses []string) error {
	if len(addresses) > MaxRecipients {
		return fmt.Errorf("%w: %d recipients: a message can be sealed for %d, split it", ErrOptions, len(addresses), MaxRecipients)
	}
	for _, a := range addresses {
		domain := a[strings.LastIndexByte(a, '@')+1:]
		if a == "" || strings.ContainsAny(a, "\r\n\x00") || strings.ContainsAny(domain, "<>\" \t") {
			return fmt.Errorf("%w: a recipient that is no address: write it as bob@b.example, without name and brackets", ErrOptions)
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
// that takes, and releases nothing. The errors are those of Read, and final; with one,
// the list includes nobody.
func (r *Reader) Recipients() (Recipients, error) {
	if err := r.readList(); err != nil {
		return Recipients{{}}, err // nil would be for anyone
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
		return r.end(fmt.Errorf("%w: a list of %d recipients, more than %d", ErrDamaged, n, MaxRecipients))
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
			return r.end(fmt.Errorf("%w: it ends in its list of recipients", ErrDamaged))
		} else if err != nil {
			return err
		}
		n := copy(p, r.plain)
		p, r.plain = p[n:], r.plain[n:]
	}
	return nil
}
