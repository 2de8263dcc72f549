package spec

import (
	"slices"
	"strings"
)

// issuer is an entry of issuers while the spec is loaded.
type issuer struct {
	name   string
	key    value // its place
	draft  *draft
	result *Issuer

	kubernetes *Kubernetes
	parent     *issuer // nil for a root, and while unknown
	state      visitState
	// constraints are the issuer's own and those of all above it.
	constraints []constrained
}

// visitState is that of a depth-first walk.
type visitState uint8

const (
	unvisited visitState = iota
	visiting
	visited
)

// loadIssuers decodes the issuers, and then checks them from the roots down.
func (d *loader) loadIssuers() {
	var list []*issuer
	for _, e := range d.issuers.list {
		if !d.checkName(e.key, e.name) {
			continue
		}
		is := &issuer{name: e.name, key: e.key}
		d.issuerByName[e.name] = is
		list = append(list, is)
		e.value.scope = &scope{env: d.env, name: e.name}
		entries, ok := d.entries(e.value)
		if !ok {
			continue
		}
		switch len(entries) {
		case 0:
			d.problem(e.key, "states no kind of issuer; this version knows ca and kubernetes")
		case 1:
		default:
			var kinds []string
			for _, k := range entries {
				kinds = append(kinds, k.name)
			}
			d.problem(e.key, "must be of one kind, states %s", strings.Join(kinds, ", "))
		}
		issuerTable.decodeEntries(d, entries, is)
	}
	for _, is := range list {
		d.visitIssuer(is, nil)
	}
}

// ca decodes the certificate of a CA.
func (d *loader) ca(v value, is *issuer) {
	c := newCADraft()
	c.ID = ID{KindIssuer, is.name}
	c.Pos, c.Source = is.key.pos(), is.key.src.abs
	c.layer = ownLayer
	caTable.decode(d, v, c)
	is.draft = c
}

// visitIssuer adds an issuer to the spec after the one that signs it. below are
// the issuers from where the walk started.
func (d *loader) visitIssuer(is *issuer, below []*issuer) {
	switch is.state {
	case visited:
		return
	case visiting:
		cycle := below[slices.Index(below, is):]
		var names []string
		for _, b := range cycle {
			names = append(names, b.name)
		}
		d.problem(is.draft.at("issuer", is.key), "issuers sign each other: %s", strings.Join(append(names, is.name), " → "))
		return
	}
	is.state = visiting
	if c := is.draft; c != nil && c.Issuer != "" {
		if parent := d.issuerNamed(c.Issuer, c.at("issuer", is.key)); parent != nil {
			d.visitIssuer(parent, append(below, is))
			if parent.state == visited {
				is.parent = parent
			}
		}
	}
	is.state = visited
	switch {
	case is.draft != nil:
		d.finishCA(is)
	case is.kubernetes != nil:
		is.result = &Issuer{Name: is.name, Kubernetes: is.kubernetes}
		d.spec.Issuers = append(d.spec.Issuers, is.result)
	}
}

// issuerNamed returns an issuer, or nil after reporting that there is none.
func (d *loader) issuerNamed(name string, from value) *issuer {
	is := d.issuerByName[name]
	if is == nil {
		names := make([]string, 0, len(d.issuerByName))
		for _, e := range d.issuers.list {
			names = append(names, e.name)
		}
		if _, stated := d.issuers.byName[name]; !stated { // else its name is bad, which is reported
			d.problem(from, "unknown issuer %q%s", shorten(name), didYouMean(name, names))
		}
	}
	return is
}

func (d *loader) finishCA(is *issuer) {
	c := is.draft
	d.finish(c, is.key)
	if p := is.parent; p != nil {
		is.constraints = p.constraints
		d.checkPathLen(is)
	}
	if nc := c.CA.NameConstraints; nc != nil {
		is.constraints = append(slices.Clip(is.constraints), constrained{is.name, nc})
	}
	cert := new(Certificate)
	*cert = c.Certificate
	is.result = &Issuer{Name: is.name, CA: cert}
	d.spec.Issuers = append(d.spec.Issuers, is.result)
	d.spec.index[c.ID] = cert
}

// checkPathLen checks a CA against the path lengths of those above it: a path
// length of n allows n CAs below (RFC 5280, section 4.2.1.9).
func (d *loader) checkPathLen(is *issuer) {
	depth := 0
	for above := is.parent; above != nil; above = above.parent {
		if above.draft == nil {
			return
		}
		limit := above.draft.CA.PathLen
		if limit != nil && *limit <= depth {
			d.problem(is.draft.at("issuer", is.key), "the pathLen of issuer %q is %d: %s", above.name, *limit, tooDeep(depth))
			return
		}
		if own := is.draft.CA.PathLen; limit != nil && own != nil && *own+depth >= *limit {
			d.problem(is.draft.at("pathLen", is.key), "is %d, but the pathLen of issuer %q leaves at most %d",
				*own, above.name, *limit-depth-1)
			return
		}
		depth++
	}
}

func tooDeep(depth int) string {
	if depth == 0 {
		return "it may not sign a CA"
	}
	return "this CA is too far below it"
}
