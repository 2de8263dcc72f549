package spec

import (
	"slices"
	"time"
)

// finish completes a draft and makes the checks that need more than one field.
// whole is the certificate's place.
func (d *loader) finish(c *draft, whole value) {
	d.finishKey(c, whole)
	d.finishUsages(c, whole)
	d.finishOutputs(c, whole)
	d.checkNames(c, whole)
	is := d.signer(c, whole)
	d.checkLifetime(c, is, whole)
	if is != nil {
		d.checkConstraints(c, is.constraints, whole)
	}
}

// signer returns what signs the certificate; nil for a root, or if it is
// unknown.
func (d *loader) signer(c *draft, whole value) *issuer {
	if c.Issuer == "" {
		if c.CA == nil && !c.states("issuer") {
			d.hinted(whole, "state issuer here or in defaults", "has no issuer")
		}
		return nil
	}
	is := d.issuerByName[c.Issuer]
	if c.CA == nil { // a CA's was looked up on the way
		is = d.issuerNamed(c.Issuer, c.at("issuer", whole))
	}
	if is == nil {
		return nil
	}
	if is.kubernetes != nil {
		d.preflight(c, is, whole)
	}
	c.Issuer = is.name // the same string for all
	if is.draft == nil {
		return nil
	}
	return is
}

func (d *loader) checkNames(c *draft, whole value) {
	sans := c.states("dnsNames", "ipAddresses", "uris", "emailAddresses")
	subject := c.states("commonName", "subject")
	switch {
	case c.CA != nil && !subject:
		d.hinted(whole, "state commonName", "a CA needs a subject")
	case c.CA == nil && !sans && slices.Contains(c.Usages, UsageServerAuth):
		d.hinted(whole, "clients ignore commonName; state dnsNames or ipAddresses", "a certificate for server auth needs a subject alternative name")
	case c.CA == nil && !sans && !subject:
		d.hinted(whole, "state commonName or dnsNames", "has no name")
	}
}

// lifetime decodes a duration that a certificate can have.
func (d *loader) lifetime(v value) (time.Duration, bool) {
	s, ok := d.word(v)
	if !ok {
		return 0, false
	}
	n, err := ParseDuration(s)
	switch {
	case err != nil:
		d.problem(v, "%s", err)
	case n < shortestDuration:
		d.problem(v, "must be at least %s, is %s", FormatDuration(shortestDuration), s)
	default:
		return n, true
	}
	return 0, false
}

// checkLifetime checks duration and renewBefore against each other and against
// the issuer's. A lifetime below renewBefore would be due at once, for ever.
func (d *loader) checkLifetime(c *draft, is *issuer, whole value) {
	at := c.at("renewBefore", whole)
	before := c.RenewBefore.Duration
	switch {
	case before >= c.Duration:
		d.problem(at, "%s is not below the duration, %s", FormatDuration(before), FormatDuration(c.Duration))
	case c.RenewBefore.Percent > 0 && c.RenewBefore.Percent/100*c.Duration.Seconds() < 1:
		d.problem(at, "%v%% of %s is less than a second: it would never be renewed in time", c.RenewBefore.Percent, FormatDuration(c.Duration))
	case is != nil && before >= is.draft.Duration:
		d.problem(at, "%s is not below the duration of issuer %q, %s, which bounds this one's",
			FormatDuration(before), is.name, FormatDuration(is.draft.Duration))
	}
	if is != nil && c.Duration > is.draft.Duration {
		d.warn(c.at("duration", whole), "%s is longer than that of issuer %q, %s, and is capped",
			FormatDuration(c.Duration), is.name, FormatDuration(is.draft.Duration))
	}
}
