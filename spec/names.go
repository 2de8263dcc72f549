package spec

import (
	"errors"
	"fmt"
	"net/mail"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

// Subjects.

func (d *loader) subject(v value, c *draft) { subjectTable.decode(d, v, c) }

// subjectText decodes an attribute value, which may have limit characters
// (RFC 5280, appendix A.1).
func (d *loader) subjectText(v value, limit int) string {
	s, ok := d.word(v)
	if !ok {
		return ""
	}
	switch n := utf8.RuneCountInString(s); {
	case n > limit:
		d.problem(v, "is longer than %d characters (%d)", limit, n)
	case !utf8.ValidString(s):
		d.problem(v, "is not valid UTF-8")
	case strings.ContainsFunc(s, unicode.IsControl):
		d.problem(v, "holds a control character")
	case strings.TrimSpace(s) == "":
		d.problem(v, "is blank")
	}
	return s
}

func (d *loader) subjectTexts(v value, limit int) []string {
	return d.list(v, func(item value) (string, bool) {
		s := d.subjectText(item, limit)
		return s, s != ""
	})
}

func (d *loader) countries(v value) []string {
	return d.list(v, func(item value) (string, bool) {
		s, ok := d.word(item)
		if ok && (len(s) != 2 || !isLetter(s[0]) || !isLetter(s[1])) {
			hint := ""
			if item.node.Tag == "!!bool" {
				hint = "quote it"
			}
			d.hinted(item, hint, "a country has two letters, is %q", shorten(s))
			return "", false
		}
		return s, ok
	})
}

func isLetter(b byte) bool { return 'a' <= b|0x20 && b|0x20 <= 'z' }

// printable decodes an attribute value that is a PrintableString.
func (d *loader) printable(v value, limit int) string {
	s := d.subjectText(v, limit)
	if strings.ContainsFunc(s, func(r rune) bool {
		return r >= utf8.RuneSelf || !isLetter(byte(r)) && !strings.ContainsRune("0123456789 '()+,-./:=?", r)
	}) {
		d.problem(v, "may hold letters, digits, spaces and '()+,-./:=? only")
	}
	return s
}

func (d *loader) subjectEmail(v value) string {
	s := d.subjectText(v, 255)
	if s == "" {
		return ""
	}
	if _, err := normalizeEmail(s); err != nil {
		d.problem(v, "%s", err)
		return ""
	}
	return s
}

// list decodes the items of a list that decode accepts.
func (d *loader) list(v value, decode func(value) (string, bool)) []string {
	items, _ := d.items(v)
	var list []string
	for _, item := range items {
		if s, ok := decode(item); ok {
			if list == nil {
				list = make([]string, 0, len(items))
			}
			list = append(list, s)
		}
	}
	return list
}

// Subject alternative names.

func (d *loader) dnsNames(v value, c *draft) {
	c.DNSNames, c.dnsAt = sans(d, v, normalizeDNS)
}

func (d *loader) ipAddresses(v value, c *draft) {
	c.IPAddresses, c.ipAt = sans(d, v, normalizeIP)
}

func (d *loader) uris(v value, c *draft) {
	c.URIs, c.uriAt = sans(d, v, normalizeURI)
}

func (d *loader) emailAddresses(v value, c *draft) {
	c.EmailAddresses, c.emailAt = sans(d, v, normalizeEmail)
}

// sans decodes a list of names, in their normal form and without repetitions,
// with the place of each.
func sans[T comparable](d *loader, v value, normalize func(string) (T, error)) ([]T, []value) {
	items, _ := d.items(v)
	names, at := make([]T, 0, len(items)), make([]value, 0, len(items))
	var seen map[T]bool
	if len(items) > 16 {
		seen = make(map[T]bool, len(items))
	}
	for _, item := range items {
		s, ok := d.word(item)
		if !ok {
			continue
		}
		name, err := normalize(s)
		if err != nil {
			d.problem(item, "%s", err)
			continue
		}
		if seen[name] || seen == nil && slices.Contains(names, name) {
			continue
		}
		if seen != nil {
			seen[name] = true
		}
		names, at = append(names, name), append(at, item)
	}
	if len(names) == 0 {
		return nil, nil
	}
	return names, at
}

// profile makes A-labels of internationalized names as browsers do (UTS #46,
// non-transitional). Which ASCII characters are allowed is checked here, as
// underscores are in use.
var idnaProfile = idna.New(idna.MapForLookup(), idna.Transitional(false), idna.StrictDomainName(false), idna.BidiRule())

// normalizeDNS returns a DNS name in lower case and A-labels. A wildcard is
// allowed as the whole leftmost label (RFC 6125, section 6.4.3).
func normalizeDNS(s string) (string, error) {
	rest, wildcard := strings.CutPrefix(s, "*.")
	name, err := normalizeHost(rest)
	switch {
	case s == "*":
		return "", errors.New("a wildcard needs a domain: *.example.com")
	case strings.Contains(rest, "*"):
		return "", fmt.Errorf("bad DNS name %q: a wildcard must be the whole leftmost label", shorten(s))
	case err != nil:
		return "", fmt.Errorf("bad DNS name %q: %w", shorten(s), err)
	}
	if _, err := netip.ParseAddr(name); err == nil {
		return "", fmt.Errorf("%q is an IP address; state it under ipAddresses", s)
	}
	if wildcard {
		if len(name)+2 > 253 {
			return "", fmt.Errorf("bad DNS name %q: longer than 253 characters", shorten(s))
		}
		name = "*." + name
	}
	return name, nil
}

// normalizeHost returns a name without a wildcard in lower case and A-labels.
func normalizeHost(s string) (string, error) {
	if s == "" {
		return "", errors.New("empty")
	}
	if strings.HasSuffix(s, ".") {
		return "", errors.New("ends in a dot")
	}
	if !isPlainHost(s) {
		a, err := idnaProfile.ToASCII(s)
		if err != nil {
			// Its errors quote the name once more.
			return "", errors.New(strings.TrimPrefix(err.Error(), "idna: "))
		}
		s = a
	}
	if len(s) > 253 {
		return "", errors.New("longer than 253 characters")
	}
	for rest, more := s, true; more; {
		var label string
		label, rest, more = strings.Cut(rest, ".")
		switch {
		case label == "":
			return "", errors.New("an empty label")
		case len(label) > 63:
			return "", errors.New("a label is longer than 63 characters")
		case label[0] == '-' || label[len(label)-1] == '-':
			return "", errors.New("a label starts or ends with a hyphen")
		}
		for _, r := range label {
			if !isPlainHostByte(r) {
				return "", fmt.Errorf("character %q", r)
			}
		}
	}
	return s, nil
}

// isPlainHost tells a name that is its own normal form, as most are.
func isPlainHost(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r != '.' && !isPlainHostByte(r) }) && !strings.Contains(s, "xn--")
}

