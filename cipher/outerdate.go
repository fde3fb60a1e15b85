package cipher

import (
	"time"

	"github.com/qkdmail/qkdmail/cipher/rawheader"
)

// Layouts of an RFC 5322 §3.3 date, with its zone and with an unknown zone.
const (
	dateLayout        = "Mon, 2 Jan 2006 15:04:05 -0700"
	unknownZoneLayout = "Mon, 2 Jan 2006 15:04:05 -0000"
)

// isDate reports whether a control part and a Date field can have this time.
func isDate(t time.Time) bool { return t.Unix() >= 0 && t.UTC().Year() <= 9999 }

// formatDate returns the date in text in the form of RFC 5322 §3.3, or "" if it can't
// be read. A zone that does not exist is replaced with UTC.
func formatDate(text string, policy HeaderPolicy) string {
	t, zoned, err := rawheader.ParseDate(text)
	if err != nil {
		return ""
	}
	_, offset := t.Zone()
	switch {
	case policy == HeadersShy, offset < -14*3600, offset > 14*3600:
		t = t.UTC()
	case !zoned:
		return t.Format(unknownZoneLayout)
	}
	return t.Format(dateLayout)
}
