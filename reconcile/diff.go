package reconcile

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/certsync/certsync/reconcile/pki"
	"github.com/certsync/certsync/spec"
)

// Diff tells what is to be done so that what was observed follows the spec at
// the given time. It is pure: the same arguments give the same plan. The error
// is about the options; what keeps a single certificate from being planned is in
// its item.
func Diff(sp *spec.Spec, s *State, o Options, now time.Time) (*Plan, error) {
	if err := checkNames(sp, s, o); err != nil {
		return nil, err
	}
	d := differ{spec: sp, state: s, now: now, options: o, issuers: make(map[string]*outcome, len(sp.Issuers)),
		lineages: make(map[string]*lineage)}
	p := &Plan{FormatVersion: PlanVersion, Created: now, Options: o,
		Items: make([]Item, 0, len(sp.Issuers)+len(sp.Certificates))}

	needed := d.neededIssuers()
	for _, i := range sp.Issuers {
		if i.CA != nil {
			it, in := d.item(i.CA, needed[i.Name])
			if in {
				p.Items = append(p.Items, it)
			}
		}
	}
	for _, c := range sp.Certificates {
		if it, in := d.item(c, false); in {
			p.Items = append(p.Items, it)
		}
	}
	for _, it := range d.prune() {
		if o.Prune && (it.Action == ActionPrune || it.err != nil) {
			p.Items = append(p.Items, it)
		} else {
			p.Orphans = append(p.Orphans, it)
		}
	}
	p.count()
	return p, nil
}

// Seal notes in the plan what it was made from, so that it can be saved and
// recognized as stale later.
func (p *Plan) Seal(sp *spec.Spec, s *State) {
	p.SpecDigest, p.StateDigest = sp.Digest(), s.digest(sp)
}

// differ holds what Diff works on, and what it found out about the issuers.
type differ struct {
	spec    *spec.Spec
	state   *State
	now     time.Time
	options Options
	issuers map[string]*outcome

	lineages map[string]*lineage // by issuer
}

// outcome is what an issuer's certificate will be once the plan is applied.
type outcome struct {
	cert     *spec.Certificate
	unsure   bool      // whether its certificate chains to its own issuer's
	newCert  bool      // another certificate, maybe of the same key
	newKey   bool      // what it signed so far no longer counts: its key or its name is another
	renamed  bool      // it is the name alone
	notAfter time.Time // of the certificate that it will have
	err      error     // why it cannot sign
	hint     string
}

// item plans one certificate. It tells false if the options leave it out and
// nothing that is planned for its issuer concerns it.
func (d *differ) item(c *spec.Certificate, needed bool) (Item, bool) {
	st := d.state.Of(c.ID)
	selected := selects(d.options.Names, c.ID)
	it := Item{Kind: c.Kind, Name: c.Name, Action: ActionNone, Issuer: c.Issuer}
	issuer := d.issuers[c.Issuer]
	if c.Issuer == "" {
		issuer = nil
	}
	d.judge(&it, c, st, issuer)

	carried := issuer != nil && issuer.newKey && it.Has(IssuerChanged) ||
		issuer != nil && issuer.newCert && it.Has(OutputDrift) || d.serverCAChanges(c) != "" && it.Has(OutputDrift)
	in := selected || needed && it.Action.Issues() && d.mustSign(&it) || carried
	if c.CA != nil {
		d.issuers[c.Name] = d.outcome(c, st, &it, in)
	}
	return it, in
}

