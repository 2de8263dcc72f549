package spec

import (
	"errors"
	"os"
	"reflect"
	"testing"
)

// FuzzLoad shows that no text makes the loader panic, and that what loads means
// the same each time, read as a whole or in parts, and states only what a Spec promises.
func FuzzLoad(f *testing.F) {
	for _, name := range append(fixtures(f, "*.good.yaml"), fixtures(f, "*.bad.yaml")...) {
		text, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	defer setMinPart(1)()
	f.Fuzz(func(t *testing.T, text []byte) {
		first, err := loadText(text, true)
		second, again := loadText(text, false)
		if err != nil || again != nil {
			if !reflect.DeepEqual(err, again) {
				t.Fatalf("two runs differ:\n%v\n%v", err, again)
			}
			var problems Problems
			if !errors.As(err, &problems) || len(problems) == 0 {
				t.Fatal("an error without problems")
			}
			_ = err.Error()
			return
		}
		if !reflect.DeepEqual(first, second) || first.Digest() != second.Digest() {
			t.Fatalf("two runs differ:\n%+v\n%+v", first, second)
		}
		for c := range first.All() {
			checkPromises(t, first, c)
		}
	})
}

// loadText loads a spec of one file, as a whole or in parts.
func loadText(text []byte, whole bool) (*Spec, error) {
	d := newLoader(fixed())
	d.whole = whole
	d.size = len(text)
	d.add(&source{file: "spec.yaml", dir: "/nonexistent"}, text)
	switch err := d.resolve(nil); {
	case errors.Is(err, errWhole):
		return loadText(text, true)
	case err != nil:
		return nil, err
	}
	return d.spec, nil
}

// checkPromises checks what others rely on without a look.
func checkPromises(t *testing.T, s *Spec, c *Certificate) {
	t.Helper()
	if s.Find(c.ID) != c {
		t.Errorf("%s is not found", c.ID)
	}
	if !nameRE.MatchString(c.Name) || len(c.Name) > maxName {
		t.Errorf("name %q", c.Name)
	}
	if c.Issuer != "" && s.Issuer(c.Issuer) == nil || c.Issuer == "" && c.CA == nil {
		t.Errorf("%s has the issuer %q", c.ID, c.Issuer)
	}
	if c.Duration <= 0 || c.RenewBefore.Duration >= c.Duration || c.RenewBefore.Percent < 0 || c.RenewBefore.Percent >= 100 {
		t.Errorf("%s lives %v and is renewed %v before", c.ID, c.Duration, c.RenewBefore)
	}
	key := false
	for _, o := range c.Outputs {
		key = key || o.Form.HoldsKey()
		file := o.Path != "" && o.Path[0] == '/' && o.Mode != 0 && (!o.Form.HoldsKey() || o.Mode&0o007 == 0)
		member := o.Object != nil && o.Path == o.Object.String()+"#"+o.DataKey && o.Object.Namespace != "" && o.Object.Name != "" && o.DataKey != ""
		if file == member {
			t.Errorf("%s has the output %+v", c.ID, o)
		}
	}
	if !key {
		t.Errorf("%s has no output for its key", c.ID)
	}
}

// setMinPart makes parts of small files, until the function it returns is called.
func setMinPart(n int) func() {
	was := minPart
	minPart = n
	return func() { minPart = was }
}
