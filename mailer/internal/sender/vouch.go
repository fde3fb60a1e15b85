package sender

import (
	"net/mail"

	"github.com/qkdmail/qkdmail/cipher/rawheader"
	"github.com/qkdmail/qkdmail/mailer/internal/address"
	"golang.org/x/net/publicsuffix"
)

// Vouches reports whether a domain has to do with the From of a message: an address there
// has the same domain, or both are beneath the same registrable domain. Unlike [Read], it
// reads only a correct From: any other has no addresses.
func Vouches(header []byte, domain string) bool {
	from, _ := rawheader.First(header, rawheader.Lenient, "From")
	authors, _ := mail.ParseAddressList(from.Text())
	for _, a := range authors {
		if sameOwner(domain, address.Domain(a.Address)) {
			return true
		}
	}
	return false
}

func sameOwner(a, b string) bool {
	if a == b {
		return true
	}
	ownerA, errA := publicsuffix.EffectiveTLDPlusOne(a)
	ownerB, errB := publicsuffix.EffectiveTLDPlusOne(b)
	return errA == nil && errB == nil && ownerA == ownerB
}