// judge gathers the reasons and decides.
func (d *differ) judge(it *Item, c *spec.Certificate, st *CertState, issuer *outcome) {
	requested := matches(d.options.Replace, c.ID)
	if st.Err != nil && !(requested && (errors.Is(st.Err, pki.ErrPassword) || errors.Is(st.Err, errContested))) {
		it.fail(st.Err, cmp.Or(unreadableHint(st.Err, c, st.Match), errorHint(st.Err)))
		return
	}
	d.describe(it, c, st)
	reasons, err := d.material(c, st)
	if err != nil && !requested {
		it.fail(err, fmt.Sprintf("restore the key, or give up the CA and all that it signed with --replace %s", c.ID))
		return
	}
	if c.CA != nil && st.Leaf == nil && st.Key == nil && st.Record != nil {
		it.Warnings = append(it.Warnings, "certsync has issued this CA before, and both its certificate and its key are gone: restore them, or all that it signed has to be replaced")
	}
	if requested {
		reasons = append(reasons, Reason{Code: Requested, Message: "a replacement was asked for", action: ActionReplace})
	}
	if st.Leaf != nil && st.Match {
		reasons = append(reasons, d.issuerReasons(c, st, issuer)...)
		reasons = append(reasons, d.specReasons(it, c, st)...)
		reasons = append(reasons, d.timeReasons(it, c, st, issuer)...)
	}
	// What is issued anew is written everywhere: drift tells nothing then.
	asked := !requested && st.remote.useful(d.now)
	if action := decide(reasons); (!action.Issues() || asked && d.waiting(st)) && st.Match {
		reasons = append(reasons, d.drift(it, c, st)...)
	}
	it.Action = decide(reasons)
	it.Reasons = reasons
	it.NewKey = requested || st.Key == nil || c.PrivateKey.RotationPolicy != spec.RotateNever || !fits(st.Key, c)
	if asked {
		d.request(it, st)
	}
	if d.checkObjects(it, c, st, requested); it.err != nil {
		return
	}
	if !it.Action.Issues() {
		it.NewKey = false
		return
	}
	it.Outputs = paths(c)
	if !requested {
		it.Outputs = slices.DeleteFunc(it.Outputs, func(path string) bool { return st.leftPath(c, path) })
	}
	if issuer != nil && issuer.err != nil {
		it.fail(fmt.Errorf("issuer %q cannot sign: %w", c.Issuer, issuer.err), issuer.hint)
		it.Action, it.Outputs, it.NewKey = ActionNone, nil, false
	}
}

// describe fills in what the certificate that is there looks like.
func (d *differ) describe(it *Item, c *spec.Certificate, st *CertState) {
	if st.Leaf == nil {
		return
	}
	it.Fingerprint = st.Leaf.Fingerprint.String()
	it.NotBefore, it.NotAfter = st.Leaf.NotBefore, st.Leaf.NotAfter
	var issued time.Time
	if st.settled() {
		issued = st.Record.IssuedAt
	}
	it.RenewAt = RenewAt(c, st.Leaf.NotBefore, st.Leaf.NotAfter, issued)
}

// unreadableHint says what to do about an output that cannot be read; matched tells
// that the others hold all that is needed.
func unreadableHint(err error, c *spec.Certificate, matched bool) string {
	var foreign foreignKubeconfigError
	switch {
	case errors.As(err, &foreign):
		return "state another path, or move the file away to have it made anew"
	case errors.Is(err, pki.ErrPassword) && matched:
		return "give the password that the file is encrypted with, or move it away to have it made anew"
	case errors.Is(err, pki.ErrPassword) && c.CA != nil:
		return fmt.Sprintf("give the password that the key is encrypted with; if nobody has it, give up the CA and all that it signed with --replace %s", c.ID)
	case errors.Is(err, pki.ErrPassword):
		return fmt.Sprintf("give the password that the file is encrypted with, or make a new key with --replace %s", c.ID)
	case errors.Is(err, pki.ErrUnsupported) && c.CA != nil && !matched:
		return "convert the file: it may hold the CA's key"
	case errors.Is(err, pki.ErrUnsupported):
		return "convert the file, or move it away to have it made anew"
	}
	return ""
}

// material tells what is wrong with the key and the certificate as such. The
// error is for a CA whose key is gone, or another: to go on with a new one
// silently would cut off everything that the old one signed.
func (d *differ) material(c *spec.Certificate, st *CertState) ([]Reason, error) {
	malformed := func(holds func(spec.Form) bool) *Reason {
		for i, o := range c.Outputs {
			if m := st.Outputs[i].Malformed; m != "" && holds(o.Form) {
				return &Reason{Code: Malformed, Message: fmt.Sprintf("%s is malformed: %s", place(o), m), action: ActionReplace}
			}
		}
		return nil
	}
	badKey, badCert := malformed(spec.Form.HoldsKey), malformed(spec.Form.HoldsLeaf)
	switch {
	case st.Leaf != nil && st.Match:
		return nil, nil
	case st.Key == nil && c.CA != nil && (st.Leaf != nil || badKey != nil):
		if badKey != nil {
			return nil, fmt.Errorf("the CA's private key is unusable: %s", badKey.Message)
		}
		return nil, fmt.Errorf("the CA's certificate is there, but its private key is not: %s is missing", keyPath(c))
	case st.Leaf == nil && badCert != nil:
		return []Reason{*badCert}, nil
	case st.Key == nil && badKey != nil:
		return []Reason{*badKey}, nil
	case st.Leaf == nil:
		message := "no certificate yet"
		if st.Key != nil {
			message = "no certificate yet for the private key in " + st.output(c, st.keyOutput).Path
		}
		return []Reason{{Code: Missing, Message: message, action: ActionCreate}}, nil
	case st.Key == nil:
		return []Reason{{Code: Missing, Message: fmt.Sprintf("the private key is missing: %s", keyPath(c)), action: ActionReplace}}, nil
	}
	if c.CA != nil {
		return nil, fmt.Errorf("the private key in %s is not that of the CA's certificate", st.output(c, st.keyOutput).Path)
	}
	return []Reason{{Code: KeyMismatch, Message: fmt.Sprintf("the private key in %s is not that of the certificate", st.output(c, st.keyOutput).Path), action: ActionReplace}}, nil
}

