package kubernetes

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"
	"time"

	certificates "k8s.io/api/certificates/v1"
	core "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/certsync/certsync/reconcile"
	"github.com/certsync/certsync/reconcile/pki"
	"github.com/certsync/certsync/spec"
)

// Issuer asks one signer of a cluster.
type Issuer struct {
	cluster *Cluster
	signer  string
	approve bool
}

var _ reconcile.Remote = (*Issuer)(nil)

// NewIssuer returns the issuer that the spec describes, of an open cluster.
func NewIssuer(c *Cluster, k *spec.Kubernetes) *Issuer {
	return &Issuer{cluster: c, signer: k.SignerName, approve: k.Approve}
}

// Name returns certsync-NAME-DIGEST: NAME tells people whose request it is, DIGEST
// is that of the public key, of everything that is asked for, and of what is to be
// replaced: the renewal of a key that is kept is no answer from before.
func (i *Issuer) Name(r pki.Request) string {
	h := sha256.New()
	for _, part := range append([]string{i.signer, fmt.Sprint(*expiration(r)), string(r.CSR), r.Replaces}, usageNames(r)...) {
		fmt.Fprintf(h, "%d %s\n", len(part), part)
	}
	return "certsync-" + label(r.ID.Name) + hex.EncodeToString(h.Sum(nil)[:12])
}

// label returns what of a name may be part of an object's name, and a hyphen.
func label(name string) string {
	const most = 100
	s := strings.Map(func(r rune) rune {
		if 'a' <= r && r <= 'z' || '0' <= r && r <= '9' {
			return r
		}
		return '-'
	}, strings.ToLower(name))
	s = strings.Trim(s[:min(most, len(s))], "-")
	if s == "" {
		return ""
	}
	return s + "-"
}

func expiration(r pki.Request) *int32 {
	seconds := int32(r.Duration / time.Second)
	return &seconds
}

// usageNames returns the usages as the API spells them, which is as the spec does.
func usageNames(r pki.Request) []string {
	names := make([]string, len(r.Usages))
	for i, u := range r.Usages {
		names[i] = string(u)
	}
	return names
}

// object returns the CertificateSigningRequest for a request.
func (i *Issuer) object(s reconcile.Sent) *certificates.CertificateSigningRequest {
	csr := &certificates.CertificateSigningRequest{
		ObjectMeta: metav1.ObjectMeta{Name: s.Name, Labels: map[string]string{"app.kubernetes.io/managed-by": "certsync"}},
		Spec: certificates.CertificateSigningRequestSpec{
			Request:           pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: s.Request.CSR}),
			SignerName:        i.signer,
			ExpirationSeconds: expiration(s.Request),
		},
	}
	for _, u := range usageNames(s.Request) {
		csr.Spec.Usages = append(csr.Spec.Usages, certificates.KeyUsage(u))
	}
	return csr
}

// Submit implements reconcile.Remote.
func (i *Issuer) Submit(ctx context.Context, s reconcile.Sent) (reconcile.Answer, error) {
	csr, err := i.send(ctx, s)
	if err != nil || csr == nil {
		return reconcile.Answer{State: reconcile.RequestAbsent}, err
	}
	answer, err := i.answer(s, csr)
	if err != nil || !i.approve || answer.State != reconcile.RequestPending {
		return answer, err
	}
	csr, err = i.cluster.decide(ctx, csr, Decision{Approve: true, Reason: "ApprovedByCertsync", Message: "the issuer's spec states approve: true"})
	if err != nil {
		return answer, fmt.Errorf("approve it: %w", err)
	}
	return i.answer(s, csr)
}

// send returns the object of the request, and makes it if it was not sent before;
// nil if it was, and is gone.
func (i *Issuer) send(ctx context.Context, s reconcile.Sent) (*certificates.CertificateSigningRequest, error) {
	if s.UID == "" {
		csr := &certificates.CertificateSigningRequest{}
		err := i.cluster.do(ctx, call{verb: "create"}, func(ctx context.Context) error {
			return i.cluster.client.Post().Resource(resource).Body(i.object(s)).Do(ctx).Into(csr)
		})
		if err == nil || !apierrors.IsAlreadyExists(err) {
			return csr, err
		}
	}
	return i.cluster.get(ctx, s.Name)
}

