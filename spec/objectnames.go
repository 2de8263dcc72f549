package spec

import (
	"cmp"
	"regexp"
	"slices"
	"strings"
)

// The syntax of names in Kubernetes; the lengths are checked apart.
var (
	dnsLabelRE  = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`)
	dataKeyRE   = regexp.MustCompile(`^[-._a-zA-Z0-9]+$`)
	labelNameRE = regexp.MustCompile(`^([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]$`)
)

const (
	maxDNSLabel     = 63
	maxDNSSubdomain = 253
	maxLabel        = 63
	maxAnnotations  = 256 << 10
)

// dnsLabel decodes the name of a namespace (RFC 1123).
func (d *loader) dnsLabel(v value) string {
	s, ok := d.word(v)
	if !ok {
		return ""
	}
	if len(s) > maxDNSLabel || !dnsLabelRE.MatchString(s) {
		d.problem(v, "bad name %q: at most %d lower-case letters, digits and dashes", shorten(s), maxDNSLabel)
		return ""
	}
	return s
}

// dnsSubdomain decodes the name of an object (RFC 1123).
func (d *loader) dnsSubdomain(v value) string {
	s, ok := d.word(v)
	if !ok {
		return ""
	}
	if !isSubdomain(s) {
		d.problem(v, "bad name %q: at most %d lower-case letters, digits, dashes and dots", shorten(s), maxDNSSubdomain)
		return ""
	}
	return s
}

func isSubdomain(s string) bool {
	for label := range strings.SplitSeq(s, ".") {
		if !dnsLabelRE.MatchString(label) {
			return false
		}
	}
	return len(s) <= maxDNSSubdomain
}

// dataKey decodes a key in a Secret or ConfigMap, which is a file's name once the
// object is mounted.
func (d *loader) dataKey(v value) string {
	s, ok := d.word(v)
	if !ok {
		return ""
	}
	if len(s) > maxDNSSubdomain || !dataKeyRE.MatchString(s) || s == "." || strings.HasPrefix(s, "..") {
		d.problem(v, "bad key %q: letters, digits, dashes, underscores and dots", shorten(s))
		return ""
	}
	return s
}

func (d *loader) labels(v value) []Label {
	return d.pairs(v, func(e entry, val string) {
		if val != "" && (len(val) > maxLabel || !labelNameRE.MatchString(val)) {
			d.problem(e.value, "bad value of a label %q: at most %d letters, digits, dashes, underscores and dots, with a letter or digit at both ends", shorten(val), maxLabel)
		}
	})
}

func (d *loader) annotations(v value) []Label {
	size := 0
	list := d.pairs(v, func(e entry, val string) { size += len(e.name) + len(val) })
	if size > maxAnnotations {
		d.problem(v, "all annotations of an object have at most %d bytes", maxAnnotations)
	}
	return list
}

// pairs decodes labels or annotations. Those that certsync writes itself are not
// for the spec.
func (d *loader) pairs(v value, check func(e entry, val string)) []Label {
	entries, _ := d.entries(v)
	list := make([]Label, 0, len(entries))
	for _, e := range entries {
		val, ok := d.text(e.value)
		if !ok {
			continue
		}
		prefix, name, prefixed := strings.Cut(e.name, "/")
		if !prefixed {
			prefix, name = "", e.name
		}
		switch {
		case prefixed && !isSubdomain(prefix), len(name) > maxLabel, !labelNameRE.MatchString(name):
			d.problem(e.key, "bad name %q: a name of at most %d letters, digits, dashes, underscores and dots, after a domain and a slash if need be", shorten(e.name), maxLabel)
			continue
		case e.name == ManagedBy, strings.HasPrefix(e.name, NotePrefix):
			d.problem(e.key, "is certsync's own")
			continue
		}
		check(e, val)
		list = append(list, Label{e.name, val})
	}
	slices.SortFunc(list, func(a, b Label) int { return cmp.Compare(a.Name, b.Name) })
	if len(list) == 0 {
		return nil
	}
	return list
}
