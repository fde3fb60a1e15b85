package rawheader

import (
	"errors"
	"strconv"
	"strings"
	"time"
)

// errDate means that a text is not a date that can be read in exactly one way.
var errDate = errors.New("date can't be read")

// The years that ParseDate reads: those of RFC 5322 §3.3 with four digits.
const (
	firstYear = 1900
	lastYear  = 9999
)

// ParseDate reads a date of RFC 5322 §3.3, also in the obsolete forms of §4.3 and in
// other forms that programs write:
//
//	Thu, 29 Apr 2010 10:00:00 +0200 (CEST)     weekday, comma, seconds and zone may be missing
//	Thu Apr 29 10:00:00 CEST 2010              date(1); asctime has no zone
//	29-Apr-2010 10:00 PM GMT+02:00             also "at 10:00 PM"
//	2010-04-29T10:00:00.5Z                     ISO 8601
//
// It returns the same instant in the zone of the date. If the zone is unknown (missing,
// "-0000", a military letter, or a name that RFC 5322 does not define), zoned is false
// and t is in UTC, as §4.3 says. The local time zone does not matter. A fraction of a
// second is dropped, and second 60 counts as the next minute.
//
// Everything else is an error: a date that does not exist, a year before 1900 or after
// 9999, a month in digits except in ISO 8601, a missing time or date, and anything that
// is not understood to its end.
func ParseDate(text string) (t time.Time, zoned bool, err error) {
	r := dateReader{rest: text}
	for {
		gap := r.skip(isGap)
		if r.rest == "" {
			return r.date()
		}
		if !r.token(gap) {
			return time.Time{}, false, errDate
		}
	}
}

// A dateReader collects the parts of a date, in any order.
type dateReader struct {
	rest string
	last dateToken // the one before rest

	numbers  [2]string // digits of day and year, in the order of the text
	count    int       // of numbers
	month    time.Month
	monthAt  int  // how many of the numbers are before the month
	iso      bool // the date is in ISO 8601
	timed    bool // hour, minute and second are known
	hour     int
	minute   int
	second   int
	half     string // AM or PM, in any case; "": 24 hours
	zone     string // the last word of the zone's name
	words    int    // of the zone's name
	numeric  bool   // the zone has a number
	offset   int    // that number, in seconds east of UTC
	negative bool   // its sign
}

// A dateToken is a kind of token, as far as it matters to the next one.
type dateToken int

const (
	noToken dateToken = iota // at the start
	dayPart                  // a day, month or year
	otherToken
)

// skip skips comments and bytes of a kind, and reports whether there were any. A
// comment that never closes extends to the end.
func (r *dateReader) skip(ofKind func(byte) bool) bool {
	before := len(r.rest)
	for {
		r.take(ofKind)
		_, n := Comment(r.rest)
		if n == 0 {
			return len(r.rest) < before
		}
		if n < 0 {
			n = len(r.rest)
		}
		r.rest = r.rest[n:]
	}
}

// take removes the bytes of a kind from the start of rest and returns them.
func (r *dateReader) take(ofKind func(byte) bool) string {
	n := 0
	for n < len(r.rest) && ofKind(r.rest[n]) {
		n++
	}
	taken := r.rest[:n]
	r.rest = r.rest[n:]
	return taken
}

