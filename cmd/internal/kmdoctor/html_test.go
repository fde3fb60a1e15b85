package kmdoctor

import (
	"strings"
	"testing"

	"github.com/qkdmail/qkdmail/cmd/internal/kmsim"
)

// The page has every check and every time, and nothing that a KME says becomes HTML
// in it.
func TestWriteHTML(t *testing.T) {
	w := start(t, kmsim.Options{Capacity: 1, Quirks: kmsim.Quirks{ExhaustedMessage: "<script>no keys</script>"}}, nil, nil)
	r := run(t, w.options(true))
	var b strings.Builder
	if err := WriteHTML(&b, r); err != nil {
		t.Fatal(err)
	}
	page := b.String()
	for _, c := range r.Checks {
		if !strings.Contains(page, `<td class="`+string(c.Result)+`">`) {
			t.Errorf("no result %q on the page", c.Result)
		}
	}
	if n := strings.Count(page, "<tr>"); n != len(r.Checks)+len(r.Times)+5 {
		t.Errorf("%d rows for %d checks and %d times", n, len(r.Checks), len(r.Times))
	}
	if len(r.Times) < 3 || strings.Contains(page, "<script>") || !strings.Contains(page, "no keys") {
		t.Errorf("%d times, and the page is\n%s", len(r.Times), page)
	}
}

// A time counts good answers and their keys.
func TestTimes(t *testing.T) {
	w := start(t, kmsim.Options{}, nil, nil)
	r := run(t, w.options(true))
	keys := map[string]int{}
	for _, time := range r.Times {
		keys[time.Request] = time.Answers
		if time.Median <= 0 || time.Longest < time.Median || (time.Rate > 0) != strings.Contains(time.Request, "enc_keys") {
			t.Errorf("%+v", time)
		}
	}
	if keys["GET status"] < 2 || keys["POST enc_keys"] < 3 || keys["GET enc_keys"] != 1 || keys["POST dec_keys"] < 1 {
		t.Errorf("answers: %v", keys)
	}
}
