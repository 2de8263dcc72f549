package spec

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// keystoreForms are the forms of keystores in canonical order, after those of files.
var keystoreForms = [...]Form{FormPKCS12, FormJKS}

var profiles = []Profile{ProfileModern2023, ProfileModern2026, ProfileLegacyDES, ProfileLegacyRC2, ProfilePasswordless}

// keystoreTarget is a keystore as it is stated.
type keystoreTarget struct {
	target
	Keystore
}

func (d *loader) pkcs12(v value, c *draft) {
	t := keystoreTarget{Keystore: Keystore{Profile: ProfileModern2023}}
	pkcs12Table.decode(d, v, &t)
	d.keystore(v, &t)
	c.keystores[0] = t
}

func (d *loader) jks(v value, c *draft) {
	var t keystoreTarget
	jksTable.decode(d, v, &t)
	d.keystore(v, &t)
	c.keystores[1] = t
}

// keystore makes the checks that need more than one field.
func (d *loader) keystore(v value, t *keystoreTarget) {
	t.pos = v.pos()
	if mode, ok := peek(v, "mode"); ok {
		d.checkMode(mode, t.mode, true)
	}
	_, path := peek(v, "path")
	d.keystorePasswords(v, t.Profile, path)
}

// keystorePasswords checks that a keystore has the password that it needs, if it
// was stated well enough otherwise.
func (d *loader) keystorePasswords(v value, profile Profile, whole bool) {
	_, file := peek(v, "passwordFile")
	_, env := peek(v, "passwordEnv")
	_, literal := peek(v, "password")
	switch passwordless := profile == ProfilePasswordless; {
	case file && env:
		d.problem(v, "state one of passwordFile and passwordEnv")
	case passwordless && (file || env):
		d.problem(v, "the profile %s goes without a password", ProfilePasswordless)
	case !passwordless && !file && !env && !literal && whole:
		d.hinted(v, "state passwordFile or passwordEnv", "a keystore needs a password")
	}
}

func (d *loader) keystorePasswordFile(v value, t *keystoreTarget) {
	if path := d.path(v); path != "" {
		if _, ok := d.passwordFiles[path]; !ok {
			d.passwordFiles[path] = v.pos()
		}
		t.Password = &SecretRef{File: path}
	}
}

func (d *loader) keystorePasswordEnv(v value, t *keystoreTarget) {
	if name, ok := d.variable(v); ok {
		t.Password = &SecretRef{Env: name}
	}
}

// variable decodes the name of an environment variable.
func (d *loader) variable(v value) (string, bool) {
	name, ok := d.word(v)
	if ok && strings.ContainsAny(name, "=\x00 ") {
		d.problem(v, "bad name of an environment variable %q", shorten(name))
		return "", false
	}
	return name, ok
}

// maxEntryName is how long the name of an entry in an output may be, in characters.
const maxEntryName = 200

func (d *loader) alias(v value) string { return d.entryName(v, "an alias") }

// entryName decodes the name of something inside an output; what says of what.
func (d *loader) entryName(v value, what string) string {
	s, ok := d.word(v)
	switch {
	case !ok:
		return ""
	case utf8.RuneCountInString(s) > maxEntryName:
		d.problem(v, "%s has at most %d characters", what, maxEntryName)
		return ""
	case strings.ContainsFunc(s, unicode.IsControl):
		d.problem(v, "%s cannot hold control characters", what)
		return ""
	}
	return s
}

// keystoreOutput returns the output that is stated; name is its alias by default.
func (t *keystoreTarget) keystoreOutput(form Form, name string) Output {
	o := t.target.output(form, "", t.path)
	k := t.Keystore
	if k.Alias == "" {
		k.Alias = name
	}
	o.Keystore = &k
	return o
}
