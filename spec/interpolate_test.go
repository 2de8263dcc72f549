package spec

import (
	"errors"
	"os"
	"strings"
	"testing"
)

func testScope() *scope {
	env := newLoader(fixed()).env
	env.vars = map[string]string{"domain": "example.com", "trick": "${vars.domain}", "a-b.c": "odd", "empty": ""}
	return &scope{env: env, name: "web", each: &each{"k", "v"}}
}

func TestInterpolate(t *testing.T) {
	for in, want := range map[string]string{
		"":                                "",
		"plain $ $$ $x {} }":              "plain $ $$ $x {} }",
		"${vars.domain}":                  "example.com",
		"a.${vars.domain}.b${vars.empty}": "a.example.com.b",
		"${vars.a-b.c}":                   "odd",
		"${vars.trick}":                   "${vars.domain}", // not looked at again
		"$${vars.domain}":                 "${vars.domain}",
		"$$${vars.domain}":                "$${vars.domain}",
		"$${":                             "${",
		"${each.key}=${each.value}":       "k=v",
		"${certificate.name}":             "web",
		"${env.REGION}":                   "eu-1",
		"${host.name} ${host.fqdn}":       "h h.example.com",
		"${host.ip}":                      "192.0.2.7",
		"${vars.domain}}":                 "example.com}",
		"$${a}${vars.domain}$${b}":        "${a}example.com${b}",
	} {
		got, err := testScope().interpolate(in)
		if err != nil || got != want {
			t.Errorf("interpolate(%q) = %q, %v; want %q", in, got, err, want)
		}
	}
}

func TestInterpolateRefuses(t *testing.T) {
	for in, want := range map[string]string{
		"${":                   "without its }",
		"${vars.domain":        "without its }",
		"${vars.nothing}":      "unknown variable ${vars.nothing}",
		"${vars.domian}":       `did you mean "domain"?`,
		"${}":                  "unknown reference ${}",
		"${ vars.domain }":     "unknown reference ${ vars.domain }",
		"${domain}":            "unknown reference ${domain}",
		"${vars}":              "unknown reference ${vars}",
		"${${vars.domain}}":    "unknown reference",
		"${env.NOTHING}":       "the environment variable NOTHING is not set",
		"${hst.name}":          `did you mean "host.name"?`,
		"${each.keys}":         `did you mean "each.key"?`,
		"${certificate.names}": `did you mean "certificate.name"?`,
	} {
		got, err := testScope().interpolate(in)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("interpolate(%q) = %q, %v; want error with %q", in, got, err, want)
		}
	}
}

func TestHostIsAskedOnlyWhenUsed(t *testing.T) {
	calls := 0
	sc := testScope()
	sc.env.host = func(string) (string, error) { calls++; return "", errors.New("no network") }
	if _, err := sc.interpolate("${vars.domain}"); err != nil || calls != 0 {
		t.Errorf("%v after %d calls", err, calls)
	}
	if _, err := sc.interpolate("${host.ip}"); err == nil || !strings.Contains(err.Error(), "${host.ip}: no network") {
		t.Errorf("error = %v", err)
	}
}

func TestThisHost(t *testing.T) {
	name, err := thisHost("name")
	full, _ := os.Hostname()
	if err != nil || !strings.HasPrefix(full, name) || strings.Contains(name, ".") {
		t.Errorf("host.name = %q, %v; the system says %q", name, err, full)
	}
}

func FuzzInterpolate(f *testing.F) {
	for _, s := range []string{"${vars.domain}", "$${x}", "${", "$$${each.key}}", "${env.REGION}${host.ip}", "${certificate.name"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := testScope().interpolate(s)
		if err == nil && !strings.Contains(s, "${") && got != s {
			t.Errorf("interpolate(%q) = %q without a reference", s, got)
		}
		// Escaping every reference gives the text back.
		escaped := strings.ReplaceAll(s, "${", "$${")
		if got, err := testScope().interpolate(escaped); err != nil || got != s {
			t.Errorf("interpolate(%q) = %q, %v; want %q", escaped, got, err, s)
		}
	})
}
