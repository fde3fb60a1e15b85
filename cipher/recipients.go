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

// MaxRecipients is the largest number of recipients that a message can be sealed for.
const MaxRecipients = 4096

// Recipients are digests of the addresses that a message is sealed for. If there are
// none, the sender did not say. Don't log them: anyone can test a guessed address
// against them.
type Recipients [][16]byte

// Include reports whether the message may go to an address, written as in
// EncryptOptions.Recipients. It may if it is sealed for this address, or for none at
// all.
func (r Recipients) Include(address string) bool {
	return len(r) == 0 || slices.Contains(r, recipientDigest(address))
}

// Spelling returns the same spelling for all addresses that the list can't tell apart,
// so that a message is not delivered again for each. It returns an address as it is if
// it is not on the list, or is on it more than once: then it may stand for several
// mailboxes whose names differ only in case.
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

// normalRecipient returns an address in the form that is compared: as in RCPT TO,
// without source route and unneeded quotes around the local part, A to Z in lower case,
// the domain in A-labels without a final dot. The address passed in is unquoted, so
// quotes in it are characters like any other: `"bob"@b.example` and bob@b.example are
// two mailboxes.
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

// normalDomain returns a domain in A-labels. One that has no such form is only put in
// lower case and loses its final dots: an address literal, or a domain with ẞ (U+1E9E).
// Up to Unicode 15.0 that letter became ss, and later ß, so two readers would see
// different domains.
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

// lowerASCII changes A to Z and no other byte, even if s is not UTF-8.
func lowerASCII(s string) string {
	b := []byte(s)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}

// checkRecipients refuses addresses that a message can't be sealed for. The error wraps
// ErrOptions.
func checkRecipients(addresses []string) error {
	if len(addresses) > MaxRecipients {
		return fmt.Errorf("%w: %d recipients: a message can be sealed for %d, split it", ErrOptions, len(addresses), MaxRecipients)
	}
	for _, a := range addresses {
		domain := a[strings.LastIndexByte(a, '@')+1:]
		if a == "" || strings.ContainsAny(a, "\r\n\x00") || strings.ContainsAny(domain, "<>\" \t") {
			return fmt.Errorf("%w: a recipient is not an address: write it as bob@b.example, without name and brackets", ErrOptions)
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

// Recipients returns the recipients that the message is sealed for. It verifies as much
// of the message as this takes, and releases nothing. The errors are those of Read, and
// final; the list returned with an error includes nobody.
func (r *Reader) Recipients() (Recipients, error) {
	if err := r.readList(); err != nil {
		return Recipients{{}}, err // nil would be for anyone
	}
	return r.list, nil
}

// readList reads the recipient list, unless it has been read.
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

// readPlain fills p with the plaintext that precedes the message.
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
