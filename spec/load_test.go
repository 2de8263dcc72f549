package spec

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// fixed gives the fixtures a host and an environment that do not change.
func fixed() Options {
	return Options{
		LookupEnv: func(name string) (string, bool) {
			v, ok := map[string]string{"REGION": "eu-1", "SECRET": "x"}[name]
			return v, ok
		},
		Host: func(part string) (string, error) {
			return map[string]string{"name": "h", "fqdn": "h.example.com", "ip": "192.0.2.7"}[part], nil
		},
	}
}

func fixtures(t testing.TB, pattern string) []string {
	t.Helper()
	names, err := filepath.Glob("testdata/" + pattern)
	if err != nil || len(names) == 0 {
		t.Fatalf("no fixtures: %v", err)
	}
	return names
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(name, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", name, diff)
	}
}

// here replaces the directory of the checkout, which differs.
func here(t *testing.T, s []byte) []byte {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	return bytes.ReplaceAll(s, []byte(dir), []byte("$DIR"))
}

func listed(problems []Problem) string {
	var b strings.Builder
	for _, p := range problems {
		fmt.Fprintln(&b, p.Error())
		if p.Hint != "" {
			fmt.Fprintln(&b, "\thint:", p.Hint)
		}
	}
	return b.String()
}

func TestLoadGood(t *testing.T) {
	for _, name := range fixtures(t, "*.good.yaml") {
		t.Run(filepath.Base(name), func(t *testing.T) {
			s, err := Load([]string{name}, fixed())
			if err != nil {
				t.Fatal(err)
			}
			got, err := json.MarshalIndent(s, "", " ")
			if err != nil {
				t.Fatal(err)
			}
			golden(t, strings.TrimSuffix(name, "yaml")+"json", append(here(t, got), '\n'))
		})
	}
}

func TestLoadBad(t *testing.T) {
	for _, name := range fixtures(t, "*.bad.yaml") {
		t.Run(filepath.Base(name), func(t *testing.T) {
			s, err := Load([]string{name}, fixed())
			var problems Problems
			if !errors.As(err, &problems) {
				t.Fatalf("error is no list of problems: %v", err)
			}
			if s != nil {
				t.Error("a spec comes with the problems")
			}
			golden(t, strings.TrimSuffix(name, "yaml")+"txt", here(t, []byte(listed(problems))))
		})
	}
}
