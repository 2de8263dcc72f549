package spec

import (
	"fmt"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"
)

// source is a file, or a part of one that was parsed by itself.
type source struct {
	file string // as the user named it
	dir  string // absolute; relative paths start here
	abs  string // the file, absolute
	line int    // lines before the part
}

// path is where a value stands in the spec: certificates.web.dnsNames[0]. It is
// a list from the leaf up, so that most values never pay for its text.
type path struct {
	parent *path
	name   string
	index  int // of a list's item; -1 for a field
}

func (p *path) String() string {
	if p == nil {
		return ""
	}
	if p.index >= 0 {
		return p.parent.String() + "[" + strconv.Itoa(p.index) + "]"
	}
	if p.parent == nil {
		return p.name
	}
	return p.parent.String() + "." + p.name
}

// value is a YAML node together with all it takes to understand and to blame it.
type value struct {
	node  *yaml.Node // never an alias
	src   *source
	path  *path
	scope *scope
}

func (v value) pos() Position {
	return Position{File: v.src.file, Line: v.node.Line + v.src.line, Column: v.node.Column}
}

func (v value) field(name string, n *yaml.Node) value {
	return value{deref(n), v.src, &path{parent: v.path, name: name, index: -1}, v.scope}
}

func (v value) item(i int, n *yaml.Node) value {
	return value{deref(n), v.src, &path{parent: v.path, index: i}, v.scope}
}

func (v value) isNull() bool {
	return v.node.Kind == yaml.ScalarNode && v.node.ShortTag() == "!!null"
}

func deref(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}

// problem records what is wrong with v.
func (d *loader) problem(v value, format string, args ...any) {
	d.hinted(v, "", format, args...)
}

func (d *loader) hinted(v value, hint, format string, args ...any) {
	d.problems = append(d.problems, Problem{
		Pos: v.pos(), Path: v.path.String(), Message: fmt.Sprintf(format, args...), Hint: hint})
}

func (d *loader) warn(v value, format string, args ...any) {
	d.warnings = append(d.warnings, Problem{
		Pos: v.pos(), Path: v.path.String(), Message: fmt.Sprintf(format, args...)})
}

// visit counts a value that is read. Aliases and forEach make a small file
// large; what they may make of it is limited.
func (d *loader) visit(v value) bool {
	if d.visits++; d.visits <= d.maxVisits() {
		return true
	}
	if !d.full {
		d.full = true
		d.problem(v, "the spec expands to more than %d values", d.maxVisits())
	}
	return false
}

// maxVisits allows for all that the files state, where a value takes a byte at
// the least, and a fixed amount on top.
func (d *loader) maxVisits() int { return d.size + maxExpansion }

// entry is one key of a mapping with its value.
type entry struct {
	name string
	key  value // with the path of the entry and the place of its key
	value
}

// entries returns the entries of a mapping, without those that repeat a key.
func (d *loader) entries(v value) ([]entry, bool) {
	if !d.visit(v) {
		return nil, false
	}
	if v.node.Kind != yaml.MappingNode || v.node.ShortTag() != "!!map" {
		d.problem(v, "must be a mapping, is %s", describe(v.node))
		return nil, false
	}
	n := len(v.node.Content) / 2
	list := make([]entry, 0, n)
	var seen map[string]int
	if n > 16 {
		seen = make(map[string]int, n)
	}
	for i := 0; i+1 < len(v.node.Content); i += 2 {
		k := deref(v.node.Content[i])
		if k.Kind != yaml.ScalarNode || k.ShortTag() == "!!null" {
			d.problem(v.field("?", k), "a key must be a name, is %s", describe(k))
			continue
		}
		val := v.field(k.Value, v.node.Content[i+1])
		key := val
		key.node = k
		if k.ShortTag() == "!!merge" {
			d.hinted(key, "state common fields in defaults or in a profile", "merge keys (<<) are not supported")
			continue
		}
		first := -1
		if seen != nil {
			if j, twice := seen[k.Value]; twice {
				first = j
			}
			seen[k.Value] = len(list)
		} else {
			for j := range list {
				if list[j].name == k.Value {
					first = j
				}
			}
		}
		if first >= 0 {
			d.problem(key, "is already stated at %s", list[first].key.pos())
			continue
		}
		list = append(list, entry{k.Value, key, val})
	}
	return list, true
}

