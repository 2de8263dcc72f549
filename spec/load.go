package spec

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

// Options are what a spec gets from outside its files.
type Options struct {
	// Set overrides variables; each must be declared under vars.
	Set map[string]string
	// LookupEnv resolves ${env.NAME}; nil is os.LookupEnv.
	LookupEnv func(name string) (string, bool)
	// Host resolves ${host.name} (without a domain), ${host.fqdn} and
	// ${host.ip}: part is name, fqdn or ip. Nil asks the operating system. It is
	// called only for a part that a spec uses.
	Host func(part string) (string, error)
	// StateDir, if set, returns the state directory for a spec whose first file
	// is in dir; nothing may be written there.
	StateDir func(dir string) string
}

// Load reads the files, and the *.yaml and *.yml files of the directories, that
// paths name and returns the spec that they are together. A spec that is wrong
// gives Problems, all that there are; a file that cannot be read another error.
func Load(paths []string, opt Options) (*Spec, error) {
	d, err := load(paths, opt, false)
	if errors.Is(err, errWhole) {
		d, err = load(paths, opt, true)
	}
	if err != nil {
		return nil, err
	}
	return d.spec, nil
}

// errWhole says that a file must be parsed as a whole.
var errWhole = errors.New("cannot be parsed in parts")

func load(paths []string, opt Options, whole bool) (*loader, error) {
	files, err := sourceFiles(paths)
	if err != nil {
		return nil, err
	}
	d := newLoader(opt)
	d.whole = whole
	for _, src := range files {
		content, err := d.read(src)
		if err != nil {
			return nil, err
		}
		d.add(src, content)
	}
	return d, d.resolve(opt.Set)
}

// add merges what a file states into the sections.
func (d *loader) add(src *source, content []byte) {
	if len(d.spec.Sources) == 0 {
		d.spec.Dir, d.first = src.dir, src.file
	}
	src.abs = filepath.Join(src.dir, filepath.Base(src.file))
	d.spec.Sources = append(d.spec.Sources, src.abs)
	if !d.addParts(src, content) {
		d.documents(src, content, func(root value) { specTable.decode(d, root, d) })
	}
}

// resolve makes the spec of the sections.
func (d *loader) resolve(set map[string]string) error {
	d.loadVars(set)
	d.loadLayers()
	d.loadClusters()
	d.loadIssuers()
	if !d.loadCertificates() {
		return errWhole
	}
	d.checkTargets()
	if len(d.problems) == 0 && len(d.spec.Issuers)+len(d.spec.Certificates) == 0 {
		d.problems = append(d.problems, Problem{Pos: Position{File: d.first},
			Message: "the spec is empty", Hint: "state issuers and certificates"})
	}
	if len(d.problems) > 0 {
		return Problems(sortProblems(d.problems))
	}
	d.spec.Warnings = sortProblems(d.warnings)
	return nil
}

// loader is one run of Load. Its steps follow the references: variables, then
// layers, issuers, and certificates last, one at a time.
type loader struct {
	spec     *Spec
	first    string // file, as the user named it
	problems []Problem
	warnings []Problem

	stateDir func(dir string) string

	env  *environment
	root *scope // outside certificates

	// What the documents state, merged by name.
	vars, defaults, profiles, clusters, issuers *section
	certificates                                []batch
	whole                                       bool // parse files as a whole

	defaultLayer layerDef
	profileDefs  map[string]layerDef
	templates    map[string]*draft
	issuerByName map[string]*issuer
	usageSets    map[uint32][]Usage

	passwordFiles map[string]Position

	size, visits  int
	declaredCount int // of certificates, with forEach
	full          bool
}

func newLoader(opt Options) *loader {
	env := &environment{lookupEnv: opt.LookupEnv, host: opt.Host, hostCache: map[string]string{}}
	if env.lookupEnv == nil {
		env.lookupEnv = os.LookupEnv
	}
	if env.host == nil {
		env.host = thisHost
	}
	return &loader{
		spec:     &Spec{index: map[ID]*Certificate{}},
		stateDir: opt.StateDir,
		env:      env,
		root:     &scope{env: env},
		vars:     newSection(), defaults: newSection(), profiles: newSection(), clusters: newSection(), issuers: newSection(),
		profileDefs:   map[string]layerDef{},
		templates:     map[string]*draft{},
		issuerByName:  map[string]*issuer{},
		usageSets:     map[uint32][]Usage{},
		passwordFiles: map[string]Position{},
	}
}

