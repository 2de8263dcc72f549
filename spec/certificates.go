package spec

import (
	"strings"

	"gopkg.in/yaml.v3"
)

// loadCertificates resolves the leaves one after the other, and lets go of each
// one's nodes before the next. It fails if a file cannot be read in parts.
func (d *loader) loadCertificates() (ok bool) {
	next, stop := parseAhead(d.certificates)
	defer stop()
	seen := map[string]stance{}
	for i := range d.certificates {
		v := d.certificates[i].value
		if p := d.certificates[i].part; p != nil {
			node := next()
			if node == nil {
				return false
			}
			v = value{node, p.src, &path{name: "certificates", index: -1}, d.root}
		}
		d.certificates[i] = batch{}
		if v.isNull() {
			continue
		}
		entries, _ := d.entries(v)
		v.node.Content = nil
		if !d.countCertificates(entries) {
			return true
		}
		for j, e := range entries {
			if d.full {
				return true
			}
			if first, twice := seen[e.name]; twice {
				d.problem(e.key, "is already stated at %s", first.pos())
			} else {
				seen[e.name] = stance{e.key.src, int32(e.key.node.Line), int32(e.key.node.Column)}
				d.declared(e)
			}
			entries[j] = entry{}
		}
	}
	return true
}

// maxCertificates bounds the leaves of a spec: five times what it is made for.
var maxCertificates = 500_000

// countCertificates counts what entries come to before any of it is made, and
// tells whether it is allowed.
func (d *loader) countCertificates(entries []entry) bool {
	for _, e := range entries {
		n := 1
		if items, ok := peek(e.value, "forEach"); ok {
			n = len(items.node.Content)
			if items.node.Kind == yaml.MappingNode {
				n /= 2
			}
		}
		if d.declaredCount += n; d.declaredCount > maxCertificates {
			d.full = true
			d.hinted(e.key, "divide it into several specs", "with this the spec has more than %d certificates", maxCertificates)
			return false
		}
	}
	return true
}

// stance is a place that takes little memory and keeps no node alive.
type stance struct {
	src          *source
	line, column int32
}

func (s stance) pos() Position {
	return Position{File: s.src.file, Line: int(s.line) + s.src.line, Column: int(s.column)}
}

// declared resolves one entry under certificates: with forEach it is many.
func (d *loader) declared(e entry) {
	items, ok := peek(e.value, "forEach")
	if !ok {
		if strings.Contains(e.name, "${") {
			d.hinted(e.key, "add forEach, or write the name out", "a name refers to variables only with forEach")
			return
		}
		d.leaf(e.name, e, &scope{env: d.env, name: e.name})
		return
	}
	seen := map[string]bool{}
	for _, item := range d.forEach(items) {
		if d.full {
			return
		}
		key := e.key
		key.scope = &scope{env: d.env, each: &item}
		name, ok := d.expand(key)
		if !ok {
			return // the same for every item
		}
		if seen[name] {
			d.hinted(key, "use ${each.key} or ${each.value} in the name", "forEach gives the name %q twice", name)
			return
		}
		seen[name] = true
		d.leaf(name, e, &scope{env: d.env, name: name, each: &item})
	}
}

// peek returns a field of a mapping before the mapping is decoded.
func peek(v value, name string) (value, bool) {
	if v.node.Kind == yaml.MappingNode {
		for i := 0; i+1 < len(v.node.Content); i += 2 {
			if k := v.node.Content[i]; k.Kind == yaml.ScalarNode && k.Value == name {
				return v.field(name, v.node.Content[i+1]), true
			}
		}
	}
	return value{}, false
}

// forEach returns the items in the order in which they are declared.
func (d *loader) forEach(v value) []each {
	var items []each
	if v.node.Kind == yaml.SequenceNode {
		values, _ := d.items(v)
		for _, item := range values {
			if s, ok := d.scalar(item); ok {
				items = append(items, each{s, s})
			}
		}
	} else {
		if v.node.Kind != yaml.MappingNode {
			d.problem(v, "must be a mapping or a list, is %s", describe(v.node))
			return nil
		}
		entries, _ := d.entries(v)
		for _, e := range entries {
			if s, ok := d.scalar(e.value); ok {
				items = append(items, each{e.name, s})
			}
		}
	}
	if len(items) == 0 && len(v.node.Content) == 0 {
		d.problem(v, "has no items")
	}
	return items
}

// leaf resolves one leaf and adds it to the spec.
func (d *loader) leaf(name string, e entry, sc *scope) {
	if !d.checkName(e.key, name) {
		return
	}
	id := ID{KindCertificate, name}
	if first := d.spec.index[id]; first != nil {
		d.problem(e.key, "the certificate %q is already stated at %s", name, first.Pos)
		return
	}
	v := e.value
	v.scope = sc
	if v.node.Kind != yaml.MappingNode {
		d.problem(v, "must be a mapping, is %s", describe(v.node))
		return
	}
	profile, from := d.profileOf(v)
	c := d.base(profile, from, sc)
	c.ID = id
	c.Pos, c.Source = e.key.pos(), e.key.src.abs
	c.layer = ownLayer
	certificateTable.decode(d, v, c)
	key := e.key
	key.scope = sc
	d.finish(c, key)

	cert := new(Certificate)
	*cert = c.Certificate
	d.spec.index[id] = cert
	d.spec.Certificates = append(d.spec.Certificates, cert)
}

// profileOf returns the profile that a certificate or the defaults name.
func (d *loader) profileOf(v value) (name string, from value) {
	p, ok := peek(v, "profile")
	if !ok {
		e, ok := d.defaults.get("profile")
		if !ok {
			return "", v
		}
		p = e.value
		p.scope = v.scope
	}
	name, _ = d.word(p)
	return name, p
}

// base returns a draft with everything that lies under a certificate's own
// fields.
func (d *loader) base(profile string, from value, sc *scope) *draft {
	if t := d.templates[profile]; t != nil {
		return t.clone()
	}
	def, stated := d.profileDefs[profile]
	builtin, known := builtinProfiles[profile]
	if profile != "" && !stated && !known {
		d.problem(from, "unknown profile %q%s", profile, didYouMean(profile, d.profileNames()))
	}
	c := newDraft()
	c.layer = defaultsLayer
	defaultsTable.decodeEntries(d, within(sc, d.defaultLayer.entries), c)
	c.layer = profileLayer
	if stated {
		profileTable.decodeEntries(d, within(sc, def.entries), c)
	} else if known {
		c.Usages, c.usagesLayer = builtin, profileLayer
	}
	if !d.defaultLayer.perCertificate && !def.perCertificate && (stated || known || profile == "") {
		d.templates[profile] = c
		return c.clone()
	}
	return c
}

// within returns the entries with references resolved in the scope.
func within(sc *scope, entries []entry) []entry {
	scoped := make([]entry, len(entries))
	for i, e := range entries {
		e.key.scope, e.value.scope = sc, sc
		scoped[i] = e
	}
	return scoped
}

func (d *loader) profileNames() []string {
	var names []string
	for name := range builtinProfiles {
		names = append(names, name)
	}
	for _, e := range d.profiles.list {
		names = append(names, e.name)
	}
	return names
}