// items returns the values of a list.
func (d *loader) items(v value) ([]value, bool) {
	if !d.visit(v) {
		return nil, false
	}
	if v.node.Kind != yaml.SequenceNode || v.node.ShortTag() != "!!seq" {
		hint := ""
		if v.node.Kind == yaml.ScalarNode && !v.isNull() && len(v.node.Value) < 100 {
			hint = "write [" + v.node.Value + "]"
		}
		d.hinted(v, hint, "must be a list, is %s", describe(v.node))
		return nil, false
	}
	list := make([]value, len(v.node.Content))
	for i, n := range v.node.Content {
		list[i] = v.item(i, n)
	}
	return list, true
}

// text returns a scalar as it is written, interpolated. Numbers are text too:
// a postal code keeps its zeros.
func (d *loader) text(v value) (string, bool) {
	if !d.visit(v) {
		return "", false
	}
	if v.node.Kind != yaml.ScalarNode {
		d.problem(v, "must be a string, is %s", describe(v.node))
		return "", false
	}
	switch tag := v.node.ShortTag(); tag {
	case "!!str", "!!int", "!!float", "!!timestamp":
	case "!!bool":
		d.hinted(v, "quote it", "must be a string, is %s", describe(v.node))
		return "", false
	default:
		d.problem(v, "must be a string, is %s", describe(v.node))
		return "", false
	}
	return d.expand(v)
}

// expand interpolates a scalar.
func (d *loader) expand(v value) (string, bool) {
	s, err := v.scope.interpolate(v.node.Value)
	if err != nil {
		d.problem(v, "%s", err)
		return "", false
	}
	return s, true
}

// word returns a scalar that may not be empty.
func (d *loader) word(v value) (string, bool) {
	s, ok := d.text(v)
	if ok && s == "" {
		d.problem(v, "is empty")
		return "", false
	}
	return s, ok
}

func (d *loader) integer(v value) (int, bool) {
	s, ok := d.text(v)
	if !ok {
		return 0, false
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		d.problem(v, "must be a whole number, is %q", s)
		return 0, false
	}
	return n, true
}

func (d *loader) boolean(v value) (value, ok bool) {
	if !d.visit(v) {
		return false, false
	}
	if v.node.Kind == yaml.ScalarNode {
		s, ok := d.expand(v)
		if !ok {
			return false, false
		}
		switch s {
		case "true":
			return true, true
		case "false":
			return false, true
		}
	}
	d.problem(v, "must be true or false, is %s", describe(v.node))
	return false, false
}

// choice returns a scalar that is one of known.
func choice[T ~string](d *loader, v value, known []T) (T, bool) {
	s, ok := d.word(v)
	if !ok {
		return "", false
	}
	names := make([]string, len(known))
	for i, k := range known {
		if names[i] = string(k); s == names[i] {
			return k, true
		}
	}
	if near := didYouMean(s, names); near != "" {
		d.problem(v, "unknown value %q%s", s, near)
	} else {
		d.problem(v, "unknown value %q; known are %s", s, strings.Join(names, ", "))
	}
	return "", false
}

// describe says what a node is, for a message that wanted something else.
func describe(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		if n.ShortTag() == "!!map" {
			return "a mapping"
		}
	case yaml.SequenceNode:
		if n.ShortTag() == "!!seq" {
			return "a list"
		}
	}
	switch tag := n.ShortTag(); tag {
	case "!!null":
		return "empty"
	case "!!bool":
		return "the boolean " + n.Value
	case "!!int", "!!float":
		return "the number " + n.Value
	case "!!str", "!!timestamp":
		return strconv.Quote(n.Value)
	default:
		return "tagged " + tag
	}
}