// section is a top-level mapping, merged from all documents.
type section struct {
	list   []entry
	byName map[string]int
}

func newSection() *section { return &section{byName: map[string]int{}} }

func (s *section) get(name string) (entry, bool) {
	i, ok := s.byName[name]
	if !ok {
		return entry{}, false
	}
	return s.list[i], true
}

// collect adds the entries of one document's section.
func (d *loader) collect(v value, into *section) {
	if v.isNull() {
		return
	}
	entries, _ := d.entries(v)
	for _, e := range entries {
		if first, twice := into.get(e.name); twice {
			d.problem(e.key, "is already stated at %s", first.key.pos())
			continue
		}
		into.byName[e.name] = len(into.list)
		into.list = append(into.list, e)
	}
}

func (d *loader) apiVersion(v value) {
	if s, ok := d.text(v); ok && s != APIVersion {
		d.problem(v, "version %q is not supported; this version reads %s", s, APIVersion)
	}
}

func (d *loader) loadVars(set map[string]string) {
	vars := map[string]string{}
	for _, e := range d.vars.list {
		if !d.checkName(e.key, e.name) {
			continue
		}
		if s, ok := set[e.name]; ok {
			vars[e.name] = s
		} else if s, ok := d.scalar(e.value); ok {
			vars[e.name] = s
		} else {
			vars[e.name] = "" // reported; its uses are not wrong
		}
	}
	d.env.vars = vars
	for _, name := range slices.Sorted(maps.Keys(set)) {
		if _, ok := d.vars.byName[name]; !ok {
			d.problems = append(d.problems, Problem{Path: "vars." + name, Message: fmt.Sprintf(
				"--set names a variable that the spec does not declare%s", didYouMean(name, slices.Sorted(maps.Keys(vars))))})
		}
	}
}

// scalar returns a scalar of any kind as it is written, interpolated.
func (d *loader) scalar(v value) (string, bool) {
	if v.node.Kind == yaml.ScalarNode && v.node.ShortTag() == "!!bool" {
		return v.node.Value, true
	}
	return d.text(v)
}

// layerDef is defaults or a profile, as it is stated.
type layerDef struct {
	entries []entry
	// perCertificate tells that the fields differ between certificates, so that
	// they are read for each.
	perCertificate bool
}

func (d *loader) loadLayers() {
	d.defaultLayer = d.layerDef(d.defaults.list, defaultsTable)
	for _, e := range d.profiles.list {
		if !d.checkName(e.key, e.name) {
			continue
		}
		entries, _ := d.entries(e.value)
		d.profileDefs[e.name] = d.layerDef(entries, profileTable)
	}
}

// layerDef checks a layer, used or not, as far as it does not need a
// certificate for that.
func (d *loader) layerDef(entries []entry, t *table[*draft]) layerDef {
	def := layerDef{entries: entries}
	var fixed []entry
	for _, e := range entries {
		if d.perCertificate(e.value.node, 0) {
			def.perCertificate = true
		} else {
			fixed = append(fixed, e)
		}
	}
	scratch := newDraft()
	scratch.layer = profileLayer
	t.decodeEntries(d, fixed, scratch)
	return def
}

var nameRE = regexp.MustCompile(namePattern)

// maxName bounds names: records on disk are called after them.
const maxName = 200

func (d *loader) checkName(v value, name string) bool {
	switch {
	case len(name) > maxName:
		d.problem(v, "the name is longer than %d characters", maxName)
	case !nameRE.MatchString(name):
		d.problem(v, "bad name %q: a name has letters, digits, '.', '_' and '-', and starts with a letter or a digit",
			shorten(name))
	default:
		return true
	}
	return false
}

func shorten(s string) string {
	if len(s) > 80 {
		return strings.ToValidUTF8(s[:80], "") + "…"
	}
	return s
}
