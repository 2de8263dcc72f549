package spec

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// claim is what a path is used for: an output of a certificate, or, if there
// is no certificate, something else.
type claim struct {
	cert   *Certificate
	output int32
	other  string
}

// isSet tells a directory set from a file.
func (c claim) isSet() bool { return c.cert != nil && c.cert.Outputs[c.output].Dir != "" }

// field returns where in the spec the claim is made.
func (c claim) field() string {
	o := c.cert.Outputs[c.output]
	at := c.cert.ID.String()
	if c.cert.Kind == KindIssuer {
		at += ".ca"
	}
	field, _, _ := strings.Cut(o.Field(), "/")
	return at + "." + field
}

func (c claim) String() string {
	if c.cert == nil {
		return c.other
	}
	return fmt.Sprintf("%s (%s)", c.field(), c.cert.Outputs[c.output].Pos)
}

// path returns the path as the spec states it, absolute, or an object's name.
func (c claim) path() string {
	o := c.cert.Outputs[c.output]
	if o.Object != nil {
		return o.Object.String()
	}
	if o.Dir != "" {
		return o.Dir
	}
	return o.Path
}

// targets finds files that two outputs would write.
type targets struct {
	d      *loader
	claims map[string]claim // by resolved path
	inodes map[inode]claim  // of targets that have several names
	dirs   map[string]directoryState
	// objects are the claims on objects in clusters.
	objects map[objectID]claim
	// stateDir is absolute; empty if it is not known.
	stateDir string
	inside   map[string]claim // for a directory: the claim that it is or lies in
}

// directoryState is what is known about a directory.
type directoryState struct {
	resolved string // without symlinks, as far as it exists
	exists   bool
}

// checkTargets reports every path that is used twice: by name, through symbolic
// links or as another name of the same file, and those in the way of each other.
func (d *loader) checkTargets() {
	t := &targets{
		d:       d,
		claims:  make(map[string]claim, 2*len(d.spec.Certificates)),
		inodes:  map[inode]claim{},
		dirs:    map[string]directoryState{},
		objects: map[objectID]claim{},
		inside:  map[string]claim{},
	}
	for _, src := range d.spec.Sources {
		t.claim(src, claim{other: "a file of this spec"})
	}
	for path, pos := range d.passwordFiles {
		t.claim(path, claim{other: fmt.Sprintf("the password file stated at %s", pos)})
	}
	if d.stateDir != nil {
		if dir, err := filepath.Abs(d.stateDir(d.spec.Dir)); err == nil {
			t.claim(dir, claim{other: theStateDir})
			t.stateDir = dir
		}
	}
	t.each(func(c claim) { t.claim(c.path(), c) })
	t.each(t.checkInside)
	t.each(t.checkServerCA)
	t.eachObject(t.claimObject)
	if t.stateDir != "" {
		if outer, ok := t.containing(t.directory(filepath.Dir(t.stateDir)).resolved); ok && outer.cert != nil {
			t.problem(outer, "the state directory %s lies inside %s", t.stateDir, outer.path())
		}
	}
}

// theStateDir is what a claim says that is not on a file but on all below it.
const theStateDir = "the state directory"

// each calls f for every file, and once for every directory set.
func (t *targets) each(f func(claim)) {
	for cert := range t.d.spec.All() {
		set := false
		for i, o := range cert.Outputs {
			if o.Object != nil {
				continue
			}
			if o.Dir != "" {
				if set {
					continue
				}
				set = true
			}
			f(claim{cert: cert, output: int32(i)})
		}
	}
}

// eachObject calls f once for every object in a cluster.
func (t *targets) eachObject(f func(claim)) {
	for cert := range t.d.spec.All() {
		for i, o := range cert.Outputs {
			if o.Object != nil && (i == 0 || cert.Outputs[i-1].Object != o.Object) {
				f(claim{cert: cert, output: int32(i)})
			}
		}
	}
}

// resolved returns a path without symbolic links, as far as it exists.
func (t *targets) resolved(path string) string {
	if path == "" {
		return ""
	}
	if resolved, err := filepath.EvalSymlinks(path); err == nil {
		return resolved
	}
	return filepath.Join(t.directory(filepath.Dir(path)).resolved, filepath.Base(path))
}

// claim takes a path, by all its names.
func (t *targets) claim(path string, c claim) {
	dir := t.directory(filepath.Dir(path))
	name := path
	if parent := filepath.Dir(path); dir.resolved != parent {
		name = filepath.Join(dir.resolved, filepath.Base(path))
	}
	if !t.take(name, c) || !dir.exists {
		return
	}
	info, err := os.Lstat(name)
	switch {
	case err != nil:
	case info.Mode()&os.ModeSymlink != 0:
		if resolved, err := filepath.EvalSymlinks(name); err == nil {
			t.take(resolved, c)
		}
	case info.Mode().IsRegular():
		id, links := identity(info)
		if links < 2 {
			return
		}
		if first, twice := t.inodes[id]; twice {
			t.conflict(c, first)
			return
		}
		t.inodes[id] = c
	}
}