func isBlank(c byte) bool  { return c == ' ' || c == '\t' || c == '\r' || c == '\n' }
func isGap(c byte) bool    { return isBlank(c) || c == ',' }
func isDigit(c byte) bool  { return '0' <= c && c <= '9' }
func isLetter(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' || c >= 0x80 }

// isWordByte reports whether c may be part of a word, such as "Apr.", "p.m." or
// "Europe/San_Marino".
func isWordByte(c byte) bool { return isLetter(c) || c == '.' || c == '/' || c == '_' }

// token reads the next token. gap says whether something was skipped before it.
func (r *dateReader) token(gap bool) bool {
	attached := r.last == dayPart && !gap
	switch c := r.rest[0]; {
	case isDigit(c):
		return r.number()
	case isLetter(c):
		return r.word(strings.ReplaceAll(r.take(isWordByte), ".", ""))
	case (c == '-' || c == '.') && attached: // 29-Apr-2010, 29. April 2010
		r.rest, r.last = r.rest[1:], otherToken
		return true
	case (c == '+' || c == '-') && r.timed && !attached:
		return r.zoneNumber()
	}
	return false
}

// number reads a token that begins with a digit: a time, a date in ISO 8601, a day
// or a year.
func (r *dateReader) number() bool {
	if ahead := *r; ahead.clock() {
		*r = ahead
		return true
	}
	if ahead := *r; ahead.isoDate() {
		*r = ahead
		return true
	}
	if r.count == len(r.numbers) {
		return false
	}
	r.numbers[r.count] = r.take(isDigit)
	r.count++
	r.last = dayPart
	return true
}

// clock reads hour and minute, and second and its fraction if it finds them. There
// may be blanks and comments around the colons (RFC 5322 §4.3).
func (r *dateReader) clock() bool {
	hour, ok := r.short(23)
	if !ok || r.timed || !r.colon() {
		return false
	}
	r.hour, r.timed, r.last = hour, true, otherToken
	if r.minute, ok = r.short(59); !ok || !r.colon() {
		return ok
	}
	if r.second, ok = r.short(60); !ok {
		return false
	}
	if strings.HasPrefix(r.rest, ".") || r.iso && strings.HasPrefix(r.rest, ",") {
		r.rest = r.rest[1:]
		return r.take(isDigit) != ""
	}
	return true
}

// short reads a number of one or two digits.
func (r *dateReader) short(most int) (n int, ok bool) {
	digits := r.take(isDigit)
	n, err := strconv.Atoi(digits)
	return n, err == nil && len(digits) <= 2 && n <= most
}

// colon skips a colon, if one comes next.
func (r *dateReader) colon() bool {
	r.skip(isBlank)
	rest, ok := strings.CutPrefix(r.rest, ":")
	if ok {
		r.rest = rest
		r.skip(isBlank)
	}
	return ok
}

// isoDate reads a date in ISO 8601.
func (r *dateReader) isoDate() bool {
	year := r.take(isDigit)
	if len(year) != 4 || r.count > 0 || r.month > 0 || !strings.HasPrefix(r.rest, "-") {
		return false
	}
	r.rest = r.rest[1:]
	month, ok := r.short(12)
	if !ok || month == 0 || !strings.HasPrefix(r.rest, "-") {
		return false
	}
	r.rest = r.rest[1:]
	r.month, r.monthAt, r.iso, r.last = time.Month(month), 1, true, otherToken
	r.numbers, r.count = [2]string{r.take(isDigit), year}, 2
	return true
}

// word reads a word, in any case. Months, weekdays, AM and PM may be nearly anywhere.
// Any other word must be a weekday in another language at the start, "at" before the
// time, or the name of a zone after it.
func (r *dateReader) word(w string) bool {
	first := r.last == noToken
	r.last = otherToken
	switch {
	case r.month == 0 && monthOf(w) > 0:
		r.month, r.monthAt, r.last = monthOf(w), r.count, dayPart
	case isWeekday(w):
		// It need not match the date.
	case r.timed && (strings.EqualFold(w, "am") || strings.EqualFold(w, "pm")):
		if r.half != "" {
			return false
		}
		r.half = w
	case r.timed:
		return r.zoneWord(w)
	default:
		return first || strings.EqualFold(w, "at") || r.iso && strings.EqualFold(w, "t")
	}
	return true
}

// zoneWord reads a word of the name of a zone: a military letter, or words of three
// letters or more. Other words are mostly AM or PM in other languages ("p. m.", "du."),
// and ignoring them would give a different instant.
func (r *dateReader) zoneWord(w string) bool {
	letter := len(w) == 1
	if r.words > 0 && (letter || len(r.zone) == 1) || len(w) == 2 && !strings.EqualFold(w, "ut") {
		return false
	}
	r.zone = w
	r.words++
	return !strings.ContainsFunc(w, func(c rune) bool { return c > '~' })
}

// monthOf returns the month with this name in English, in full or cut to three
// letters or more, and 0 for other words.
func monthOf(w string) time.Month {
	for m := time.January; m <= time.December; m++ {
		if isShort(w, m.String()) {
			return m
		}
	}
	return 0
}

func isWeekday(w string) bool {
	for d := time.Sunday; d <= time.Saturday; d++ {
		if isShort(w, d.String()) {
			return true
		}
	}
	return false
}

// isShort reports whether w is a name or at least its first three letters.
func isShort(w, name string) bool {
	return len(w) >= 3 && len(w) <= len(name) && strings.EqualFold(w, name[:len(w)])
}

// zoneNumber reads a zone like +0200, -600, +2 or +02:00.
func (r *dateReader) zoneNumber() bool {
	if r.numeric {
		return false
	}
	r.numeric, r.negative, r.last = true, r.rest[0] == '-', otherToken
	r.rest = r.rest[1:]
	digits := r.take(isDigit)
	if minutes, ok := strings.CutPrefix(r.rest, ":"); ok && len(digits) <= 2 {
		r.rest = minutes
		if minutes = r.take(isDigit); len(minutes) != 2 {
			return false
		}
		digits += minutes
	} else if len(digits) <= 2 {
		digits += "00"
	}
	n, err := strconv.Atoi(digits)
	r.offset = n/100*3600 + n%100*60
	if r.negative {
		r.offset = -r.offset
	}
	return err == nil && len(digits) >= 3 && len(digits) <= 4 && n/100 <= 24 && n%100 < 60
}

// date returns the date, if all its parts were read and it exists.
func (r *dateReader) date() (t time.Time, zoned bool, err error) {
	year, day, ok := r.yearAndDay()
	if !ok || !r.timed || r.month == 0 {
		return time.Time{}, false, errDate
	}
	hour := r.hour
	if r.half != "" {
		if hour < 1 || hour > 12 {
			return time.Time{}, false, errDate
		}
		if hour %= 12; strings.EqualFold(r.half, "pm") {
			hour += 12
		}
	}
	offset, zoned, ok := r.zoneOffset()
	if !ok {
		return time.Time{}, false, errDate
	}
	location := time.UTC
	if offset != 0 {
		location = time.FixedZone("", offset)
	}
	// Day 31 of a month without one is a day of the next month.
	exists := time.Date(year, r.month, day, 0, 0, 0, 0, time.UTC).Day() == day
	t = time.Date(year, r.month, day, hour, r.minute, r.second, 0, location)
	for _, y := range []int{year, t.Year(), t.UTC().Year()} {
		exists = exists && firstYear <= y && y <= lastYear
	}
	if !exists {
		return time.Time{}, false, errDate
	}
	return t, zoned, nil
}

// yearAndDay tells which number is the year. A year of two or three digits is read as
// in RFC 5322 §4.3.
func (r *dateReader) yearAndDay() (year, day int, ok bool) {
	d, y := r.numbers[0], r.numbers[1]
	switch {
	case r.count < 2:
		return 0, 0, false
	case len(d) > 2:
		d, y = y, d
	case len(y) <= 2 && r.monthAt == 2:
		return 0, 0, false // "10 11 Apr": either may be the year
	}
	day, err := strconv.Atoi(d)
	year, err2 := strconv.Atoi(y)
	if err != nil || err2 != nil || len(d) > 2 || len(y) < 2 || len(y) > 4 {
		return 0, 0, false
	}
	switch {
	case len(y) == 3, len(y) == 2 && year >= 50:
		year += 1900
	case len(y) == 2:
		year += 2000
	}
	return year, day, true
}

// zoneOffset returns the zone in seconds east of UTC. The number decides. If the name
// contradicts it, the date can be read in two ways, and ok is false.
func (r *dateReader) zoneOffset() (seconds int, zoned, ok bool) {
	hours, known := 0, false
	if r.words == 1 {
		hours, known = namedZone(r.zone)
	}
	if r.numeric {
		agree := len(r.zone) != 1 && (hours == 0 || hours*3600 == r.offset)
		return r.offset, r.offset != 0 || !r.negative, agree
	}
	return hours * 3600, known, true
}

// namedZone returns a zone that RFC 5322 §4.3 names, or UTC, in hours east of UTC.
// Military letters are unknown zones: they were often used with the wrong sign.
func namedZone(name string) (hours int, ok bool) {
	switch strings.ToLower(name) {
	case "ut", "gmt", "utc", "z":
		return 0, true
	case "edt":
		return -4, true
	case "est", "cdt":
		return -5, true
	case "cst", "mdt":
		return -6, true
	case "mst", "pdt":
		return -7, true
	case "pst":
		return -8, true
	}
	return 0, false
}
