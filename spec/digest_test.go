package spec

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// The digests are kept in records on disk: what they are must not change from
// one version to the next, or all certificates would look changed.
func TestDigestIsStable(t *testing.T) {
	s, err := Load([]string{"testdata/design.good.yaml"}, fixed())
	if err != nil {
		t.Fatal(err)
	}
	c := *s.Find(ID{KindCertificate, "web"})
	const want = "fa55b015b4650399d3b72aa2882e94427670812db0b432db2bf043fe0d024c0a"
	if got := c.Digest(); got != want {
		t.Errorf("digest of web is %s, was %s", got, want)
	}
	const wantZero = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a" // of {}
	if got := new(Certificate).Digest(); got != wantZero {
		t.Errorf("digest of nothing is %s, was %s", got, wantZero)
	}
}

func TestDigestIgnoresPlaces(t *testing.T) {
	text, err := os.ReadFile("testdata/design.good.yaml")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	name := filepath.Join(dir, "a.yaml")
	digest := func(text string) string {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		s, err := Load([]string{name}, fixed())
		if err != nil {
			t.Fatal(err)
		}
		return s.Digest()
	}
	if digest(string(text)) != digest("# a comment\n\n"+string(text)) {
		t.Error("a comment changes the digest")
	}
}

// TestDigestCoversEverything changes each field in turn.
func TestDigestCoversEverything(t *testing.T) {
	zero := new(Certificate).Digest()
	seen := map[string]string{zero: "nothing"}
	var walk func(whole *Certificate, v reflect.Value, path string)
	walk = func(whole *Certificate, v reflect.Value, path string) {
		switch path {
		case ".Pos", ".Outputs[0].Pos", ".Outputs[0].Object.Cluster.Pos", ".Source", ".UsagesStated":
			return
		}
		check := func() {
			d := whole.Digest()
			if other, twice := seen[d]; twice {
				t.Errorf("%s has the digest of %s", path, other)
			}
			seen[d] = path
		}
		switch v.Kind() {
		case reflect.String:
			v.SetString("x" + path)
			check()
			v.SetString("")
		case reflect.Bool:
			v.SetBool(true)
			check()
			v.SetBool(false)
		case reflect.Int, reflect.Int64:
			v.SetInt(7)
			check()
			v.SetInt(0)
		case reflect.Uint32:
			v.SetUint(0o600)
			check()
			v.SetUint(0)
		case reflect.Float64:
			v.SetFloat(7)
			check()
			v.SetFloat(0)
		case reflect.Slice:
			v.Set(reflect.MakeSlice(v.Type(), 1, 1))
			check()
			walk(whole, v.Index(0), path+"[0]")
			v.SetZero()
		case reflect.Pointer:
			v.Set(reflect.New(v.Type().Elem()))
			if !strings.HasSuffix(path, ".Password") { // which one that refers to nothing is not
				check()
			}
			walk(whole, v.Elem(), path)
			v.SetZero()
		case reflect.Struct:
			if v.Type().PkgPath() == "net/netip" {
				return // its slice was checked
			}
			for i := range v.NumField() {
				walk(whole, v.Field(i), path+"."+v.Type().Field(i).Name)
			}
		default:
			t.Errorf("%s is a %s", path, v.Kind())
		}
	}
	c := new(Certificate)
	walk(c, reflect.ValueOf(c).Elem(), "")
}