// Lookup implements reconcile.Remote.
func (i *Issuer) Lookup(ctx context.Context, s reconcile.Sent) (reconcile.Answer, error) {
	csr, err := i.cluster.get(ctx, s.Name)
	if err != nil || csr == nil {
		return reconcile.Answer{State: reconcile.RequestAbsent}, err
	}
	return i.answer(s, csr)
}

// answer reads an object, if it is that of the request. Of a foreign one it tells
// nothing, so that nobody takes it for ours.
func (i *Issuer) answer(s reconcile.Sent, csr *certificates.CertificateSigningRequest) (reconcile.Answer, error) {
	a := reconcile.Answer{State: reconcile.RequestPending, UID: string(csr.UID), Since: csr.CreationTimestamp.Time}
	if s.UID != "" && s.UID != a.UID {
		return reconcile.Answer{}, hinted{fmt.Errorf("%w, made at %s: the one that was sent is gone", errForeign, a.Since.UTC().Format(time.RFC3339)),
			i.cluster.kubectl + " get csr " + s.Name + " -o yaml shows it; ask anew with --replace " + s.Request.ID.Name}
	}
	if !i.asks(csr, s) {
		return reconcile.Answer{}, hinted{fmt.Errorf("%w, which asks for something else", errForeign),
			i.cluster.kubectl + " get csr " + s.Name + " -o yaml shows it; ask anew with --replace " + s.Request.ID.Name}
	}
	for _, c := range csr.Status.Conditions {
		state := map[certificates.RequestConditionType]reconcile.RequestState{
			certificates.CertificateApproved: reconcile.RequestApproved,
			certificates.CertificateDenied:   reconcile.RequestDenied,
			certificates.CertificateFailed:   reconcile.RequestFailed,
		}[c.Type]
		// A request that was approved may fail, or be denied later.
		if c.Status != core.ConditionTrue && c.Status != "" || state == "" ||
			state == reconcile.RequestApproved && a.State != reconcile.RequestPending {
			continue
		}
		a.State, a.Reason, a.Message = state, c.Reason, c.Message
	}
	if len(csr.Status.Certificate) > 0 {
		chain, err := pki.ParseCertificates(csr.Status.Certificate)
		if err != nil {
			return reconcile.Answer{}, fmt.Errorf("what %s answered: %w", i.signer, err)
		}
		a.State, a.Chain = reconcile.RequestIssued, chain
	}
	return a, nil
}

// asks tells whether an object asks for what the request does.
func (i *Issuer) asks(csr *certificates.CertificateSigningRequest, s reconcile.Sent) bool {
	block, _ := pem.Decode(csr.Spec.Request)
	want := i.object(s).Spec
	return block != nil && bytes.Equal(block.Bytes, s.Request.CSR) && csr.Spec.SignerName == i.signer &&
		csr.Spec.ExpirationSeconds != nil && *csr.Spec.ExpirationSeconds == *want.ExpirationSeconds &&
		slices.Equal(csr.Spec.Usages, want.Usages)
}

// Withdraw implements reconcile.Remote. It deletes the very object that was sent.
func (i *Issuer) Withdraw(ctx context.Context, s reconcile.Sent) error {
	if s.UID == "" {
		return nil
	}
	uid := types.UID(s.UID)
	err := i.cluster.do(ctx, call{verb: "delete", name: s.Name}, func(ctx context.Context) error {
		return i.cluster.client.Delete().Resource(resource).Name(s.Name).
			Body(&metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}}).Do(ctx).Error()
	})
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) || apierrors.IsForbidden(err) {
		return nil // gone, somebody else's by now, or not ours to remove
	}
	return err
}

// Approval implements reconcile.Remote.
func (i *Issuer) Approval(name string) string {
	return i.cluster.kubectl + " certificate approve " + name
}

// do makes one call of the API within a bounded time. What may pass by itself is
// tried a few times more, so it has to be a call that may be made twice.
func (c *Cluster) do(ctx context.Context, k call, f func(context.Context) error) error {
	for tried, wait := 1, retryFirst; ; tried, wait = tried+1, 2*wait {
		if err := c.reachable(); err != nil {
			return err
		}
		err := c.try(ctx, k, f)
		if err == nil || tried == tries || !passing(err) || sleep(ctx, wait) != nil {
			return c.noted(err)
		}
	}
}

