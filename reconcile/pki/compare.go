package pki

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/google/go-cmp/cmp"

	"github.com/certsync/certsync/spec"
)

// Difference is one field in which two identities differ: a scalar goes from one
// value to another, a list gains and loses values.
type Difference struct {
	Field  string   `json:"field"` // path under the certificate in the spec: subject.organizations
	From   string   `json:"from,omitempty"`
	To     string   `json:"to,omitempty"`
	Add    []string `json:"add,omitempty"`
	Remove []string `json:"remove,omitempty"`
}

// String returns "dnsNames: + api.example.com - old.example.com", or
// "commonName: a → b".
func (d Difference) String() string {
	var b strings.Builder
	b.WriteString(d.Field + ":")
	for _, v := range d.Add {
		b.WriteString(" + " + visible(v))
	}
	for _, v := range d.Remove {
		b.WriteString(" - " + visible(v))
	}
	if len(d.Add)+len(d.Remove) == 0 {
		fmt.Fprintf(&b, " %s → %s", shown(d.From), shown(d.To))
	}
	return b.String()
}

func shown(s string) string {
	if s == "" {
		return `""`
	}
	return visible(s)
}

// Compare returns how to get from what is there to what is wanted, in the order
// of Identity's fields. It is empty exactly if the two are Equal.
func Compare(have, want *Identity) []Difference {
	if have.Equal(want) {
		return nil // what is nearly always so need not go by way of reflection
	}
	var r reporter
	type fields Identity // without the method Equal, which go-cmp would call instead
	cmp.Equal((*fields)(have), (*fields)(want), cmp.Reporter(&r), asSet, asUsageSet, asSubject, asConstraints)
	if have.NameConstraints == nil || want.NameConstraints == nil {
		// Who gets constraints, or loses them, need not be told that they are critical.
		r.found = slices.DeleteFunc(r.found, func(d Difference) bool {
			return d.Field == "nameConstraints.critical"
		})
	}
	for _, d := range r.found {
		slices.Sort(d.Add)
		slices.Sort(d.Remove)
	}
	return r.found
}

// SameDifferences tells whether two results of Compare are the same.
func SameDifferences(a, b []Difference) bool {
	return slices.EqualFunc(a, b, func(a, b Difference) bool {
		return a.Field == b.Field && a.From == b.From && a.To == b.To &&
			slices.Equal(a.Add, b.Add) && slices.Equal(a.Remove, b.Remove)
	})
}

// Lists are compared as sets, absent structs as empty ones.
var (
	asSet         = cmp.Transformer("set", setOf[string])
	asUsageSet    = cmp.Transformer("usages", setOf[spec.Usage])
	asSubject     = cmp.Transformer("subject", valueOf[Subject])
	asConstraints = cmp.Transformer("constraints", valueOf[NameConstraints])
)

func setOf[T ~string](list []T) map[string]bool {
	m := make(map[string]bool, len(list))
	for _, v := range list {
		m[string(v)] = true
	}
	return m
}

func valueOf[T any](p *T) T {
	if p == nil {
		return *new(T)
	}
	return *p
}

// reporter gathers the differences that go-cmp comes upon (cmp.Reporter).
type reporter struct {
	path  cmp.Path
	found []Difference
}

func (r *reporter) PushStep(s cmp.PathStep) { r.path = append(r.path, s) }
func (r *reporter) PopStep()                { r.path = r.path[:len(r.path)-1] }

func (r *reporter) Report(result cmp.Result) {
	if result.Equal() {
		return
	}
	field := r.field()
	from, to := r.path.Last().Values()
	key, member := r.path.Last().(cmp.MapIndex)
	if !member {
		r.found = append(r.found, Difference{Field: field, From: scalarString(field, from.Interface()), To: scalarString(field, to.Interface())})
		return
	}
	if n := len(r.found); n == 0 || r.found[n-1].Field != field {
		r.found = append(r.found, Difference{Field: field})
	}
	d := &r.found[len(r.found)-1]
	if to.IsValid() {
		d.Add = append(d.Add, key.Key().String())
	} else {
		d.Remove = append(d.Remove, key.Key().String())
	}
}

// field returns the path in the spec of what is compared just now.
func (r *reporter) field() string {
	var names []string
	for i, step := range r.path {
		if f, ok := step.(cmp.StructField); ok {
			name, _, _ := strings.Cut(r.path[i-1].Type().Field(f.Index()).Tag.Get("json"), ",")
			names = append(names, name)
		}
	}
	return strings.Join(names, ".")
}

func scalarString(field string, v any) string {
	switch v := v.(type) {
	case int:
		if field == "pathLen" && v < 0 {
			return "unlimited"
		}
		return strconv.Itoa(v)
	default:
		return fmt.Sprint(v)
	}
}