// take registers one name, and tells whether it was free.
func (t *targets) take(name string, c claim) bool {
	first, twice := t.claims[name]
	if twice {
		t.conflict(c, first)
		return false
	}
	t.claims[name] = c
	return true
}

func (t *targets) conflict(c, first claim) {
	if c.cert == nil { // two that are only read
		return
	}
	if first.cert != nil && first.path() != c.path() {
		t.problem(c, "%s is the same file as %s, the target of %s", c.path(), first.path(), first)
		return
	}
	if first.cert == nil {
		t.problem(c, "%s is %s", c.path(), first)
		return
	}
	t.problem(c, "%s is also the target of %s", c.path(), first)
}

func (t *targets) problem(c claim, format string, args ...any) {
	t.d.problems = append(t.d.problems, Problem{
		Pos: c.cert.Outputs[c.output].Pos, Path: c.field(), Message: fmt.Sprintf(format, args...)})
}

// directory resolves a directory, as far as it exists.
func (t *targets) directory(path string) directoryState {
	if s, ok := t.dirs[path]; ok {
		return s
	}
	s := directoryState{resolved: path, exists: true}
	if parent := filepath.Dir(path); parent != path {
		above := t.directory(parent)
		if above.resolved != parent {
			s.resolved = filepath.Join(above.resolved, filepath.Base(path))
		}
		s.exists = false
		if above.exists {
			if info, err := os.Lstat(s.resolved); err == nil {
				s.exists = true
				if info.Mode()&os.ModeSymlink != 0 {
					if resolved, err := filepath.EvalSymlinks(s.resolved); err == nil {
						s.resolved = resolved
					}
				}
			}
		}
	}
	t.dirs[path] = s
	return s
}

// checkInside reports a target that lies in another one's directory.
func (t *targets) checkInside(c claim) {
	outer, ok := t.containing(t.directory(filepath.Dir(c.path())).resolved)
	switch {
	case ok && outer.other == theStateDir:
		t.problem(c, "%s lies inside the state directory %s", c.path(), t.stateDir)
	case !ok || outer.cert == nil:
	case outer.cert == c.cert && outer.output == c.output:
	case outer.isSet():
		t.problem(c, "%s lies inside %s, the directory set of %s", c.path(), outer.path(), outer)
	default:
		t.problem(c, "%s needs %s to be a directory, but that is the target of %s", c.path(), outer.path(), outer)
	}
}

// containing returns the claim on a directory or on one of those above it.
func (t *targets) containing(dir string) (claim, bool) {
	if c, ok := t.inside[dir]; ok {
		return c, c != claim{}
	}
	c, ok := t.claims[dir]
	if parent := filepath.Dir(dir); !ok && parent != dir {
		c, ok = t.containing(parent)
	}
	t.inside[dir] = c
	return c, ok
}

// checkServerCA finds the issuer whose certificate a kubeconfig takes for the CA of
// its server. An output that is something else cannot be meant.
func (t *targets) checkServerCA(c claim) {
	k := c.cert.Outputs[c.output].Kubeconfig
	if k == nil || k.CA == "" {
		return
	}
	name := filepath.Join(t.directory(filepath.Dir(k.CA)).resolved, filepath.Base(k.CA))
	of, ok := t.claims[name]
	if !ok {
		of, ok = t.claims[filepath.Dir(name)]
	}
	if !ok {
		resolved, err := filepath.EvalSymlinks(name)
		if err != nil || resolved == name {
			return
		}
		name = resolved
		// The files of a directory set are links into a directory inside it.
		if of, ok = t.claims[name]; !ok {
			of, ok = t.containing(filepath.Dir(name))
		}
	}
	if !ok || t.claims[name] != of && !of.isSet() {
		return // outside, or below what is no set
	}
	if of.cert != nil {
		switch form := of.cert.Outputs[of.output].Form; {
		case of.isSet() && filepath.Base(name) != DirCA:
		case form == FormCertificate && of.cert.CA != nil:
			k.CAIssuer = of.cert.Name
			return
		case form == FormCA, of.isSet():
			k.CAIssuer = t.rootOf(of.cert)
			return
		}
	}
	t.d.problems = append(t.d.problems, Problem{Pos: c.cert.Outputs[c.output].Pos, Path: c.field() + ".ca",
		Message: fmt.Sprintf("%s does not hold the certificate of a CA: it is %s", k.CA, of)})
}

// rootOf returns the name of the root above a certificate.
func (t *targets) rootOf(c *Certificate) string {
	for c.Issuer != "" {
		is := t.d.issuerByName[c.Issuer]
		if is == nil || is.result == nil || is.result.CA == nil {
			return ""
		}
		c = is.result.CA
	}
	return c.Name
}
