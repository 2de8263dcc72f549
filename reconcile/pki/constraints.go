package pki

import (
	"crypto/x509"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"
)

// checkConstraints tells whether the names of cert are within the name
// constraints of ca (RFC 5280, section 4.2.1.10): nil, or the first name that is
// not. Besides the subject alternative names that is the e-mail address of the
// subject, if there is none among them.
func checkConstraints(ca, cert *x509.Certificate) error {
	for _, name := range cert.DNSNames {
		if err := constrain("DNS name", name, ca.PermittedDNSDomains, ca.ExcludedDNSDomains, withinDomain, touchesDomain); err != nil {
			return err
		}
	}
	for _, ip := range cert.IPAddresses {
		if err := constrain("IP address", ip, ca.PermittedIPRanges, ca.ExcludedIPRanges, withinRange, withinRange); err != nil {
			return err
		}
	}
	emails := cert.EmailAddresses
	if len(emails) == 0 {
		for _, name := range cert.Subject.Names {
			if value, ok := name.Value.(string); ok && name.Type.Equal(oidEmailAddress) {
				emails = append(emails, value)
			}
		}
	}
	for _, email := range emails {
		if err := constrain("e-mail address", email, ca.PermittedEmailAddresses, ca.ExcludedEmailAddresses, withinMail, withinMail); err != nil {
			return err
		}
	}
	if len(ca.PermittedURIDomains)+len(ca.ExcludedURIDomains) == 0 {
		return nil
	}
	for _, uri := range cert.URIs {
		host := uri.Hostname()
		if _, err := netip.ParseAddr(host); err == nil || host == "" {
			// The RFC has them rejected: a constraint is about host names.
			return fmt.Errorf("URI %q has no host name that the name constraints could allow", uri)
		}
		if err := constrain("URI", uri, ca.PermittedURIDomains, ca.ExcludedURIDomains, withinURI, withinURI); err != nil {
			return err
		}
	}
	return nil
}

// constrain wants the name within some permitted subtree, if there are any, and
// touching none that is excluded.
func constrain[N, C any](kind string, name N, permitted, excluded []C, within, touches func(N, C) bool) error {
	for _, c := range excluded {
		if touches(name, c) {
			return fmt.Errorf("%s %q is excluded by the name constraints", kind, fmt.Sprint(name))
		}
	}
	for _, c := range permitted {
		if within(name, c) {
			return nil
		}
	}
	if len(permitted) > 0 {
		return fmt.Errorf("%s %q is not among those that the name constraints permit", kind, fmt.Sprint(name))
	}
	return nil
}

// withinDomain tells whether name is the domain or below it. A leading period,
// for which the RFC has no meaning in DNS names, means below only.
func withinDomain(name, domain string) bool {
	name, domain = trimDot(strings.ToLower(name)), trimDot(strings.ToLower(domain))
	if domain == "" {
		return true
	}
	if strings.HasPrefix(domain, ".") {
		return len(name) > len(domain) && strings.HasSuffix(name, domain)
	}
	return name == domain || strings.HasSuffix(name, "."+domain)
}

// touchesDomain is withinDomain, and for a wildcard whether any name that it
// stands for is within: *.example.com touches the excluded a.example.com.
func touchesDomain(name, domain string) bool {
	if withinDomain(name, domain) {
		return true
	}
	below, wildcard := strings.CutPrefix(name, "*.")
	_, parent, found := strings.Cut(trimDot(domain), ".")
	return wildcard && found && strings.EqualFold(trimDot(below), parent)
}

func trimDot(s string) string { return strings.TrimSuffix(s, ".") }

func withinRange(ip net.IP, ipNet *net.IPNet) bool {
	// net.IPNet.Contains takes an IPv4 address and its IPv6-mapped form for one.
	if v4 := ip.To4(); v4 != nil {
		ip = v4
	}
	return len(ip) == len(ipNet.IP) && ipNet.Contains(ip)
}

// withinMail: a constraint is a mailbox, a host, or a domain with a leading
// period for all hosts below it.
func withinMail(email, constraint string) bool {
	at := strings.LastIndexByte(email, '@')
	if at < 0 {
		return false
	}
	if i := strings.LastIndexByte(constraint, '@'); i >= 0 {
		return email[:at] == constraint[:i] && strings.EqualFold(email[at:], constraint[i:])
	}
	return withinHost(email[at+1:], constraint)
}

func withinURI(uri *url.URL, constraint string) bool {
	return withinHost(uri.Hostname(), constraint)
}

// withinHost tells whether host is the constraint or, with a leading period,
// below it.
func withinHost(host, constraint string) bool {
	if strings.HasPrefix(constraint, ".") || constraint == "" {
		return withinDomain(host, constraint)
	}
	return strings.EqualFold(trimDot(host), trimDot(constraint))
}
