package spec

import (
	"io/fs"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"unicode"

	"gopkg.in/yaml.v3"
)

// forms lists the forms in canonical order, which is that of outputs.
var forms = [...]Form{FormCertificate, FormChain, FormFullChain, FormPrivateKey, FormCA, FormCombined}

// The modes of outputs that state none.
const (
	publicMode  fs.FileMode = 0o644
	privateMode fs.FileMode = 0o600
)

// target is an output, or a directory set, as it is stated.
type target struct {
	path         string
	mode         fs.FileMode // 0: the default
	owner, group string
	pos          Position
}

func (d *loader) files(v value, c *draft) { filesTable.decode(d, v, c) }

// output returns the decoder of one key under files.
func output(form Form) func(*loader, value, *draft) {
	index := 0
	for forms[index] != form {
		index++
	}
	return func(d *loader, v value, c *draft) {
		t := d.target(v, form.HoldsKey())
		if t.path != "" && !d.isFile(v) {
			t.path = ""
		}
		c.files[index] = t
	}
}

func (d *loader) directory(v value, c *draft) {
	c.directory = d.target(v, true)
	if c.directory.path == "/" {
		d.problem(v, "must not be the root directory")
		c.directory.path = ""
	}
}

// target decodes a path, or a mapping with a path.
func (d *loader) target(v value, holdsKey bool) target {
	t := target{pos: v.pos()}
	if v.node.Kind != yaml.MappingNode {
		t.path = d.path(v)
		return t
	}
	targetTable.decode(d, v, &t)
	if mode, ok := peek(v, "mode"); ok {
		d.checkMode(mode, t.mode, holdsKey)
	}
	return t
}

// filePath is path for what cannot be a directory.
func (d *loader) filePath(v value) string {
	if p := d.path(v); p != "" && d.isFile(v) {
		return p
	}
	return ""
}

// isFile reports a path that cannot be that of a file.
func (d *loader) isFile(v value) bool {
	if p, ok := peek(v, "path"); ok {
		v = p
	}
	if s, _ := v.scope.interpolate(v.node.Value); strings.HasSuffix(s, "/") {
		d.problem(v, "must be the path of a file, ends in /")
		return false
	}
	return true
}

// path returns an absolute clean path; "" after reporting a problem.
func (d *loader) path(v value) string {
	s, ok := d.word(v)
	switch {
	case !ok:
		return ""
	case strings.ContainsFunc(s, unicode.IsControl):
		d.problem(v, "a path cannot hold control characters, is %q", shorten(s))
		return ""
	case s[0] == '~':
		d.hinted(v, "write ${env.HOME}, or ./~ for a name that starts so", "~ does not stand for a home directory, in %q", shorten(s))
		return ""
	}
	if name := shellVariable.FindString(v.node.Value); name != "" {
		d.warn(v, "%s is taken literally; write ${env.%s} for the environment variable", name, name[1:])
	}
	switch {
	case filepath.IsAbs(s):
		return filepath.Clean(s)
	}
	return filepath.Join(v.src.dir, s)
}

// shellVariable is what a shell would expand.
var shellVariable = regexp.MustCompile(`\$[A-Za-z_][A-Za-z0-9_]*`)

func (d *loader) mode(v value) fs.FileMode {
	const hint = `write mode: "0640"`
	if v.node.Kind == yaml.ScalarNode && (v.node.ShortTag() != "!!str") {
		d.hinted(v, hint, "a mode must be quoted, is %s", describe(v.node))
		return 0
	}
	s, ok := d.text(v)
	if !ok {
		return 0
	}
	n, err := strconv.ParseUint(s, 8, 32)
	if err != nil || len(s) < 3 || len(s) > 4 || n > 0o777 {
		d.hinted(v, hint, "a mode has three octal digits, is %q", shorten(s))
		return 0
	}
	if n&0o400 == 0 {
		d.problem(v, "the owner must be able to read the file")
		return 0
	}
	return fs.FileMode(n)
}

func (d *loader) checkMode(v value, mode fs.FileMode, holdsKey bool) {
	switch {
	case holdsKey && mode&0o007 != 0:
		d.hinted(v, `use "0600", or "0640" and a group`, "a private key must not be open to others")
	case holdsKey && mode&0o020 != 0:
		d.warn(v, "the group may write the private key")
	case !holdsKey && mode&0o002 != 0:
		d.warn(v, "everyone may write the file")
	}
}

func (d *loader) account(v value) string {
	s, ok := d.word(v)
	if ok && strings.ContainsAny(s, ": \t\n/\x00") {
		d.problem(v, "bad name %q of a user or group", shorten(s))
		return ""
	}
	return s
}

// finishOutputs makes the outputs of what the layers state, and checks that
// they are enough.
func (d *loader) finishOutputs(c *draft, whole value) {
	n := 0
	for i := range c.files {
		if c.files[i].path != "" {
			n++
		}
	}
	if c.directory.path != "" {
		n += 3
	}
	for i := range c.keystores {
		if c.keystores[i].path != "" {
			n++
		}
	}
	if c.kubeconfig != nil && c.kubeconfig.path != "" {
		n++
	}
	c.Outputs = make([]Output, 0, n)
	for i, form := range forms {
		if t := &c.files[i]; t.path != "" {
			c.Outputs = append(c.Outputs, t.output(form, "", t.path))
		}
	}
	if t := &c.directory; t.path != "" {
		for _, f := range []struct {
			form Form
			name string
		}{{FormFullChain, DirCertificate}, {FormPrivateKey, DirPrivateKey}, {FormCA, DirCA}} {
			o := t.output(f.form, t.path, filepath.Join(t.path, f.name))
			if !f.form.HoldsKey() {
				o.Mode = publicMode
			}
			c.Outputs = append(c.Outputs, o)
		}
	}
	for i, form := range keystoreForms {
		if t := &c.keystores[i]; t.path != "" {
			c.Outputs = append(c.Outputs, t.keystoreOutput(form, c.Name))
		}
	}
	d.finishKubeconfig(c, whole)
	d.finishObjects(c, whole)
	at := c.at("files", whole)
	// One that names files has told what it lacks.
	kubeconfig := c.states("kubeconfig")
	switch {
	case !kubeconfig && !c.states("files", "directory", "pkcs12", "jks", "secret", "configMap"):
		d.hinted(whole, "state files, directory, pkcs12, jks, kubeconfig or secret", "has no outputs")
		return
	case !kubeconfig && !c.states("files.certificate", "files.fullChain", "files.combined", "directory", "pkcs12", "jks", "secret", "configMap"):
		d.hinted(at, "state files.certificate, fullChain or combined", "the certificate has no output")
	}
	if !kubeconfig && !c.states("files.privateKey", "files.combined", "directory", "pkcs12", "jks", "secret") {
		d.hinted(at, "state files.privateKey or combined: nothing else keeps the key", "the private key has no output")
	}
}

func (t *target) output(form Form, dir, path string) Output {
	mode := t.mode
	if mode == 0 {
		mode = publicMode
		if form.HoldsKey() {
			mode = privateMode
		}
	}
	return Output{Form: form, Path: path, Dir: dir, Mode: mode, Owner: t.owner, Group: t.group, Pos: t.pos}
}
