package admin

import (
	"fmt"
	"math"
	"strconv"
	"time"
)

// roughly formats a duration, no more precisely than a forecast is.
func roughly(d time.Duration) string {
	switch {
	case d < time.Minute:
		return "less than a minute"
	case d < 2*time.Hour:
		return amount(math.Round(d.Minutes()), "minute")
	case d < 48*time.Hour:
		return amount(math.Round(d.Hours()), "hour")
	case d < 365*24*time.Hour:
		return amount(math.Round(d.Hours()/24), "day")
	}
	return "more than a year"
}

func amount(n float64, unit string) string {
	if n == 1 {
		return "1 " + unit
	}
	return fmt.Sprintf("%.0f %ss", n, unit)
}

// times formats how often something has happened.
func times(n int64) string {
	if n == 1 {
		return "once"
	}
	return grouped(n) + " times"
}

// grouped formats a number with a comma at each thousand.
func grouped(n int64) string {
	if n < 0 {
		return "−" + grouped(-n)
	}
	text := strconv.FormatInt(n, 10)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}
