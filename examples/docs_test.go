package examples

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/certsync/certsync/spec"
)

// documents returns the public Markdown files.
func documents(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("*/README.md")
	if err != nil {
		t.Fatal(err)
	}
	files = append(files, "../README.md", "../CHANGELOG.md", "../CONTRIBUTING.md")
	err = filepath.WalkDir("../docs", func(path string, _ fs.DirEntry, err error) error {
		if filepath.Ext(path) == ".md" {
			files = append(files, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

var row = regexp.MustCompile("(?m)^\\| `([A-Za-z0-9.*]+)` \\|")

// TestReferenceNamesEveryField compares the reference of the spec with the fields
// that the loader knows: each has a row, and no row is about another one.
func TestReferenceNamesEveryField(t *testing.T) {
	text := read(t, "../docs/guide/reference-spec.md")
	var documented []string
	for _, m := range row.FindAllStringSubmatch(text, -1) {
		documented = append(documented, m[1])
	}
	known := map[string]bool{}
	for _, f := range spec.Fields() {
		name := rowOf(f.Path)
		known[name] = true
		if !slices.Contains(documented, name) {
			t.Errorf("the reference has no row for %s, as %s", f.Path, name)
		}
	}
	for _, name := range documented {
		if !known[name] {
			t.Errorf("the reference has a row for %s, which is no field", name)
		}
	}
	for _, u := range spec.Usages {
		if !strings.Contains(text, "`"+string(u)+"`") {
			t.Errorf("the reference does not name the usage %q", u)
		}
	}
}

// rowOf returns how the reference names a field: the fields of certificates, CAs,
// profiles and defaults, and those of similar mappings, have one row each.
func rowOf(path string) string {
	for _, place := range []string{"defaults.", "profiles.*.", "issuers.*.ca.", "certificates.*."} {
		path = strings.TrimPrefix(path, place)
	}
	parts := strings.Split(path, ".")
	if len(parts) == 3 && (parts[0] == "files" || parts[0] == "nameConstraints") {
		parts[1] = "*"
	}
	return strings.Join(parts, ".")
}

// TestReferenceNamesEveryCommand compares the reference of commands with help.
func TestReferenceNamesEveryCommand(t *testing.T) {
	text := read(t, "../docs/guide/reference-commands.md")
	_, list, _ := strings.Cut(mustRun(t, ".", certsync, "--help"), "Available Commands:\n")
	list, _, _ = strings.Cut(list, "\n\n")
	for line := range strings.Lines(list) {
		name := strings.Fields(line)[0]
		if name != "help" && !strings.Contains(text, "| `"+name) {
			t.Errorf("the reference does not name the command %s", name)
		}
	}
}

var (
	link     = regexp.MustCompile(`\]\(([^)]+)\)`)
	yamlCode = regexp.MustCompile("(?s)```yaml\n(apiVersion:.*?)```")
)

// TestDocumentsHold checks that links lead somewhere, and that every complete spec
// in the documents is valid.
func TestDocumentsHold(t *testing.T) {
	for _, doc := range documents(t) {
		text := read(t, doc)
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			target, _, _ := strings.Cut(m[1], "#")
			if target == "" || strings.Contains(target, "://") {
				continue
			}
			if _, err := os.Stat(filepath.Join(filepath.Dir(doc), target)); err != nil {
				t.Errorf("%s: the link to %s leads nowhere", doc, m[1])
			}
		}
		for _, m := range yamlCode.FindAllStringSubmatch(text, -1) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "certsync.yaml"), []byte(m[1]), 0o600); err != nil {
				t.Fatal(err)
			}
			if out, err := command(dir, certsync, "validate"); err != nil || strings.Contains(out, "warning") {
				t.Errorf("%s: a spec in it is not valid:\n%s\n%s", doc, m[1], out)
			}
		}
	}
}
