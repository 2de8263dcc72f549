package files

import (
	"fmt"
	"strings"
	"time"

	"github.com/certsync/certsync/spec"
)

// Temporary names tell the run that made them, so that a recovery removes those
// of a run of its own state directory and no other.
const (
	tempMark  = ".certsync-"
	runLength = 12
	// maxBase keeps a temporary name within the 255 bytes that a name may have.
	maxBase = 200
)

// tempName returns a name beside base that nobody else uses.
func (s *Store) tempName(base string) string {
	if len(base) > maxBase {
		base = base[:maxBase]
	}
	return fmt.Sprintf(".%s%s%s-%x", base, tempMark, s.run, s.seq.Add(1))
}

// tempRun returns the run that made a temporary of this name.
func tempRun(name string) (run string, ok bool) {
	i := strings.LastIndex(name, tempMark)
	if i < 0 || name[0] != '.' {
		return "", false
	}
	return splitRun(name[i+len(tempMark):])
}

// The version directories of a set: ..20060102T150405Z-<run>-<number>. Their
// timestamps order them.
const (
	versionMark = ".."
	timeFormat  = "20060102T150405Z"
)

// versionName returns a name for a version directory, later than the one given,
// whatever the clock says.
func (s *Store) versionName(after string) string {
	now := s.now().UTC()
	if t, _, ok := parseVersion(after); ok && !now.After(t.Add(time.Second)) {
		now = t.Add(time.Second)
	}
	return fmt.Sprintf("%s%s-%s-%x", versionMark, now.Format(timeFormat), s.run, s.seq.Add(1))
}

func parseVersion(name string) (t time.Time, run string, ok bool) {
	stamp, rest, found := strings.Cut(strings.TrimPrefix(name, versionMark), "-")
	if !found || !strings.HasPrefix(name, versionMark) {
		return t, "", false
	}
	t, err := time.Parse(timeFormat, stamp)
	if err != nil {
		return t, "", false
	}
	run, ok = splitRun(rest)
	return t, run, ok
}

// splitRun splits <run>-<number>.
func splitRun(s string) (run string, ok bool) {
	run, number, found := strings.Cut(s, "-")
	return run, found && len(run) == runLength && isHex(run) && number != "" && isHex(number)
}

func isHex(s string) bool {
	return strings.Trim(s, "0123456789abcdef") == ""
}

// escapeName makes a file name of a certificate's name, one to one.
func escapeName(name string) string {
	const safe = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.*@+:"
	var b strings.Builder
	for i := range len(name) {
		if c := name[i]; strings.IndexByte(safe, c) >= 0 && (c != '.' || i > 0) {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

func unescapeName(file string) (string, bool) {
	var b strings.Builder
	for i := 0; i < len(file); i++ {
		if file[i] != '%' {
			b.WriteByte(file[i])
			continue
		}
		var c byte
		if i+2 >= len(file) {
			return "", false
		}
		if _, err := fmt.Sscanf(file[i+1:i+3], "%02X", &c); err != nil {
			return "", false
		}
		b.WriteByte(c)
		i += 2
	}
	name := b.String()
	return name, escapeName(name) == file
}

func archiveName(o spec.Output) string {
	return strings.ReplaceAll(o.Field(), "/", "-")
}