func (d *differ) issuerReasons(c *spec.Certificate, st *CertState, issuer *outcome) []Reason {
	changed := func(message string) []Reason {
		return []Reason{{Code: IssuerChanged, Message: message, action: ActionReplace}}
	}
	switch {
	case c.Issuer == "" && st.IssuerErr != nil:
		return changed("the certificate is not self-signed")
	case st.otherSigner() != "":
		return changed(st.otherSigner())
	case issuer != nil && issuer.renamed:
		return changed(fmt.Sprintf("issuer %q gets another name", c.Issuer))
	case issuer != nil && issuer.newKey:
		return changed(fmt.Sprintf("issuer %q gets a new key", c.Issuer))
	case st.IssuerErr != nil:
		return changed(fmt.Sprintf("not signed by issuer %q: %v", c.Issuer, st.IssuerErr))
	}
	return nil
}

// specReasons compares the certificate with the spec. What the issuer altered
// was recorded when it answered: it is accepted for as long as the difference is
// the very same, and asks for nothing.
func (d *differ) specReasons(it *Item, c *spec.Certificate, st *CertState) []Reason {
	want := pki.Wanted(c)
	var diffs []pki.Difference
	if !st.Leaf.Identity.Equal(&want) {
		diffs = pki.Compare(&st.Leaf.Identity, &want)
	}
	if len(st.Leaf.Identity.Usages) == 0 && !c.UsagesStated {
		// Without usages a certificate may be used for anything (RFC 5280, section
		// 4.2.1.3), so also for what is the default: so openssl makes its CAs.
		diffs = slices.DeleteFunc(diffs, func(d pki.Difference) bool { return d.Field == "usages" })
	}
	if st.settled() && len(st.Record.Altered) > 0 {
		it.Altered = st.Record.Altered
		diffs = slices.DeleteFunc(diffs, func(d pki.Difference) bool {
			return slices.ContainsFunc(st.Record.Altered, func(a pki.Difference) bool {
				return pki.SameDifferences([]pki.Difference{a}, []pki.Difference{d})
			})
		})
	}
	if diff := d.duration(c, st); diff != nil {
		diffs = append(diffs, *diff)
	}
	if len(diffs) == 0 {
		return nil
	}
	return []Reason{{Code: SpecChanged, Message: "the spec changed", Differences: diffs, action: ActionReplace}}
}

// duration compares the lifetime that is wanted with the one that was asked for
// when the certificate was issued. Without a record only a lifetime that the
// spec states counts, and a little more or less is no difference: tools backdate
// and round as they like. A lifetime that the issuer's end cut off is right.
func (d *differ) duration(c *spec.Certificate, st *CertState) *pki.Difference {
	if st.settled() && st.Record.Duration != "" {
		had, err := time.ParseDuration(st.Record.Duration)
		if err == nil && had != c.Duration {
			return &pki.Difference{Field: "duration", From: spec.FormatDuration(had), To: spec.FormatDuration(c.Duration)}
		}
		return nil
	}
	if !c.DurationStated {
		return nil
	}
	lifetime := st.Leaf.NotAfter.Sub(st.Leaf.NotBefore)
	slack := c.Duration/100 + 2*pki.Backdate
	if (lifetime - c.Duration).Abs() <= slack {
		return nil
	}
	if up := d.state.Of(spec.ID{Kind: spec.KindIssuer, Name: c.Issuer}); up != nil && up.Leaf != nil &&
		lifetime < c.Duration && !st.Leaf.NotAfter.Before(up.Leaf.NotAfter) {
		return nil
	}
	return &pki.Difference{Field: "duration", From: spec.FormatDuration(lifetime.Round(time.Minute)), To: spec.FormatDuration(c.Duration)}
}

