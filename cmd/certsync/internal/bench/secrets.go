package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"strings"
	"sync/atomic"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// What is measured on a real control plane.
const (
	secrets            = 500
	secretsBudget      = 2.0 // against a plain loop that creates as many
	secretsCallsBudget = 5   // of a plan that finds nothing to do
)

// benchSecrets compares certificates in Secrets with a plain loop.
func (b *bench) benchSecrets(kubeconfig string) error {
	turns := 5
	if b.quick {
		turns = 3
	}
	var spec, namespace string
	turn := 0
	fresh := func() (apply, floor []string, err error) {
		turn++
		dir := filepath.Join(b.dir, fmt.Sprintf("secrets-%d", turn))
		spec, namespace = filepath.Join(dir, "certsync.yaml"), fmt.Sprintf("bench-certsync-%d", turn)
		plain := fmt.Sprintf("bench-floor-%d", turn)
		for _, ns := range []string{namespace, plain} {
			if _, err := execute(b.floor, "namespace", kubeconfig, ns); err != nil {
				return nil, nil, err
			}
		}
		if err := writeFile(spec, secretsSpec(kubeconfig, namespace)); err != nil {
			return nil, nil, err
		}
		return []string{b.certsync, "-f", spec, "apply", "--yes"}, []string{b.floor, "create-secrets", kubeconfig, plain, fmt.Sprint(secrets)}, nil
	}
	var applies, floors []usage
	for range turns {
		apply, floor, err := fresh()
		if err != nil {
			return err
		}
		a, f, err := inTurns(1, nil, apply, floor)
		if err != nil {
			return err
		}
		applies, floors = append(applies, a), append(floors, f)
	}
	fmt.Printf("\n%d certificates in Secrets\n", secrets)
	b.atMost("apply", median(applies), "plain loop that creates them", median(floors), secretsBudget)

	plan := []string{b.certsync, "-f", spec, "plan"}
	if err := checkEmpty(plan); err != nil {
		return err
	}
	p, f, err := inTurns(2*turns+1, nil, plan, []string{b.floor, "get-secrets", kubeconfig, fmt.Sprintf("bench-floor-%d", turn), fmt.Sprint(secrets)})
	if err != nil {
		return err
	}
	b.atMost("plan", p, "plain loop, a get each", f, 1)
	calls, err := b.countCalls(kubeconfig, spec, namespace)
	if err != nil {
		return err
	}
	fmt.Printf("  %-6s %d calls for %d Secrets  budget ≤ %d  %s\n", "plan", calls, secrets, secretsCallsBudget, b.verdict(calls <= secretsCallsBudget))
	return nil
}

func secretsSpec(kubeconfig, namespace string) []byte {
	var s strings.Builder
	fmt.Fprintf(&s, `apiVersion: certsync/v1
clusters:
  bench: {kubeconfig: %q}
issuers:
  root: {ca: {commonName: bench, files: {certificate: ca.crt, privateKey: ca.key}}}
defaults: {issuer: root, profile: server}
certificates:
`, kubeconfig)
	for i := range secrets {
		name := fmt.Sprintf("host-%06d", i)
		fmt.Fprintf(&s, "  %s: {dnsNames: [%s.example.com], secret: {cluster: bench, namespace: %s, name: %s}}\n", name, name, namespace, name)
	}
	return []byte(s.String())
}

// countCalls counts the calls of a plan that has nothing to do, on their way through
// a proxy.
func (b *bench) countCalls(kubeconfig, spec, namespace string) (int, error) {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return 0, err
	}
	transport, err := rest.TransportFor(config)
	if err != nil {
		return 0, err
	}
	target, err := url.Parse(config.Host)
	if err != nil {
		return 0, err
	}
	var calls atomic.Int64
	forward := &httputil.ReverseProxy{Transport: transport, Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) }}
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		forward.ServeHTTP(w, r)
	}))
	defer proxy.Close()
	through := filepath.Join(filepath.Dir(spec), "proxy.conf")
	if err := writeFile(through, []byte(fmt.Sprintf("apiVersion: v1\nkind: Config\nclusters: [{name: a, cluster: {server: %q}}]\nusers: [{name: a, user: {}}]\ncontexts: [{name: a, context: {cluster: a, user: a}}]\ncurrent-context: a\n", proxy.URL))); err != nil {
		return 0, err
	}
	if err := writeFile(spec, secretsSpec(through, namespace)); err != nil {
		return 0, err
	}
	err = checkEmpty([]string{b.certsync, "-f", spec, "plan"})
	return int(calls.Load()), err
}
