package examples

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/certsync/certsync/backends/kubernetes/kubetest"
	"github.com/certsync/certsync/reconcile/pki"
	"github.com/certsync/certsync/spec"
)

// TestKubernetesSecrets runs the example on a control plane, with the rights that its
// manifest gives and no others.
func TestKubernetesSecrets(t *testing.T) {
	c := controlPlane{kubetest.Start(t), t}
	certsyncs := c.user("certsync")
	c.call("super-admin", "POST", "/api/v1/namespaces", map[string]any{"metadata": map[string]any{"name": "web"}})
	dec := yaml.NewDecoder(strings.NewReader(read(t, "kubernetes-secrets/rbac.yaml")))
	for range 2 {
		var object map[string]any
		if err := dec.Decode(&object); err != nil {
			t.Fatal(err)
		}
		c.call("super-admin", "POST", "/apis/rbac.authorization.k8s.io/v1/namespaces/web/"+strings.ToLower(fmt.Sprint(object["kind"]))+"s", object)
	}
	for _, namespace := range []string{"web", "default"} {
		for _, resource := range []string{"secrets", "configmaps"} {
			for _, verb := range []string{"get", "list", "create", "patch", "update", "delete", "watch", "deletecollection"} {
				want := namespace == "web" && slices.Contains([]string{"get", "list", "create", "patch"}, verb)
				for end := time.Now().Add(20 * time.Second); c.may(certsyncs, namespace, verb, resource) != want; time.Sleep(100 * time.Millisecond) {
					if time.Now().After(end) {
						t.Fatalf("%s %s in %s: want %t", verb, resource, namespace, want)
					}
				}
			}
		}
	}

	dir := t.TempDir()
	write(t, dir, "certsync.yaml", read(t, "kubernetes-secrets/certsync.yaml"))
	mustRun(t, dir, "env", "KUBECONFIG="+certsyncs, certsync, "apply", "--yes")
	mustRun(t, dir, "env", "KUBECONFIG="+certsyncs, certsync, "plan", "--detailed-exitcode")

	var bundle struct{ Data map[string]string }
	c.get("configmaps/web-ca", &bundle)
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(bundle.Data["ca.crt"])) {
		t.Fatal("the ConfigMap has no certificate")
	}
	for name, host := range map[string]string{"frontend-tls": "frontend.web.svc.cluster.local", "backend-tls": "backend.web.svc"} {
		var secret struct {
			Type string
			Data map[string][]byte
		}
		c.get("secrets/"+name, &secret)
		pair, err := tls.X509KeyPair(secret.Data["tls.crt"], secret.Data["tls.key"])
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if _, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: host}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if secret.Type != "kubernetes.io/tls" || string(secret.Data["ca.crt"]) != bundle.Data["ca.crt"] {
			t.Errorf("%s: type %s, or another ca.crt", name, secret.Type)
		}
		if name != "backend-tls" {
			continue
		}
		store, err := pki.ParseKeystore(spec.FormPKCS12, secret.Data["keystore.p12"], func() ([]byte, error) { return []byte(keystorePassword), nil })
		if err != nil {
			t.Fatal(err)
		}
		if e, err := store.Entry(); err != nil || !e.Chain[0].Equal(pair.Leaf) {
			t.Errorf("the keystore holds another certificate: %v", err)
		}
	}
}

// may tells whether a user may do something in a namespace.
func (c controlPlane) may(kubeconfig, namespace, verb, resource string) bool {
	c.t.Helper()
	var review struct{ Status struct{ Allowed bool } }
	text := c.call(kubeconfig, "POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", map[string]any{"spec": map[string]any{
		"resourceAttributes": map[string]any{"namespace": namespace, "verb": verb, "resource": resource}}})
	if err := json.Unmarshal(text, &review); err != nil {
		c.t.Fatal(err)
	}
	return review.Status.Allowed
}

// get reads an object in the namespace of the example.
func (c controlPlane) get(path string, into any) {
	c.t.Helper()
	if err := json.Unmarshal(c.call("super-admin", "GET", "/api/v1/namespaces/web/"+path, nil), into); err != nil {
		c.t.Fatal(err)
	}
}
