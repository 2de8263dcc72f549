package spec

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Day and Year are the lengths of the units d and y: certificates count in
// fixed lengths, not in calendar years.
const (
	Day  = 24 * time.Hour
	Week = 7 * Day
	Year = 365 * Day
)

// units by name. The two spellings of micro are U+00B5 and U+03BC, as in Go.
var units = map[string]time.Duration{
	"ns": time.Nanosecond, "us": time.Microsecond, "µs": time.Microsecond, "μs": time.Microsecond,
	"ms": time.Millisecond, "s": time.Second, "m": time.Minute, "h": time.Hour,
	"d": Day, "w": Week, "y": Year,
}

var errTooLong = errors.New("longer than 292 years")

// ParseDuration parses what [time.ParseDuration] does, and the units d (24h),
// w (7d) and y (365d), in any mixture: 90d, 1y6w, 1.5d, 1h30m.
func ParseDuration(s string) (time.Duration, error) {
	d, err := parseDuration(s)
	if err != nil {
		return 0, fmt.Errorf("duration %q: %w", s, err)
	}
	return d, nil
}

func parseDuration(s string) (time.Duration, error) {
	rest, negative := s, false
	if rest != "" && (rest[0] == '-' || rest[0] == '+') {
		negative = rest[0] == '-'
		rest = rest[1:]
	}
	switch rest {
	case "":
		return 0, errors.New("is empty")
	case "0":
		return 0, nil
	}
	var total uint64 // up to 1<<63, the most negative duration
	for rest != "" {
		number := rest[:span(rest, "0123456789.")]
		rest = rest[len(number):]
		unit := rest[:strings.IndexFunc(rest+"0", func(r rune) bool { return r == '.' || '0' <= r && r <= '9' })]
		rest = rest[len(unit):]
		n, err := term(number, unit)
		if err != nil {
			return 0, err
		}
		if n > 1<<63-total {
			return 0, errTooLong
		}
		total += n
	}
	if negative {
		return -time.Duration(total), nil // 1<<63 wraps to itself, which is right
	}
	if total > math.MaxInt64 {
		return 0, errTooLong
	}
	return time.Duration(total), nil
}

// term returns one number with its unit, at most 1<<63.
func term(number, unit string) (uint64, error) {
	scale, known := units[unit]
	whole, fraction, _ := strings.Cut(number, ".")
	switch {
	case number == "" || number == "." || strings.Contains(fraction, "."):
		return 0, errors.New("is no duration such as 90d, 24h or 1y")
	case unit == "":
		return 0, fmt.Errorf("has no unit; write %sd, %sh, …", number, number)
	case !known:
		return 0, fmt.Errorf("unknown unit %q; units are y, w, d, h, m, s, ms, us, ns", unit)
	}
	var n uint64
	if whole != "" {
		v, err := strconv.ParseUint(whole, 10, 64)
		if err != nil || v > (1<<63)/uint64(scale) {
			return 0, errTooLong
		}
		n = v * uint64(scale)
	}
	if fraction != "" {
		f, over := digits(fraction)
		n += uint64(float64(f) * (float64(scale) / over)) // as package time rounds
	}
	if n > 1<<63 {
		return 0, errTooLong
	}
	return n, nil
}

// digits returns a fraction's numerator and denominator, of as many digits as
// fit.
func digits(fraction string) (f uint64, over float64) {
	over = 1
	for i := range len(fraction) {
		if f > math.MaxInt64/10 || f*10+uint64(fraction[i]-'0') > 1<<63 {
			break
		}
		f = f*10 + uint64(fraction[i]-'0')
		over *= 10
	}
	return f, over
}

// span returns how many leading bytes of s are among chars.
func span(s, chars string) int {
	for i := range len(s) {
		if strings.IndexByte(chars, s[i]) < 0 {
			return i
		}
	}
	return len(s)
}

// FormatDuration returns the form of d that a person would write and that
// [ParseDuration] reads back: whole years as 1y, two days and more in days
// (90d, 90d12h), less as Go does without its zeros (24h, 1h30m).
func FormatDuration(d time.Duration) string {
	sign := ""
	if d < 0 {
		sign, d = "-", -d
		if d < 0 { // the most negative one has no opposite
			return time.Duration(math.MinInt64).String()
		}
	}
	if d != 0 && d%Year == 0 {
		return sign + strconv.FormatInt(int64(d/Year), 10) + "y"
	}
	days := ""
	if d >= 2*Day {
		days = strconv.FormatInt(int64(d/Day), 10) + "d"
		if d %= Day; d == 0 {
			return sign + days
		}
	}
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return sign + days + s
}
