package messagecmd

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"net/mail"
	"slices"
	"sort"
	"strings"

	"github.com/qkdmail/qkdmail/cipher"
	"github.com/qkdmail/qkdmail/cipher/rawheader"
	"github.com/qkdmail/qkdmail/cmd/internal/terminal"
)

// parseTo returns the addresses that the --to flags name. An empty flag is an error;
// otherwise an unset variable of a script would mean anyone.
func parseTo(values []string) (addresses []string, err error) {
	for _, value := range values {
		list, err := mail.ParseAddressList(value)
		if err == nil && len(list) == 0 {
			err = errors.New("it is an empty group")
		}
		if err != nil {
			return nil, terminal.Usage("--to %q is not an address like bob@b.example: %s", value, strings.TrimPrefix(err.Error(), "mail: "))
		}
		for _, a := range list {
			addresses = append(addresses, a.Address)
		}
	}
	return addresses, nil
}

// errNotForThem means that a message is not sealed for one of the addresses.
var errNotForThem = errors.New("it is not sealed for")

// checkTo refuses a message that is not sealed for one of these addresses.
func checkTo(list cipher.Recipients, addresses []string) error {
	for _, a := range addresses {
		if !list.Include(a) {
			return terminal.Fail(terminal.ExitData, "do not give it to them; --recipients shows who it is for", "%w %s", errNotForThem, terminal.Printable(a))
		}
	}
	return nil
}

// anyone describes a message whose sender named no recipients.
const anyone = "sealed for anyone: its sender named no recipients"

// sealedFor returns a line for each recipient that a message is sealed for: a digest,
// and the address if it is one of these.
func sealedFor(list cipher.Recipients, addresses []string) []string {
	if len(list) == 0 {
		return []string{anyone}
	}
	lines := make([]string, len(list))
	for i, digest := range list {
		lines[i] = fmt.Sprintf("sealed for %x", digest)
	}
	slices.Sort(addresses)
	for _, a := range slices.Compact(addresses) {
		// The shortest prefix of the list that includes the address ends with it.
		if i := sort.Search(len(list), func(i int) bool { return list[:i+1].Include(a) }); i < len(list) {
			lines[i] += " " + terminal.Printable(a)
		}
	}
	return lines
}

// A beginning keeps the first formLimit bytes that are written to it.
type beginning struct{ text []byte }

func (b *beginning) Write(p []byte) (int, error) {
	b.text = append(b.text, p[:min(len(p), formLimit-len(b.text))]...)
	return len(p), nil
}

// recipients returns the addresses in To, Cc and Bcc, as far as these fields can be
// parsed.
func (b *beginning) recipients() (addresses []string) {
	asItIs := func(_ string, in io.Reader) (io.Reader, error) { return in, nil } // names don't matter
	parser := mail.AddressParser{WordDecoder: &mime.WordDecoder{CharsetReader: asItIs}}
	for f := range rawheader.Fields(b.text, rawheader.Lenient) {
		if !f.Is("To") && !f.Is("Cc") && !f.Is("Bcc") {
			continue
		}
		list, err := parser.ParseList(f.Text())
		if err != nil {
			continue
		}
		for _, a := range list {
			addresses = append(addresses, a.Address)
		}
	}
	return addresses
}
