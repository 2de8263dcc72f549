package spec

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

const rootCA = "issuers: {root: {ca: {commonName: root, files: {certificate: root.crt, privateKey: root.key}}}}\n"

// write makes files in a new directory and returns it.
func write(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func leafDoc(name string) string {
	return fmt.Sprintf("apiVersion: certsync/v1\ncertificates: {%s: {issuer: root, commonName: x, files: {combined: %[1]s.pem}}}\n", name)
}

func TestLoadDirectory(t *testing.T) {
	dir := write(t, map[string]string{
		"b.yaml":         leafDoc("b"),
		"a.yml":          "apiVersion: certsync/v1\n" + rootCA,
		".hidden.yaml":   "not: read",
		"c.yaml.bak":     "not: read",
		"sub/d.yaml":     "not: read",
		"dir.yaml/x.txt": "",
	})
	s, err := Load([]string{dir, filepath.Join(dir, "b.yaml")}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{filepath.Join(dir, "a.yml"), filepath.Join(dir, "b.yaml")}; !slices.Equal(s.Sources, want) || s.Dir != dir {
		t.Errorf("sources %v in %s, want %v", s.Sources, s.Dir, want)
	}
	c := s.Find(ID{KindCertificate, "b"})
	if c == nil || c.Outputs[0].Path != filepath.Join(dir, "b.pem") {
		t.Errorf("certificate b is %+v", c)
	}
	if c.Pos.String() != filepath.Join(dir, "b.yaml")+":2:16" {
		t.Errorf("b is at %s", c.Pos)
	}
	if s.Issuer("root") == nil || s.Issuer("b") != nil || s.Find(ID{KindIssuer, "root"}) != s.Issuer("root").CA {
		t.Error("issuers are not found")
	}
}

func TestPathsStartAtTheFileThatStatesThem(t *testing.T) {
	dir := write(t, map[string]string{
		"base/base.yaml":   "apiVersion: certsync/v1\ndefaults: {issuer: root, files: {privateKey: \"${certificate.name}.key\"}}\n" + rootCA,
		"leaves/leaf.yaml": "apiVersion: certsync/v1\ncertificates: {a: {commonName: a, files: {certificate: ../a.crt}}}\n",
	})
	s, err := Load([]string{filepath.Join(dir, "base"), filepath.Join(dir, "leaves", "leaf.yaml")}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	outputs := s.Certificates[0].Outputs
	if outputs[0].Path != filepath.Join(dir, "a.crt") || outputs[1].Path != filepath.Join(dir, "base", "a.key") {
		t.Errorf("outputs are %v", outputs)
	}
}

func TestLoadDuplicatesAcrossFiles(t *testing.T) {
	dir := write(t, map[string]string{
		"a.yaml": leafDoc("x") + "defaults: {duration: 1d}\n" + rootCA,
		"b.yaml": leafDoc("x") + "defaults: {duration: 2d}\n",
	})
	_, err := Load([]string{dir}, Options{})
	want := fmt.Sprintf(`%[1]s/b.yaml:2:16: certificates.x: is already stated at %[1]s/a.yaml:2:16
%[1]s/b.yaml:3:12: defaults.duration: is already stated at %[1]s/a.yaml:3:12`, dir)
	if err == nil || err.Error() != want {
		t.Errorf("error:\n%v\nwant:\n%s", err, want)
	}
}

func TestLoadUnreadable(t *testing.T) {
	dir := write(t, map[string]string{"empty/x.txt": ""})
	missing := filepath.Join(dir, "missing.yaml")
	_, err := Load([]string{missing}, Options{})
	if !errors.Is(err, fs.ErrNotExist) || err.Error() != "read spec "+missing+": no such file or directory" {
		t.Errorf("missing file: %v", err)
	}
	if _, err := Load([]string{filepath.Join(dir, "empty")}, Options{}); err == nil || !strings.Contains(err.Error(), "no *.yaml or *.yml file") {
		t.Errorf("empty directory: %v", err)
	}
	if _, err := Load(nil, Options{}); err == nil {
		t.Error("no path is no error")
	}
}

func TestLoadForbidden(t *testing.T) {
	if os.Getuid() == 0 { // who may read everything: become nobody
		dir := t.TempDir()
		exe := filepath.Join(dir, "test")
		data, err := os.ReadFile(os.Args[0])
		if err == nil {
			err = errors.Join(os.WriteFile(exe, data, 0o755), os.Chmod(dir, 0o755), os.Chmod(filepath.Dir(dir), 0o755))
		}
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(exe, "-test.run=^TestLoadForbidden$")
		cmd.Dir = "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	secret := filepath.Join(write(t, map[string]string{"secret.yaml": "x"}), "secret.yaml")
	if err := os.Chmod(secret, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := Load([]string{secret}, Options{}); !errors.Is(err, fs.ErrPermission) || err.Error() != "read spec "+secret+": permission denied" {
		t.Errorf("unreadable file: %v", err)
	}
}

func TestSet(t *testing.T) {
	dir := write(t, map[string]string{"a.yaml": "vars: {domain: \"${env.NOT_SET_AT_ALL}\"}\n" + leafDoc("a") + rootCA})
	opt := fixed()
	opt.Set = map[string]string{"domain": "${vars.x}", "domian": "x"}
	_, err := Load([]string{dir}, opt)
	if err == nil || !strings.Contains(err.Error(), `vars.domian: --set names a variable that the spec does not declare; did you mean "domain"?`) {
		t.Errorf("error %v", err)
	}
	dir = write(t, map[string]string{"a.yaml": "vars: {cn: \"${env.NOT_SET_AT_ALL}\"}\napiVersion: certsync/v1\n" + rootCA +
		"certificates: {a: {issuer: root, commonName: \"${vars.cn}\", files: {combined: a.pem}}}"})
	opt.Set = map[string]string{"cn": "${vars.x}"}
	s, err := Load([]string{dir}, opt)
	if err != nil || s.Certificates[0].CommonName != "${vars.x}" {
		t.Errorf("an overridden variable is not taken as it is: %v", err)
	}
}

func TestFileTooLarge(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "big.yaml")
	if err := os.WriteFile(name, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(name, maxFileSize+1); err != nil {
		t.Fatal(err)
	}
	_, err := Load([]string{name}, Options{})
	var p Problem
	if !errors.As(err, &p) || !strings.Contains(err.Error(), "64 MiB in one file") {
		t.Errorf("error %v", err)
	}
}

// An alias is expanded wherever it stands; what that may cost is limited.
func TestAliasesAreBounded(t *testing.T) {
	defer func(was int) { maxExpansion = was }(maxExpansion)
	maxExpansion = 100_000
	names := strings.Repeat("a.example.com, ", 4000)
	var b strings.Builder
	fmt.Fprintf(&b, "apiVersion: certsync/v1\n%svars: {}\ncertificates:\n  a: {issuer: root, dnsNames: &names [%s], files: {combined: a.pem}}\n", rootCA, names)
	b.WriteString("  \"x-${each.key}\": {forEach: [")
	for i := range 100 {
		fmt.Fprintf(&b, "%d, ", i)
	}
	b.WriteString("], issuer: root, dnsNames: *names, files: {combined: \"${each.key}.pem\"}}\n")
	dir := write(t, map[string]string{"a.yaml": b.String()})
	_, err := Load([]string{dir}, Options{})
	if err == nil || !strings.Contains(err.Error(), "the spec expands to more than") {
		t.Errorf("error %v", err)
	}
}

func TestCyclicAlias(t *testing.T) {
	for _, text := range []string{
		"a: &a [*a]\n",
		"apiVersion: certsync/v1\ncertificates: &a {a: *a}\n",
		"apiVersion: certsync/v1\ndefaults: {subject: &a {countries: *a}, dnsNames: &b [*b, \"${each.key}\"]}\n",
		"&a {certificates: *a, apiVersion: certsync/v1}",
	} {
		dir := write(t, map[string]string{"a.yaml": text})
		if _, err := Load([]string{dir}, Options{}); err == nil {
			t.Errorf("no error for %s", text)
		}
	}
}

// TestCostIsLinear compares the allocations for N and 2N certificates:
// yaml.v3's own decoding would be quadratic.
func TestCostIsLinear(t *testing.T) {
	const n = 3000
	cost := func(n int) float64 {
		var b strings.Builder
		b.WriteString("apiVersion: certsync/v1\n" + rootCA + "certificates:\n")
		for i := range n {
			fmt.Fprintf(&b, "  c%d: {issuer: root, profile: server, dnsNames: [c%[1]d.example.com], files: {combined: c%[1]d.pem}}\n", i)
		}
		dir := write(t, map[string]string{"a.yaml": b.String()})
		visits := 0
		allocs := testing.AllocsPerRun(1, func() {
			d, err := load([]string{dir}, Options{}, false)
			if err != nil {
				t.Fatal(err)
			}
			visits = d.visits
		})
		if perCertificate := visits / n; perCertificate > 20 {
			t.Errorf("%d values are read for each of %d certificates", perCertificate, n)
		}
		return allocs
	}
	one, two := cost(n), cost(2*n)
	if ratio := two / one; ratio > 2.2 {
		t.Errorf("twice the certificates take %.2f times the allocations", ratio)
	}
}

func TestSourceAndStatedUsages(t *testing.T) {
	dir := write(t, map[string]string{
		"a.yaml": "apiVersion: certsync/v1\n" + rootCA +
			"profiles: {p: {usages: [client auth]}, bare: {duration: 1d}}\ndefaults: {issuer: root, commonName: x}\n",
		"b.yaml": `apiVersion: certsync/v1
certificates:
  none: {files: {combined: 1.pem}}
  own: {usages: [client auth], files: {combined: 2.pem}}
  profile: {profile: p, files: {combined: 3.pem}}
  builtin: {profile: client, files: {combined: 4.pem}}
  bare: {profile: bare, files: {combined: 5.pem}}
`})
	s, err := Load([]string{dir}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	root := s.Issuer("root").CA
	if root.Source != filepath.Join(dir, "a.yaml") || root.UsagesStated {
		t.Errorf("root: declared in %s, usages stated: %t", root.Source, root.UsagesStated)
	}
	want := map[string]bool{"own": true, "profile": true, "builtin": true}
	for _, c := range s.Certificates {
		if c.Source != filepath.Join(dir, "b.yaml") || c.UsagesStated != want[c.Name] {
			t.Errorf("%s: declared in %s, usages stated: %t", c.Name, c.Source, c.UsagesStated)
		}
	}
}

func TestTooManyCertificates(t *testing.T) {
	defer func(n int) { maxCertificates = n }(maxCertificates)
	maxCertificates = 12
	items := func(n int) string {
		return "[" + strings.TrimSuffix(strings.Repeat("x, ", n), ", ") + "]"
	}
	for _, test := range []struct {
		certificates, at string
	}{
		{"  a: {}\n  b: {forEach: " + items(12) + "}\n", "certificates.b"},
		{"  a: {forEach: &i " + items(6) + "}\n  b: {forEach: *i}\n  c: {forEach: *i}\n", "certificates.c"},
		{"  a: {forEach: {" + strings.Repeat("x: y, ", 13) + "}}\n", "certificates.a"},
		{strings.Repeat("  a: {}\n", 12), ""}, // a name counts once
	} {
		_, err := loadText([]byte("apiVersion: certsync/v1\n"+rootCA+"certificates:\n"+test.certificates), true)
		const message = "with this the spec has more than 12 certificates"
		if err == nil || strings.Contains(err.Error(), message) != (test.at != "") ||
			test.at != "" && !strings.Contains(err.Error(), test.at+": "+message) {
			t.Errorf("%s\n%v", test.certificates, err)
		}
	}
}

// TestBomb is a small file that asks for four million certificates.
func TestBomb(t *testing.T) {
	var b strings.Builder
	b.WriteString("apiVersion: certsync/v1\n" + rootCA + "certificates:\n")
	for i := range 2000 {
		list := "*i"
		if i == 0 {
			list = "&i ["
			for j := range 2000 {
				list += fmt.Sprint("x", j, ", ")
			}
			list += "]"
		}
		fmt.Fprintf(&b, "  c%d-${each.key}: {issuer: root, forEach: %s, commonName: x, files: {combined: \"${certificate.name}\"}}\n", i, list)
	}
	s, err := loadText([]byte(b.String()), false)
	var problems Problems
	if s != nil || !errors.As(err, &problems) || len(problems) != 1 || problems[0].Path != "certificates.c250-${each.key}" {
		t.Errorf("problems: %v", err)
	}
}
