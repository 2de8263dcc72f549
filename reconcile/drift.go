package reconcile

import (
	"fmt"
	"slices"

	"github.com/certsync/certsync/reconcile/pki"
	"github.com/certsync/certsync/spec"
)

// drift compares the outputs with what they should hold, given that the key and
// certificate are fine. The outputs that differ are noted in the item.
func (d *differ) drift(it *Item, c *spec.Certificate, st *CertState) []Reason {
	var reasons []Reason
	dirs := make(map[string]bool)
	var objects map[*spec.Object]bool
	if len(st.Objects) > 0 {
		objects, it.drifted = make(map[*spec.Object]bool), make(map[*spec.Object]bool)
	}
	for i, o := range c.Outputs {
		if st.left(o) {
			continue
		}
		message := d.outputDrift(c, st, o, &st.Outputs[i])
		if message == "" {
			continue
		}
		switch {
		case o.Object != nil:
			objects[o.Object], it.drifted[o.Object] = true, true
		case o.Dir != "":
			dirs[o.Dir] = true
		default:
			it.Outputs = append(it.Outputs, o.Path)
		}
		reasons = append(reasons, Reason{Code: OutputDrift, Message: place(o) + " " + message, action: ActionRepair})
	}
	for i := range st.Objects {
		o := &st.Objects[i]
		if o.Left != "" {
			continue
		}
		if message := d.objectDrift(it, c, st, o); message != "" {
			objects[o.Object] = true
			reasons = append(reasons, Reason{Code: OutputDrift, Message: fmt.Sprintf("%s %s", o.Object, message), action: ActionRepair})
		}
	}
	// The files of a directory set, and what is in an object, change together.
	for _, o := range c.Outputs {
		if o.Dir != "" && dirs[o.Dir] || objects[o.Object] {
			it.Outputs = append(it.Outputs, o.Path)
		}
	}
	return reasons
}

// place names an output in a message: by its field and path, or by the path alone of
// what is in a cluster, which says it all.
func place(o spec.Output) string {
	if o.Object != nil {
		return o.Path
	}
	return o.Field() + " " + o.Path
}

// outputDrift says what is wrong with one output; nothing if it is as it should be.
func (d *differ) outputDrift(c *spec.Certificate, st *CertState, o spec.Output, s *OutputState) string {
	switch {
	case !s.Exists:
		return "is missing"
	case s.Malformed != "":
		return "is malformed: " + s.Malformed
	case s.Locked != nil:
		return "cannot be opened with the password"
	case len(s.Drift) > 0:
		return words(s.Drift)
	}
	if o.Form.HoldsKey() {
		if message := keyDrift(c, st, o, s.Key); message != "" {
			return message
		}
	}
	up := d.lineageOf(c, st)
	if name, changed := up.changes[dependence(o)]; changed {
		return fmt.Sprintf("holds the certificate of issuer %q, which changes", name)
	}
	leaf := st.Leaf.Fingerprint
	switch o.Form {
	case spec.FormPrivateKey:
		return ""
	case spec.FormCertificate:
		return contentDrift(o.Form, s.Certs, leaf)
	}
	if o.Form.IsKubeconfig() {
		return d.kubeconfigDrift(o, s, leaf, up)
	}
	if up.unknown {
		return "" // what it should hold cannot be told now
	}
	switch o.Form {
	case spec.FormChain:
		if !slices.Equal(s.Certs, up.chain) {
			return "holds another chain"
		}
	case spec.FormCA:
		if up.unknownAnchor {
			return ""
		}
		if c.Issuer == "" {
			return contentDrift(o.Form, s.Certs, leaf)
		}
		return contentDrift(o.Form, s.Certs, up.anchor)
	default:
		if message := contentDrift(o.Form, s.Certs, leaf, up.chain...); message != "" || !o.Form.IsKeystore() || up.unknownAnchor {
			return message
		}
		return keystoreDrift(c, o, s.Keystore, up)
	}
	return ""
}

func keyDrift(c *spec.Certificate, st *CertState, o spec.Output, k *pki.KeyInfo) string {
	switch {
	case k == nil || k.Fingerprint != st.Leaf.Key:
		return "holds another private key"
	case o.Form.IsKeystore():
		return "" // which are as their own settings say
	case c.PrivateKey.Encoding != "" && k.Encoding != c.PrivateKey.Encoding && !k.Encrypted:
		return fmt.Sprintf("is encoded as %s, want %s", k.Encoding, c.PrivateKey.Encoding)
	case c.PrivateKey.Password != nil && !k.Encrypted:
		return "is not encrypted"
	}
	return ""
}

func contentDrift(form spec.Form, have []pki.Fingerprint, first pki.Fingerprint, rest ...pki.Fingerprint) string {
	switch {
	case len(have) > 0 && have[0] == first && slices.Equal(have[1:], rest):
		return ""
	case form == spec.FormCA:
		return "holds another trust anchor"
	case len(have) == 0 || have[0] != first:
		return "holds another certificate"
	case form == spec.FormCertificate:
		return "holds more than the certificate"
	}
	return "holds another chain"
}

// lineage is what stands above a certificate.
type lineage struct {
	chain  []pki.Fingerprint // the intermediates, nearest first
	anchor pki.Fingerprint   // the root
	// unknown tells that a certificate above could not be observed.
	unknown bool
	// unknownAnchor tells that the root is not known, or that nothing needs it.
	unknownAnchor bool
	// remote tells that a remote issuer signed it.
	remote bool
	// changes names, by the form of output that it concerns, an issuer whose
	// certificate the plan changes.
	changes map[spec.Form]string
}

// lineageOf returns what stands above a certificate. What a remote issuer stands on
// is not in the spec, but came with the certificate.
func (d *differ) lineageOf(c *spec.Certificate, st *CertState) *lineage {
	if st.remote != nil && st.remote.issuer != nil {
		return st.remote.lineage()
	}
	return d.above(c.Issuer)
}

// above returns what stands above the certificates of an issuer.
func (d *differ) above(issuer string) *lineage {
	if l := d.lineages[issuer]; l != nil {
		return l
	}
	l := &lineage{}
	for name := issuer; name != ""; {
		o := d.issuers[name]
		if o == nil {
			l.unknown = true
			break
		}
		root := o.cert.Issuer == ""
		l.unknown = l.unknown || o.unsure
		switch leaf := d.state.Of(o.cert.ID).Leaf; {
		case leaf == nil:
			l.unknown = true
		case root:
			l.anchor = leaf.Fingerprint
		default:
			l.chain = append(l.chain, leaf.Fingerprint)
		}
		if o.newCert && root {
			l.note(name, spec.FormCA, spec.FormPKCS12, spec.FormJKS, spec.FormKubeconfig)
		} else if o.newCert {
			l.note(name, spec.FormChain, spec.FormFullChain, spec.FormCombined, spec.FormPKCS12, spec.FormJKS, spec.FormKubeconfig)
		}
		name = o.cert.Issuer
	}
	d.lineages[issuer] = l
	return l
}

func (l *lineage) note(name string, forms ...spec.Form) {
	if l.changes == nil {
		l.changes = make(map[spec.Form]string)
	}
	for _, f := range forms {
		if _, noted := l.changes[f]; !noted {
			l.changes[f] = name
		}
	}
}
