package spec

import (
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
)

// constrained are the name constraints of one issuer.
type constrained struct {
	issuer string
	*NameConstraints
}

func (d *loader) nameConstraints(v value, c *draft) {
	// RFC 5280 says that the extension must be critical.
	n := &NameConstraints{Critical: true}
	nameConstraintsTable.decode(d, v, n)
	if !c.states("nameConstraints") {
		d.problem(v, "is empty")
	}
	c.CA.NameConstraints = n
}

// domains decodes DNS domains: a host, or what follows a leading dot.
func (d *loader) domains(v value) []string {
	return d.list(v, func(item value) (string, bool) {
		s, ok := d.word(item)
		if !ok {
			return "", false
		}
		domain, err := normalizeDomain(s)
		if err != nil {
			d.problem(item, "bad domain %q: %s", shorten(s), err)
			return "", false
		}
		return domain, true
	})
}

func normalizeDomain(s string) (string, error) {
	host, dot := strings.CutPrefix(s, ".")
	host, err := normalizeHost(host)
	if dot && err == nil {
		host = "." + host
	}
	return host, err
}

func (d *loader) emailConstraints(v value) []string {
	return d.list(v, func(item value) (string, bool) {
		s, ok := d.word(item)
		if !ok {
			return "", false
		}
		normalize := normalizeDomain
		if strings.Contains(s, "@") {
			normalize = normalizeEmail
		}
		name, err := normalize(s)
		if err != nil {
			d.problem(item, "bad constraint %q: %s", shorten(s), err)
			return "", false
		}
		return name, true
	})
}

func (d *loader) ipRanges(v value) []netip.Prefix {
	items, _ := d.items(v)
	var ranges []netip.Prefix
	for _, item := range items {
		s, ok := d.word(item)
		if !ok {
			continue
		}
		p, err := netip.ParsePrefix(s)
		switch {
		case err != nil:
			d.hinted(item, "write 10.0.0.0/8 or 2001:db8::/32", "bad IP range %q", shorten(s))
		case p != p.Masked():
			d.hinted(item, "write "+p.Masked().String(), "bad IP range %q: it has bits after the prefix", shorten(s))
		case p.Addr().Is4In6():
			d.problem(item, "bad IP range %q: write it as an IPv4 range", shorten(s))
		default:
			ranges = append(ranges, p)
		}
	}
	return ranges
}

// checkConstraints checks the names of a certificate against the constraints of
// all issuers above it (RFC 5280, section 4.2.1.10). Where crypto/x509 and the
// RFC differ in what a constraint means, a name must suit both.
func (d *loader) checkConstraints(c *draft, above []constrained, whole value) {
	for _, n := range above {
		p, e := &n.Permitted, &n.Excluded
		for i, name := range c.DNSNames {
			d.constrain(c.dnsAt[i], n.issuer, name, p.DNSDomains, e.DNSDomains, permitsDNS, excludesDNS)
		}
		for i, addr := range c.IPAddresses {
			in := func(r netip.Prefix) bool { return r.Contains(addr) }
			switch {
			case len(p.IPRanges) > 0 && !slices.ContainsFunc(p.IPRanges, in):
				d.outside(c.ipAt[i], addr.String(), n.issuer, "permits %v", p.IPRanges)
			case slices.ContainsFunc(e.IPRanges, in):
				d.outside(c.ipAt[i], addr.String(), n.issuer, "excludes %v", e.IPRanges)
			}
		}
		for i, email := range c.EmailAddresses {
			d.constrain(c.emailAt[i], n.issuer, email, p.EmailAddresses, e.EmailAddresses, permitsEmail, excludesEmail)
		}
		if email := c.Subject.EmailAddress; email != "" {
			// The legacy attribute counts as well.
			d.constrain(c.at("subject.emailAddress", whole), n.issuer, email, p.EmailAddresses, e.EmailAddresses, permitsEmail, excludesEmail)
		}
		for i, uri := range c.URIs {
			d.constrain(c.uriAt[i], n.issuer, uri, p.URIDomains, e.URIDomains, permitsURI, excludesURI)
		}
	}
}

func (d *loader) constrain(v value, issuer, name string, permitted, excluded []string, permits, excludes func(name, constraint string) bool) {
	switch {
	case len(permitted) > 0 && !slices.ContainsFunc(permitted, func(c string) bool { return permits(name, c) }):
		d.outside(v, name, issuer, "permits %v", permitted)
	case slices.ContainsFunc(excluded, func(c string) bool { return excludes(name, c) }):
		d.outside(v, name, issuer, "excludes %v", excluded)
	}
}

func (d *loader) outside(v value, name, issuer, format string, names any) {
	d.problem(v, "%q is outside the name constraints of issuer %q, which %s", shorten(name), issuer, fmt.Sprintf(format, names))
}

// within tells whether a domain is the constraint's or below it; a leading dot
// in the constraint asks for at least one label more.
func withinDomain(name, constraint string) bool {
	if strings.HasPrefix(constraint, ".") {
		return strings.HasSuffix(name, constraint)
	}
	return name == constraint || strings.HasSuffix(name, "."+constraint)
}

func permitsDNS(name, constraint string) bool { return withinDomain(name, constraint) }

func excludesDNS(name, constraint string) bool {
	if withinDomain(name, constraint) {
		return true
	}
	// A wildcard stands for each name at its place: *.example.com for
	// www.example.com, which may be excluded.
	parent, wildcard := strings.CutPrefix(name, "*")
	if !wildcard {
		return false
	}
	label, ok := strings.CutSuffix(strings.TrimPrefix(constraint, "."), parent)
	return ok && label != "" && !strings.Contains(label, ".")
}

// hostMatches is the RFC's rule for hosts in e-mail addresses and URIs:
// a domain with a leading dot, or else exactly one host.
func hostMatches(host, constraint string) bool {
	if strings.HasPrefix(constraint, ".") {
		return strings.HasSuffix(host, constraint)
	}
	return host == constraint
}

func permitsEmail(email, constraint string) bool {
	at := strings.LastIndexByte(email, '@')
	if strings.Contains(constraint, "@") {
		return sameMailbox(email, constraint)
	}
	return hostMatches(strings.ToLower(email[at+1:]), constraint)
}

func excludesEmail(email, constraint string) bool {
	at := strings.LastIndexByte(email, '@')
	if strings.Contains(constraint, "@") {
		return sameMailbox(email, constraint)
	}
	return withinDomain(strings.ToLower(email[at+1:]), constraint)
}

func sameMailbox(a, b string) bool {
	i, j := strings.LastIndexByte(a, '@'), strings.LastIndexByte(b, '@')
	return a[:i] == b[:j] && strings.EqualFold(a[i:], b[j:])
}

// uriHost returns the host that URI constraints apply to; "" if it has none,
// which no constraint on URIs allows.
func uriHost(uri string) string {
	u, err := url.Parse(uri)
	if err != nil {
		return ""
	}
	host := strings.ToLower(u.Hostname())
	if _, err := netip.ParseAddr(host); err == nil {
		return ""
	}
	return host
}

func permitsURI(uri, constraint string) bool {
	host := uriHost(uri)
	return host != "" && hostMatches(host, constraint)
}

func excludesURI(uri, constraint string) bool {
	host := uriHost(uri)
	return host == "" || withinDomain(host, constraint)
}
