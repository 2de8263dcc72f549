package spec

import (
	"math"
	"strings"
	"testing"
	"time"
)

func TestParseDuration(t *testing.T) {
	for _, test := range []struct {
		in   string
		want time.Duration
	}{
		{"90d", 90 * Day},
		{"1y", 365 * Day},
		{"1y6w", 365*Day + 42*Day},
		{"1w2d3h4m5s6ms7us8ns", 9*Day + 3*time.Hour + 4*time.Minute + 5*time.Second + 6*time.Millisecond + 7*time.Microsecond + 8},
		{"1.5d", 36 * time.Hour},
		{".5h", 30 * time.Minute},
		{"5.h", 5 * time.Hour},
		{"1h30m", 90 * time.Minute},
		{"1µs", time.Microsecond},
		{"1μs", time.Microsecond},
		{"0", 0},
		{"0s", 0},
		{"+24h", Day},
		{"-1d", -Day},
		{"1d1d", 2 * Day},
		{"9223372036854775807ns", math.MaxInt64},
		{"-9223372036854775808ns", math.MinInt64},
		{"292y", 292 * Year},
	} {
		got, err := ParseDuration(test.in)
		if err != nil || got != test.want {
			t.Errorf("ParseDuration(%q) = %v, %v; want %v", test.in, got, err, test.want)
		}
	}
}

func TestParseDurationRefuses(t *testing.T) {
	for in, want := range map[string]string{
		"":                      "is empty",
		"-":                     "is empty",
		"90":                    "has no unit",
		"d":                     "is no duration",
		".d":                    "is no duration",
		"1.2.3d":                "is no duration",
		"1 d":                   `unknown unit " d"`,
		"1D":                    `unknown unit "D"`,
		"1mo":                   `unknown unit "mo"`,
		"1d -1h":                `unknown unit "d -"`,
		"293y":                  "longer than 292 years",
		"9223372036854775808ns": "longer than 292 years",
		"9223372036854775808ns9223372036854775808ns": "longer than 292 years",
		"99999999999999999999d":                      "longer than 292 years",
		"106751d24h":                                 "longer than 292 years",
		"-293y":                                      "longer than 292 years",
	} {
		got, err := ParseDuration(in)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("ParseDuration(%q) = %v, %v; want error with %q", in, got, err, want)
		}
	}
}

func TestFormatDuration(t *testing.T) {
	for want, in := range map[string]time.Duration{
		"90d":     90 * Day,
		"1y":      Year,
		"10y":     3650 * Day,
		"500d":    500 * Day,
		"24h":     Day,
		"36h":     36 * time.Hour,
		"2d":      2 * Day,
		"90d12h":  90*Day + 12*time.Hour,
		"2d1s":    2*Day + time.Second,
		"1h30m":   90 * time.Minute,
		"1h":      time.Hour,
		"10m":     10 * time.Minute,
		"1h0m1s":  time.Hour + time.Second,
		"1.5s":    1500 * time.Millisecond,
		"0s":      0,
		"-90d":    -90 * Day,
		"-1h":     -time.Hour,
		"292y":    292 * Year,
		"100ns":   100,
		"106751d": 106751 * Day,
	} {
		if got := FormatDuration(in); got != want {
			t.Errorf("FormatDuration(%d) = %q, want %q", in, got, want)
		}
	}
}

func FuzzParseDuration(f *testing.F) {
	for _, s := range []string{"90d", "1y6w", "1.5h", "-3m", "0", "1h0m0.000000001s", "9223372036854775807ns", "5.", "µs"} {
		f.Add(s, int64(len(s)))
	}
	f.Fuzz(func(t *testing.T, s string, n int64) {
		for _, d := range []time.Duration{time.Duration(n), parsed(s)} {
			if back, err := ParseDuration(FormatDuration(d)); err != nil || back != d {
				t.Errorf("%d is formatted as %q, which is %d, %v", d, FormatDuration(d), back, err)
			}
		}
		// What Go reads means the same here.
		if want, err := time.ParseDuration(s); err == nil {
			if got, err := ParseDuration(s); err != nil || got != want {
				t.Errorf("ParseDuration(%q) = %d, %v; time has %d", s, got, err, want)
			}
		}
	})
}

func parsed(s string) time.Duration {
	d, _ := ParseDuration(s)
	return d
}
