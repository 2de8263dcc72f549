package reconcile

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/certsync/certsync/spec"
)

// objectDrift says what besides its data is wrong with an object; nothing if it is
// as it should be. What is left to others is a warning.
func (d *differ) objectDrift(it *Item, c *spec.Certificate, st *CertState, o *ObjectState) string {
	if !o.Exists {
		return "" // each of its outputs is missing
	}
	labels, annotations, left := o.wantedMeta(notes(c, st.Leaf.Fingerprint, st.noteDigest(c, o)), st.Record.contest(o.Object))
	it.Warnings = append(it.Warnings, left...)
	var drift []string
	compare := func(kind string, want, have map[string]string) {
		for _, name := range slices.Sorted(maps.Keys(want)) {
			switch value, ok := have[name]; {
			case !ok:
				drift = append(drift, fmt.Sprintf("lacks the %s %s", kind, name))
			case value != want[name]:
				drift = append(drift, fmt.Sprintf("has the %s %s=%s, want %s", kind, name, value, want[name]))
			}
		}
	}
	compare("label", labels, o.Labels)
	compare("annotation", annotations, o.Annotations)
	for _, field := range o.Mine {
		kind, name, _ := strings.Cut(field, "/")
		switch {
		case kind == "data" && !slices.ContainsFunc(c.Outputs, func(out spec.Output) bool { return out.Object == o.Object && out.DataKey == name }):
			drift = append(drift, fmt.Sprintf("holds %s, which the spec has no more", name))
		case kind == "label" && labels[name] == "" && !has(labels, name), kind == "annotation" && !has(annotations, name):
			drift = append(drift, fmt.Sprintf("has the %s %s, which the spec has no more", kind, name))
		}
	}
	return words(drift)
}

func has(m map[string]string, name string) bool {
	_, ok := m[name]
	return ok
}

// noteDigest returns the digest of the spec for which the certificate in an object
// was issued, as far as that is known.
func (s *CertState) noteDigest(c *spec.Certificate, o *ObjectState) string {
	if s.settled() && s.Record.SpecDigest != "" {
		return s.Record.SpecDigest
	}
	if there := o.Annotations[NoteSpecDigest]; there != "" {
		return there
	}
	return c.Digest()
}

// checkObjects fails the item if it would write an object that cannot be written, or
// that is somebody else's, and tells of objects that others write, too.
func (d *differ) checkObjects(it *Item, c *spec.Certificate, st *CertState, requested bool) {
	for i := range st.Objects {
		o := &st.Objects[i]
		if !o.Exists {
			continue
		}
		kind := strings.ToLower(string(o.Object.Kind))
		remove := fmt.Sprintf("delete the %s, which is then made anew, or state another name", o.Object.Kind)
		if o.Object.Kind == spec.KindSecret && o.Type != TypeTLS {
			it.refuse(fmt.Errorf("%s is of the type %s, want %s: the type of a Secret cannot change", o.Object, o.Type, TypeTLS), remove)
			return
		}
		if o.Left != "" && !requested {
			it.Warnings = append(it.Warnings, fmt.Sprintf("%s; %s", o.leftTo(), o.giveBack(c)))
			continue
		}
		changes := it.Action.Issues() || it.drifted[o.Object]
		who := o.contestant(c, st.Record)
		switch {
		case !changes:
		case o.Immutable:
			it.refuse(fmt.Errorf("%s is immutable, and holds something else", o.Object), remove)
			return
		case !o.mine(st.Record):
			if who == "" {
				who = "somebody else"
			}
			it.refuse(fmt.Errorf("%s holds something else, and is written by %s, not by certsync: it is left alone", o.Object, who),
				fmt.Sprintf("delete the %s if nobody needs it, or state another name; one that holds what the spec wants is taken over", kind))
			return
		case who != "" && !requested:
			it.Warnings = append(it.Warnings, fmt.Sprintf("%s is written by %s, too: certsync takes it back, for the %s of %d times",
				o.Object, who, ordinal(st.Record.contest(o.Object).Data+1), maxRounds))
		}
	}
}

func ordinal(n int) string {
	if n < len(ordinals) {
		return ordinals[n]
	}
	return fmt.Sprintf("%dth", n)
}

var ordinals = []string{"0th", "1st", "2nd", "3rd"}

// refuse fails an item for which something was planned.
func (it *Item) refuse(err error, hint string) {
	it.Action, it.Outputs, it.NewKey = ActionNone, nil, false
	it.fail(err, hint)
}
