package spec

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"gopkg.in/yaml.v3"
)

func compiledSchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(Schema()))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("certsync.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("certsync.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// documentsOf reads the documents of a file as an editor does.
func documentsOf(t *testing.T, name string) (docs []any) {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	dec := yaml.NewDecoder(f)
	for {
		var doc any
		err := dec.Decode(&doc)
		if errors.Is(err, io.EOF) {
			return docs
		}
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if doc != nil {
			docs = append(docs, doc)
		}
	}
}

func TestSchemaAcceptsGoodSpecs(t *testing.T) {
	s := compiledSchema(t)
	for _, name := range fixtures(t, "*.good.yaml") {
		for _, doc := range documentsOf(t, name) {
			if err := s.Validate(doc); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

func TestSchemaRefusesBadSpecs(t *testing.T) {
	s := compiledSchema(t)
	for _, name := range []string{"keys", "lifetimes", "outputs", "shapes", "version"} {
		bad := false
		for _, doc := range documentsOf(t, filepath.Join("testdata", name+".bad.yaml")) {
			bad = bad || s.Validate(doc) != nil
		}
		if !bad {
			t.Errorf("the schema accepts %s.bad.yaml", name)
		}
	}
	for _, text := range []string{
		"{}",
		"apiVersion: certsync/v1\nfoo: x",
		"apiVersion: certsync/v1\ncertificates: {a: {dnsName: [a]}}",
		"apiVersion: certsync/v1\ncertificates: {a: {usages: [sever auth]}}",
		"apiVersion: certsync/v1\ncertificates: {a: {pathLen: 0}}",
		"apiVersion: certsync/v1\ndefaults: {forEach: [a]}",
		"apiVersion: certsync/v1\nissuers: {a: {acme: {}}}",
		"apiVersion: certsync/v1\nissuers: {a: {ca: {profile: server}}}",
		"apiVersion: certsync/v1\ncertificates: {a: {files: {certificate: {mode: '0644'}}}}",
		"apiVersion: certsync/v1\ncertificates: {a: {files: {certificate: {path: a, mode: 644}}}}",
		"apiVersion: certsync/v1\ncertificates: {a b: {}}",
	} {
		var doc any
		if err := yaml.Unmarshal([]byte(text), &doc); err != nil {
			t.Fatal(err)
		}
		if s.Validate(doc) == nil {
			t.Errorf("the schema accepts %s", text)
		}
	}
}

func TestSchemaIsDeterministic(t *testing.T) {
	if !bytes.Equal(Schema(), Schema()) {
		t.Error("two calls differ")
	}
}

func TestFields(t *testing.T) {
	var paths []string
	for _, f := range Fields() {
		paths = append(paths, f.Path)
		if f.Doc == "" || !strings.HasSuffix(f.Doc, ".") {
			t.Errorf("%s: %q is no sentence", f.Path, f.Doc)
		}
	}
	for _, want := range []string{
		"apiVersion", "defaults.privateKey.size", "profiles.*.usages", "issuers.*.ca.nameConstraints.permitted.dnsDomains",
		"certificates.*.files.privateKey.mode", "certificates.*.directory.path", "certificates.*.pkcs12.profile", "profiles.*.kubeconfig.embed", "defaults.jks.alias", "certificates.*.forEach",
		"clusters.*.context", "issuers.*.kubernetes.signerName", "certificates.*.secret.labels", "defaults.secret.jks.passwordFile", "issuers.*.ca.configMap.key",
	} {
		if !slices.Contains(paths, want) {
			t.Errorf("no field %s", want)
		}
	}
	for _, not := range []string{"certificates.*.configMap.name", "certificates.*.secret.pkcs12.path", "issuers.*.ca.kubeconfig.path", "certificates.*.jks.profile", "certificates.*.pkcs12.password", "certificates.*.pathLen", "certificates.*.privateKey.password"} {
		if slices.Contains(paths, not) {
			t.Errorf("field %s is listed", not)
		}
	}
}
