package kmsim

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/qkdmail/qkdmail/kmclient"
)

// A Profile is a way in which KMEs in the field stray from ETSI GS QKD 014, or
// implement only part of it. docs/kmes.md says what works with each.
type Profile struct {
	Name     string
	About    string // in a few words
	Options  Options
	Identity string // as in Topology
}

// Profiles returns all profiles.
func Profiles() []Profile {
	type (
		o = Options
		q = Quirks
	)
	return []Profile{
		{Name: "one-key", About: "one 256-bit key per request", Options: o{MinKeySize: 256, MaxKeySize: 256, MaxKeysPerRequest: 1}},
		{Name: "post-only", About: "GET is refused with 405", Options: o{Quirks: q{GETStatus: http.StatusMethodNotAllowed}}},
		{Name: "get-only", About: "POST is refused with 405", Options: o{Quirks: q{POSTStatus: http.StatusMethodNotAllowed}}},
		{Name: "get-only-501", About: "POST is refused with 501", Options: o{Quirks: q{POSTStatus: http.StatusNotImplemented}}},
		{Name: "unknown-404", About: "404 for an unknown key ID", Options: o{Quirks: q{UnknownKeyStatus: http.StatusNotFound}}},
		{Name: "unknown-500", About: "500 for an unknown key ID", Options: o{Quirks: q{UnknownKeyStatus: http.StatusInternalServerError}}},
		{Name: "html-errors", About: "errors are HTML pages", Options: o{Quirks: q{HTMLErrors: true}}},
		{Name: "numeric-ids", About: "IDs of KMEs are numbers in the status", Options: o{Quirks: q{NumericTarget: true}}},
		{Name: "fewer-keys", About: "one key per answer, however many are asked for", Options: o{Quirks: q{MostKeys: 1}}},
		{Name: "string-ids", About: "key_IDs is a list of strings", Options: o{Quirks: q{StringIDs: true}}},
		{Name: "serial", About: "an SAE is known by its certificate's serial number", Identity: identitySerial},
	}
}

// ProfileNamed returns a profile.
func ProfileNamed(name string) (Profile, error) {
	var names []string
	for _, p := range Profiles() {
		if p.Name == name {
			return p, nil
		}
		names = append(names, p.Name)
	}
	return Profile{}, fmt.Errorf("%w: no profile %q: must be %s", kmclient.ErrConfig, name, strings.Join(names, ", "))
}
