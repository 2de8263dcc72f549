package spec

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
)

// partsOf returns how many parts a text is read in: 0 for a whole.
func partsOf(text string) int {
	if len(text) < 2*minPart {
		return 0
	}
	_, parts := split(&source{}, []byte(text))
	return len(parts)
}

const partsHead = "apiVersion: certsync/v1\n" + rootCA + "defaults: {issuer: root}\ncertificates:\n"

func TestParts(t *testing.T) {
	defer setMinPart(1)()
	for _, test := range []struct {
		name, text string
		parts      int
	}{
		{"flow", partsHead + "  a: {commonName: a, files: {combined: a.pem}}\n  b: {commonName: b, files: {combined: b.pem}}\n", 2},
		{"block", partsHead + "  a:\n    commonName: a\n    files:\n      combined: a.pem\n\n  # comment\n# comment\n  b:\n    commonName: b\n    files: {combined: b.pem}", 2},
		{"block scalar", partsHead + "  a: \n    files: {combined: a.pem}\n    commonName: |-\n     b\n  b: {commonName: b, files: {combined: b.pem}}\n", 2},
		{"twice", partsHead + "  a: {commonName: a, files: {combined: a.pem}}\n  a: {commonName: b, files: {combined: b.pem}}\n  c: x\n", 3},
		{"last line is spaces", partsHead + "  a: {commonName: a, files: {combined: a.pem}}\n  ", 2},
		{"flow over lines", partsHead + "  a: {commonName: a,\n  files: {combined: a.pem}}\n  b: {commonName: b, files: {combined: b.pem}}\n", 3},
		{"quote over lines", partsHead + "  a: {files: {combined: a.pem}, commonName: \"a\n  b: c\"}\n  b: {commonName: b, files: {combined: b.pem}}\n", 3},
		{"alias", partsHead + "  a: {usages: &u [client auth], commonName: a, files: {combined: a.pem}}\n  b: {usages: *u, commonName: b, files: {combined: b.pem}}\n", 2},
		{"indented less", partsHead + "   a: {commonName: a, files: {combined: a.pem}}\n  b: {commonName: b, files: {combined: b.pem}}\n", 0},
		{"list", partsHead + "  - a\n  - b\n", 2},
		{"other section", partsHead + "  a: {commonName: a, files: {combined: a.pem}}\n  b: {commonName: b, files: {combined: b.pem}}\nvars: {}\n", 0},
		{"two documents", partsHead + "  a: {commonName: a, files: {combined: a.pem}}\n  b: {commonName: b, files: {combined: b.pem}}\n---\n", 0},
		{"twice the section", "apiVersion: certsync/v1\ncertificates: {}\n" + partsHead + "  a: {commonName: a, files: {combined: a.pem}}\n  b: {}\n", 2},
		{"in a scalar", "apiVersion: |\n x\n\ncertificates:\n  a: {}\n  b: {}\n", 2},
		{"syntax", partsHead + "  a: {commonName: a, files: {combined: a.pem}}\n  b: [\n", 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			if n := partsOf(test.text); n != test.parts {
				t.Errorf("%d parts, want %d", n, test.parts)
			}
			want, wantErr := loadText([]byte(test.text), true)
			got, err := loadText([]byte(test.text), false)
			if !reflect.DeepEqual(got, want) || !reflect.DeepEqual(err, wantErr) {
				t.Errorf("in parts:\n%+v\n%v\nas a whole:\n%+v\n%v", got, err, want, wantErr)
			}
		})
	}
}

// TestManyParts reads parts in parallel.
func TestManyParts(t *testing.T) {
	defer setMinPart(1000)()
	var b strings.Builder
	b.WriteString(partsHead)
	for i := range 2000 {
		fmt.Fprintf(&b, "  c%d:\n    commonName: c\n    dnsNames: [c%[1]d.example.com]\n    files: {combined: c%[1]d.pem}\n", i)
	}
	text := []byte(b.String())
	if n := partsOf(b.String()); n < 50 {
		t.Fatalf("only %d parts", n)
	}
	want, err := loadText(text, true)
	if err != nil {
		t.Fatal(err)
	}
	got, err := loadText(text, false)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("in parts it is another spec: %v", err)
	}
}
