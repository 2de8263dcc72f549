package spec

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestOneFileByTwoNames is about two outputs that overwrite each other for
// ever, as in cert-manager issues 4846 and 6992.
func TestOneFileByTwoNames(t *testing.T) {
	dir := write(t, map[string]string{"real/a.pem": "x", "other/hard.pem": "", "versions/1/tls.crt": ""})
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.Symlink("real", filepath.Join(dir, "link")))
	must(os.Symlink("../real/a.pem", filepath.Join(dir, "other", "soft.pem")))
	must(os.Remove(filepath.Join(dir, "other", "hard.pem")))
	must(os.Link(filepath.Join(dir, "real", "a.pem"), filepath.Join(dir, "other", "hard.pem")))
	must(os.Symlink("versions/1", filepath.Join(dir, "set")))
	must(os.Symlink("set", filepath.Join(dir, "alias")))
	must(os.Symlink("nowhere", filepath.Join(dir, "dangling")))
	must(os.Symlink("loop", filepath.Join(dir, "loop")))

	for _, test := range []struct{ name, first, second, want string }{
		{"same path", "files: {combined: real/a.pem}", "files: {combined: link/../real/a.pem}", "is also the target of certificates.one.files.combined"},
		{"through a directory", "files: {combined: real/a.pem}", "files: {combined: link/a.pem}", "is the same file as " + dir + "/real/a.pem"},
		{"of a file that does not exist", "files: {combined: real/new/x}", "files: {combined: link/new/x}", "is the same file as"},
		{"symbolic link", "files: {combined: real/a.pem}", "files: {combined: other/soft.pem}", "is the same file as"},
		{"symbolic link first", "files: {combined: other/soft.pem}", "files: {combined: link/a.pem}", "is the same file as"},
		{"hard link", "files: {combined: real/a.pem}", "files: {combined: other/hard.pem}", "is the same file as"},
		{"set", "directory: set", "directory: alias", "is the same file as"},
		{"file in a set", "directory: set", "files: {combined: set/x.pem}", "lies inside"},
		{"file where a set's link points", "directory: set", "files: {combined: versions/1/x.pem}", "lies inside"},
		{"set in a set", "directory: set/inner", "directory: set", "certificates.one.directory: "},
		{"no conflict", "directory: set", "files: {combined: versions/x.pem, ca: dangling/x, chain: loop/x, fullChain: loop2}", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			name := filepath.Join(dir, "spec.yaml")
			must(os.WriteFile(name, []byte("apiVersion: certsync/v1\n"+rootCA+
				"defaults: {issuer: root, commonName: x}\ncertificates:\n  one: {"+test.first+"}\n  two: {"+test.second+"}\n"), 0o644))
			_, err := Load([]string{name}, Options{})
			switch {
			case test.want == "" && err != nil:
				t.Error(err)
			case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
				t.Errorf("error %v, want %q", err, test.want)
			case test.want != "" && strings.Contains(err.Error(), "\n"):
				t.Errorf("more than one problem: %v", err)
			}
		})
	}
}

func TestTargetIsASource(t *testing.T) {
	dir := write(t, map[string]string{"spec.yaml": "apiVersion: certsync/v1\n" +
		"issuers: {root: {ca: {commonName: root, files: {combined: link.yaml}}}}\n"})
	if err := os.Symlink("spec.yaml", filepath.Join(dir, "link.yaml")); err != nil {
		t.Fatal(err)
	}
	_, err := Load([]string{filepath.Join(dir, "spec.yaml")}, Options{})
	if err == nil || !strings.Contains(err.Error(), "link.yaml is a file of this spec") {
		t.Errorf("error %v", err)
	}
}

func TestTargetInTheStateDirectory(t *testing.T) {
	dir := write(t, map[string]string{"state/lock": "", "spec.yaml": ""})
	if err := os.Symlink("state", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ state, output, want string }{
		{"state", "files: {combined: state/lock}", "certificates.one.files.combined: " + dir + "/state/lock lies inside the state directory " + dir + "/state"},
		{"state", "files: {combined: x/../state/records/deep/x.pem}", "lies inside the state directory"},
		{"state", "files: {combined: link/x.pem}", "lies inside the state directory"},
		{"link", "files: {combined: state/x.pem}", "lies inside the state directory"},
		{"link", "files: {combined: link/x.pem}", "lies inside the state directory"},
		{"new", "files: {combined: new/sub/x.pem}", "lies inside the state directory"},
		{"state", "directory: state", "state is the state directory"},
		{"state", "files: {combined: link}", "link is the state directory"},
		{"state", "directory: state/set", "lies inside the state directory"},
		{"new/state", "directory: new", "the state directory " + dir + "/new/state lies inside " + dir + "/new"},
		{"state", "files: {combined: state.pem}", ""},
		{"", "files: {combined: state/lock}", ""},
	} {
		text := "apiVersion: certsync/v1\n" + rootCA + "certificates:\n  one: {issuer: root, commonName: x, " + test.output + "}\n"
		if err := os.WriteFile(filepath.Join(dir, "spec.yaml"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		var opt Options
		if test.state != "" {
			opt.StateDir = func(specDir string) string { return filepath.Join(specDir, test.state) }
		}
		_, err := Load([]string{filepath.Join(dir, "spec.yaml")}, opt)
		switch {
		case test.want == "" && err != nil:
			t.Errorf("%s, state in %q: %v", test.output, test.state, err)
		case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "\n")):
			t.Errorf("%s, state in %q: error %v, want %q", test.output, test.state, err, test.want)
		}
	}
}