// once is do for a call that must not be made twice.
func (c *Cluster) once(ctx context.Context, k call, f func(context.Context) error) error {
	if err := c.reachable(); err != nil {
		return err
	}
	return c.noted(c.try(ctx, k, f))
}

// try is once for who tries again until the cluster is back. It returns soon after ctx
// ends even if f does not: client-go waits for as long as the command does that a
// kubeconfig gets its credentials from.
func (c *Cluster) try(ctx context.Context, k call, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, callWithin, errSlow)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	select {
	case err := <-done:
		return c.explain(ctx, k, err)
	case <-ctx.Done():
	}
	select {
	case err := <-done:
		return c.explain(ctx, k, err)
	case <-time.After(endWithin):
		return c.explain(ctx, k, context.Cause(ctx))
	}
}

// get returns an object, or nil if it is not there.
func (c *Cluster) get(ctx context.Context, name string) (*certificates.CertificateSigningRequest, error) {
	csr := &certificates.CertificateSigningRequest{}
	k := call{verb: "get", name: name}
	err := c.do(ctx, k, func(ctx context.Context) error {
		return c.client.Get().Resource(resource).Name(name).Do(ctx).Into(csr)
	})
	if k.absent(err) {
		return nil, nil //nolint:nilnil // absence is an answer
	}
	if err != nil {
		return nil, err
	}
	return csr, nil
}

// Decision is what is decided about a request.
type Decision struct {
	Approve         bool // or deny
	Reason, Message string
}

// Decide approves or denies the request of that name. With a UID it has to be that
// very object. Deciding the same twice is no error; deciding otherwise is.
func (c *Cluster) Decide(ctx context.Context, name, uid string, d Decision) error {
	csr, err := c.get(ctx, name)
	switch {
	case err != nil:
		return err
	case csr == nil:
		return fmt.Errorf("%s has no certificate signing request %s", c.title, name)
	case uid != "" && string(csr.UID) != uid:
		return errForeign
	}
	_, err = c.decide(ctx, csr, d)
	return err
}

// Has tells whether the cluster has a request of that name.
func (c *Cluster) Has(ctx context.Context, name string) (bool, error) {
	csr, err := c.get(ctx, name)
	return csr != nil, err
}

// conflicts bounds how often a decision is made again for an object that somebody
// changed meanwhile.
const conflicts = 3

func (c *Cluster) decide(ctx context.Context, csr *certificates.CertificateSigningRequest, d Decision) (*certificates.CertificateSigningRequest, error) {
	want, other := certificates.CertificateApproved, certificates.CertificateDenied
	if !d.Approve {
		want, other = other, want
	}
	for attempt := 1; ; attempt++ {
		has := func(t certificates.RequestConditionType) bool {
			return slices.ContainsFunc(csr.Status.Conditions, func(c certificates.CertificateSigningRequestCondition) bool { return c.Type == t })
		}
		switch {
		case has(want):
			return csr, nil
		case has(other):
			return nil, fmt.Errorf("the request %s is %s already", csr.Name, strings.ToLower(string(other)))
		}
		changed := csr.DeepCopy()
		changed.Status.Conditions = append(changed.Status.Conditions, certificates.CertificateSigningRequestCondition{
			Type: want, Status: core.ConditionTrue, Reason: d.Reason, Message: d.Message, LastUpdateTime: metav1.Now()})
		result := &certificates.CertificateSigningRequest{}
		err := c.do(ctx, call{verb: "update", subresource: "approval", name: csr.Name, signer: csr.Spec.SignerName}, func(ctx context.Context) error {
			return c.client.Put().Resource(resource).Name(csr.Name).SubResource("approval").Body(changed).Do(ctx).Into(result)
		})
		if err == nil {
			return result, nil
		}
		if !apierrors.IsConflict(err) || attempt == conflicts {
			return nil, err
		}
		uid := csr.UID
		if csr, err = c.get(ctx, csr.Name); err != nil {
			return nil, err
		}
		if csr == nil || csr.UID != uid {
			return nil, errForeign
		}
	}
}
