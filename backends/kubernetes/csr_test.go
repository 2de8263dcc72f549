package kubernetes

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/certsync/certsync/reconcile/pki"
	"github.com/certsync/certsync/spec"
)

// What certsync does with a cluster is tested on a real one, in cmd/certsync.

// A name tells two requests apart that differ in anything, and no others.
func TestName(t *testing.T) {
	i := &Issuer{signer: "example.com/a"}
	r := pki.Request{ID: spec.ID{Kind: spec.KindCertificate, Name: "My_web.Example"}, CSR: []byte("csr"), Duration: time.Hour,
		Usages: []spec.Usage{spec.UsageClientAuth, spec.UsageDigitalSignature}}
	name := i.Name(r)
	if want := "certsync-my-web-example-"; !strings.HasPrefix(name, want) || len(name) != len(want)+24 {
		t.Errorf("the name is %s", name)
	}
	r.Now = time.Now()
	if i.Name(r) != name {
		t.Error("the name depends on the time")
	}
	seen := map[string]string{name: "the first"}
	for what, change := range map[string]func(i *Issuer, r *pki.Request){
		"signer": func(i *Issuer, _ *pki.Request) { i.signer = "example.com/b" },
		"csr":    func(_ *Issuer, r *pki.Request) { r.CSR = []byte("csr2") },
		"length": func(_ *Issuer, r *pki.Request) { r.Duration = 2 * time.Hour },
		"usages": func(_ *Issuer, r *pki.Request) { r.Usages = r.Usages[:1] },
		"before": func(_ *Issuer, r *pki.Request) { r.Replaces = "ab:cd" },
		"owner":  func(_ *Issuer, r *pki.Request) { r.ID.Name = "other" },
	} {
		i, r := *i, r
		change(&i, &r)
		if first := seen[i.Name(r)]; first != "" {
			t.Errorf("%s has the name of %s", what, first)
		}
		seen[i.Name(r)] = what
	}
	for given, want := range map[string]string{"": "", "...": "", "a": "a-", "-A-": "a-", "käse": "k-se-", strings.Repeat("x", 300): strings.Repeat("x", 100) + "-"} {
		if have := label(given); have != want {
			t.Errorf("label(%q) = %q, want %q", given, have, want)
		}
	}
}

// Only the API's own word is taken for it that an object is not there.
func TestAbsent(t *testing.T) {
	k := call{verb: "get", name: "x"}
	if !k.absent(apierrors.NewNotFound(schema.GroupResource{Group: group, Resource: resource}, "x")) {
		t.Error("an object that is not there is")
	}
	for what, err := range map[string]error{
		"another object": apierrors.NewNotFound(schema.GroupResource{Group: group, Resource: resource}, "y"),
		"another API":    apierrors.NewNotFound(schema.GroupResource{Group: "apps", Resource: resource}, "x"),
		"a web server":   apierrors.NewGenericServerResponse(http.StatusNotFound, "get", schema.GroupResource{Group: group, Resource: resource}, "x", "404 page not found", 0, true),
		"no details":     &apierrors.StatusError{ErrStatus: metav1.Status{Reason: metav1.StatusReasonNotFound, Code: http.StatusNotFound}},
		"forbidden":      apierrors.NewForbidden(schema.GroupResource{Group: group, Resource: resource}, "x", errors.New("no")),
		"no answer":      errors.New("connection refused"),
		"no error":       nil,
	} {
		if k.absent(err) {
			t.Errorf("%s counts as absent", what)
		}
	}
	if (call{verb: "create"}).absent(apierrors.NewNotFound(schema.GroupResource{Group: group, Resource: resource}, "")) {
		t.Error("a call without a name finds something absent")
	}
}

func TestKubectl(t *testing.T) {
	for want, c := range map[string]*spec.Cluster{
		"kubectl": {Name: "a"},
		"kubectl --kubeconfig /etc/k.conf --context a@b":                {Kubeconfig: "/etc/k.conf", Context: "a@b"},
		`kubectl --kubeconfig '/home/my files/it'\''s' --context 'a b'`: {Kubeconfig: "/home/my files/it's", Context: "a b"},
	} {
		if have := kubectl(c); have != want {
			t.Errorf("%s, want %s", have, want)
		}
	}
}
