package kmdoctor

import (
	"testing"

	"github.com/qkdmail/qkdmail/cmd/internal/kmsim"
	"github.com/qkdmail/qkdmail/cmd/internal/kmtest"
)

// The rules that each profile of the simulator breaks, according to the checks.
// docs/kmes.md lists them too.
func TestProfiles(t *testing.T) {
	const noPOST = "enc-default enc-number enc-optional refuse-multiple refuse-number refuse-size refuse-mandatory refuse-json refuse-sae " +
		"dec-stranger dec-whole dec-unknown"
	broken := map[string]string{
		"one-key":      "",
		"post-only":    "enc-get dec-get",
		"get-only":     noPOST,
		"get-only-501": noPOST,
		"unknown-404":  "dec-unknown",
		"unknown-500":  "dec-unknown",
		"html-errors":  "refuse-multiple refuse-mandatory dec-unknown error-body",
		"numeric-ids":  "status-fields",
		"fewer-keys":   "enc-number enc-get",
		"string-ids":   "dec-keys dec-whole dec-unknown dec-later",
		"serial":       "",
	}
	for _, p := range kmsim.Profiles() {
		t.Run(p.Name, func(t *testing.T) {
			want, known := broken[p.Name]
			if !known {
				t.Fatal("add the rules that this profile breaks")
			}
			topology := kmsim.TwoSites()
			topology.Identity = p.Identity
			w := &world{Network: kmtest.StartKMEs(t, topology, p.Options, nil)}
			expect(t, run(t, w.options(true)), Fail, want)
		})
	}
}