func (d *differ) timeReasons(it *Item, c *spec.Certificate, st *CertState, issuer *outcome) []Reason {
	notAfter := st.Leaf.NotAfter
	if d.now.Before(st.Leaf.NotBefore) {
		it.Warnings = append(it.Warnings, fmt.Sprintf("not valid before %s: is the clock right?", stamp(st.Leaf.NotBefore)))
		return nil
	}
	if !d.now.Before(notAfter) {
		return []Reason{{Code: Expired, Message: "expired on " + stamp(notAfter), action: ActionRenew}}
	}
	if d.now.Before(it.RenewAt) {
		return nil
	}
	// A renewal that the issuer's own end cuts off at the same place gains
	// nothing, and would be due again at once.
	if issuer != nil && issuer.err == nil && !issuer.notAfter.IsZero() && !issuer.notAfter.After(notAfter.Add(time.Minute)) {
		it.Warnings = append(it.Warnings, fmt.Sprintf("due for renewal since %s, but issuer %q ends on %s itself: renew that first", stamp(it.RenewAt), c.Issuer, stamp(issuer.notAfter)))
		return nil
	}
	return []Reason{{Code: RenewalDue, Message: fmt.Sprintf("expires on %s, renewal was due on %s", stamp(notAfter), stamp(it.RenewAt)), action: ActionRenew}}
}

// outcome tells what c will be as an issuer.
func (d *differ) outcome(c *spec.Certificate, st *CertState, it *Item, in bool) *outcome {
	o := &outcome{cert: c}
	up := d.issuers[c.Issuer]
	if c.Issuer == "" {
		up = nil
	}
	if !(it.Action.Issues() && in) {
		o.unsure = st.Leaf == nil || st.IssuerErr != nil || up != nil && up.newKey
	}
	switch {
	case it.err != nil && (st.Leaf == nil || !st.Match):
		o.err, o.hint = it.err, it.Hint
	case it.Action.Issues() && in:
		o.newCert, o.newKey = true, it.NewKey || st.Leaf != nil && !st.Match
		if !o.newKey && it.subjectChanges() {
			o.newKey, o.renamed = true, true
		}
		o.notAfter = d.now.Add(c.Duration)
		if up != nil && up.notAfter.Before(o.notAfter) {
			o.notAfter = up.notAfter
		}
	case st.Leaf == nil || !st.Match:
		o.err = fmt.Errorf("it has no usable key and certificate, and the plan leaves it out")
	case d.now.Before(st.Leaf.NotBefore):
		o.err = fmt.Errorf("it is not valid before %s", stamp(st.Leaf.NotBefore))
	default:
		o.notAfter = st.Leaf.NotAfter
	}
	if o.err == nil && !d.now.Before(o.notAfter) {
		o.err = fmt.Errorf("it expired on %s", stamp(o.notAfter))
	}
	return o
}

// subjectChanges tells whether the certificate gets another name: what it signed
// names the old one as its issuer.
func (it *Item) subjectChanges() bool {
	for _, r := range it.Reasons {
		for _, diff := range r.Differences {
			if diff.Field == "commonName" || len(diff.Field) >= 8 && diff.Field[:8] == "subject." {
				return true
			}
		}
	}
	return false
}

// mustSign tells whether an issuer outside the selection has to be issued first,
// because without it nothing below it can be.
func (d *differ) mustSign(it *Item) bool {
	return it.Action == ActionCreate || it.Has(Expired) || it.Has(Malformed) || it.Has(KeyMismatch) || it.Has(IssuerChanged)
}

// neededIssuers finds the issuers above what the options select.
func (d *differ) neededIssuers() map[string]bool {
	needed := make(map[string]bool)
	if len(d.options.Names) == 0 {
		return needed
	}
	for c := range d.spec.All() {
		if !selects(d.options.Names, c.ID) {
			continue
		}
		signers := []string{c.Issuer}
		for _, o := range c.Outputs {
			if o.Kubeconfig != nil {
				signers = append(signers, o.Kubeconfig.CAIssuer)
			}
		}
		for _, name := range signers {
			for name != "" && !needed[name] {
				needed[name] = true
				i := d.spec.Issuer(name)
				if i == nil || i.CA == nil {
					break
				}
				name = i.CA.Issuer
			}
		}
	}
	return needed
}

func (it *Item) fail(err error, hint string) {
	it.err, it.Error, it.Hint = err, err.Error(), hint
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 MST") }

func paths(c *spec.Certificate) []string {
	p := make([]string, len(c.Outputs))
	for i := range c.Outputs {
		p[i] = c.Outputs[i].Path
	}
	return p
}

func keyPath(c *spec.Certificate) string {
	for _, o := range c.Outputs {
		if o.Form.HoldsKey() {
			return o.Path
		}
	}
	return "its output"
}

// fits tells whether an existing key is of the kind that the spec wants.
func fits(k *pki.KeyInfo, c *spec.Certificate) bool {
	return k.Algorithm == c.PrivateKey.Algorithm && (k.Algorithm == spec.Ed25519 || k.Size == c.PrivateKey.Size)
}