func isPlainHostByte(r rune) bool {
	return 'a' <= r && r <= 'z' || '0' <= r && r <= '9' || r == '-' || r == '_'
}

func normalizeIP(s string) (netip.Addr, error) {
	addr, err := netip.ParseAddr(s)
	switch {
	case err != nil && strings.Contains(s, "/"):
		return addr, fmt.Errorf("bad IP address %q: a certificate has addresses, not ranges", shorten(s))
	case err != nil:
		return addr, fmt.Errorf("bad IP address %q", shorten(s))
	case addr.Zone() != "":
		return addr, fmt.Errorf("bad IP address %q: a certificate has no zones", shorten(s))
	}
	return addr.Unmap(), nil
}

func normalizeURI(s string) (string, error) {
	u, err := url.Parse(s)
	switch {
	case err != nil:
		var parseErr *url.Error
		if errors.As(err, &parseErr) {
			err = parseErr.Err
		}
		return "", fmt.Errorf("bad URI %q: %w", shorten(s), err)
	case !u.IsAbs():
		return "", fmt.Errorf("bad URI %q: it has no scheme", shorten(s))
	case u.Opaque == "" && u.Host == "" && u.Path == "":
		return "", fmt.Errorf("bad URI %q: nothing follows the scheme", shorten(s))
	case strings.ContainsFunc(s, func(r rune) bool { return r >= utf8.RuneSelf || r <= ' ' || r == 0x7f }):
		return "", fmt.Errorf("bad URI %q: it may hold ASCII characters only; escape others with %%", shorten(s))
	}
	if host := u.Hostname(); host != "" {
		if _, err := netip.ParseAddr(host); err != nil {
			if _, err := normalizeHost(host); err != nil {
				return "", fmt.Errorf("bad URI %q: bad host: %w", shorten(s), err)
			}
		}
	}
	return s, nil
}

// normalizeEmail returns a mailbox with its domain in lower case and A-labels.
// What stands before the @ may differ by case (RFC 5280, section 4.2.1.6).
func normalizeEmail(s string) (string, error) {
	addr, err := mail.ParseAddress(s)
	if err != nil || addr.Name != "" || addr.Address != s {
		return "", fmt.Errorf("bad e-mail address %q", shorten(s))
	}
	at := strings.LastIndexByte(s, '@')
	for _, r := range s[:at] {
		if r >= utf8.RuneSelf {
			return "", fmt.Errorf("bad e-mail address %q: before the @ it may hold ASCII characters only", shorten(s))
		}
	}
	host, err := normalizeHost(s[at+1:])
	if err != nil {
		return "", fmt.Errorf("bad e-mail address %q: %w", shorten(s), err)
	}
	return s[:at+1] + host, nil
}
