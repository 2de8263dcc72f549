package reconcile

import (
	"fmt"
	"path"
	"slices"

	"github.com/certsync/certsync/spec"
)

// selects tells whether globs match a certificate; none match all.
func selects(globs []string, id spec.ID) bool { return len(globs) == 0 || matches(globs, id) }

func matches(globs []string, id spec.ID) bool {
	for _, g := range globs {
		if g == id.Name || g == id.String() {
			return true
		}
		if ok, _ := path.Match(g, id.Name); ok {
			return true
		}
		if ok, _ := path.Match(g, id.String()); ok {
			return true
		}
	}
	return false
}

// checkNames makes sure that every glob of the options matches something.
func checkNames(sp *spec.Spec, s *State, o Options) error {
	known := func(glob string) bool {
		for c := range sp.All() {
			if matches([]string{glob}, c.ID) {
				return true
			}
		}
		return false
	}
	for _, glob := range append(slices.Clone(o.Names), o.Replace...) {
		if _, err := path.Match(glob, ""); err != nil {
			return fmt.Errorf("name %q: %w", glob, err)
		}
	}
	for _, glob := range o.Names {
		orphaned := slices.ContainsFunc(s.orphans, func(f orphan) bool { return matches([]string{glob}, f.id) })
		if !known(glob) && !orphaned {
			return fmt.Errorf("no certificate or issuer is named %q", glob)
		}
	}
	for _, glob := range o.Replace {
		if !known(glob) {
			return fmt.Errorf("cannot replace %q: no certificate or issuer has that name", glob)
		}
		if !anySelected(sp, o.Names, glob) {
			return fmt.Errorf("cannot replace %q: the names given leave it out", glob)
		}
	}
	return nil
}

// anySelected tells whether the names let anything through that the glob matches.
func anySelected(sp *spec.Spec, names []string, glob string) bool {
	for c := range sp.All() {
		if matches([]string{glob}, c.ID) && selects(names, c.ID) {
			return true
		}
	}
	return false
}
