package spec

import (
	"fmt"
	"maps"
	"slices"
)

// Field is one field of the spec's language, for its reference.
type Field struct {
	// Path is where the field stands, * for a name that the user gives:
	// certificates.*.privateKey.size.
	Path string
	// Doc is one sentence that says what the field does.
	Doc string
}

// Fields returns every field that a spec may state, in the order in which a
// reference would name them.
func Fields() []Field { return specTable.shape().fields }

// schema is a JSON Schema.
type schema map[string]any

// shape is what a value looks like: for the schema, and for the list of fields.
type shape struct {
	schema schema
	fields []Field // of the mappings in it, with paths relative to the value
}

// field is one key of a mapping.
type field[T any] struct {
	name  string
	doc   string
	shape shape
	// in are the places where the field applies; none is everywhere.
	in []place
	// nullable fields may be without a value, as a section is when all of it is
	// commented out.
	nullable bool
	// required is for the schema and the message about its absence.
	required bool
	// refused says why a field that is known is not accepted.
	refused string
	// hint goes with a message that the field is refused or missing.
	hint string
	// key is the name by which a stater knows the field: files.privateKey.
	key string
	// decode reads the value into t, and reports what is wrong with it.
	decode func(d *loader, v value, t T)
}

// table is everything that is known about the keys of one kind of mapping.
type table[T any] struct {
	name   string // of the mapping, in messages: a certificate
	fields []field[T]
	byName map[string]*field[T]
	// elsewhere are fields that apply only in other mappings of the kind.
	elsewhere map[string]bool
}

// place is where a mapping with a certificate's fields stands.
type place string

const (
	inDefaults    place = "defaults"
	inProfile     place = "a profile"
	inCA          place = "a CA"
	inCertificate place = "a certificate"
)

func newTable[T any](name string, fields []field[T]) *table[T] {
	t := &table[T]{name: name, byName: map[string]*field[T]{}, elsewhere: map[string]bool{}}
	for _, f := range fields {
		if f.in != nil && !slices.Contains(f.in, place(name)) {
			t.elsewhere[f.name] = true
			continue
		}
		t.fields = append(t.fields, f)
	}
	for i := range t.fields {
		t.fields[i].key = t.fields[i].name
		t.byName[t.fields[i].name] = &t.fields[i]
	}
	return t
}

// under tells staters about the fields with a prefix, for a mapping inside
// another one that has the same stater.
func (t *table[T]) under(prefix string) *table[T] {
	for i := range t.fields {
		t.fields[i].key = prefix + "." + t.fields[i].name
	}
	return t
}

// decode reads the mapping v into target.
func (t *table[T]) decode(d *loader, v value, target T) {
	entries, ok := d.entries(v)
	if !ok {
		return
	}
	t.decodeEntries(d, entries, target)
	for i := range t.fields {
		f := &t.fields[i]
		if f.required && !slices.ContainsFunc(entries, func(e entry) bool { return e.name == f.name }) {
			d.hinted(v, f.hint, "%s is missing", f.name)
		}
	}
}

// stater is told of each field that a mapping states.
type stater interface{ state(key string, e entry) }

func (t *table[T]) decodeEntries(d *loader, entries []entry, target T) {
	st, _ := any(target).(stater)
	for _, e := range entries {
		f := t.find(d, e)
		if f == nil {
			continue
		}
		if st != nil {
			st.state(f.key, e)
		}
		f.decode(d, e.value, target)
	}
}

// find returns the field for an entry, or nil after reporting why there is none.
func (t *table[T]) find(d *loader, e entry) *field[T] {
	f := t.byName[e.name]
	switch {
	case f == nil && t.elsewhere[e.name]:
		d.problem(e.key, "does not apply to %s", t.name)
	case f == nil:
		d.problem(e.key, "unknown field%s", didYouMean(e.name, t.names()))
	case f.refused != "":
		d.hinted(e.key, f.hint, "%s", f.refused)
	case e.value.isNull() && !f.nullable:
		d.problem(e.value, "has no value")
	default:
		return f
	}
	return nil
}

// names are those of the fields that a spec may state.
func (t *table[T]) names() []string {
	var names []string
	for _, f := range t.fields {
		if f.refused == "" {
			names = append(names, f.name)
		}
	}
	return names
}

func (t *table[T]) shape() shape {
	properties, required := schema{}, []string{}
	var fields []Field
	for _, f := range t.fields {
		if f.refused != "" {
			continue
		}
		property := schema{"description": f.doc}
		maps.Copy(property, f.shape.schema)
		properties[f.name] = property
		if f.required {
			required = append(required, f.name)
		}
		fields = append(fields, Field{f.name, f.doc})
		for _, sub := range f.shape.fields {
			fields = append(fields, Field{f.name + "." + sub.Path, sub.Doc})
		}
	}
	s := schema{"type": "object", "properties": properties, "additionalProperties": false}
	if len(required) > 0 {
		s["required"] = required
	}
	return shape{s, fields}
}

// The shapes of values. Every scalar may also be a reference, so that no
// pattern or enumeration may refuse a ${.
var (
	stringShape  = shape{schema: schema{"type": []string{"string", "number"}, "minLength": 1}}
	stringsShape = listOf(stringShape)
	reference    = schema{"type": "string", "pattern": `\$\{`}
)

func scalarShape(s schema) shape {
	return shape{schema: schema{"anyOf": []schema{s, reference}}}
}

func enumShape[T ~string](values []T) shape {
	return scalarShape(schema{"enum": values})
}

func durationShape(also string) shape {
	return scalarShape(schema{"type": "string",
		"pattern": `^(\+?((\d+(\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h|d|w|y))+` + also + `)$`})
}

func listOf(item shape) shape {
	return shape{schema: schema{"type": "array", "items": item.schema}}
}

// mapOf is a mapping whose keys are names that the user gives.
func mapOf(val shape, keyPattern string) shape {
	s := schema{"type": []string{"object", "null"}, "additionalProperties": val.schema}
	if keyPattern != "" {
		s["propertyNames"] = schema{"pattern": keyPattern}
	}
	var fields []Field
	for _, f := range val.fields {
		fields = append(fields, Field{"*." + f.Path, f.Doc})
	}
	return shape{s, fields}
}

// orNull lets a section be empty, as it is when all of it is commented out.
func orNull(s shape) shape {
	c := schema{}
	maps.Copy(c, s.schema)
	c["type"] = []string{fmt.Sprint(c["type"]), "null"}
	return shape{c, s.fields}
}
