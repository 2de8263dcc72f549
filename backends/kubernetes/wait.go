package kubernetes

import (
	"context"
	"errors"
	"time"

	certificates "k8s.io/api/certificates/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/certsync/certsync/reconcile"
)

// How often a request is looked at where it cannot be watched, how often a call is
// tried, and how long to wait before the cluster is tried again.
const (
	pollEvery   = 2 * time.Second
	tries       = 3
	retryFirst  = 250 * time.Millisecond
	retryAtMost = 10 * time.Second
)

// Wait implements reconcile.Remote. It watches the one object. A cluster that cannot
// be reached is tried until ctx ends: an apiserver restarts, and a request outlives
// that.
func (i *Issuer) Wait(ctx context.Context, s reconcile.Sent) (reconcile.Answer, error) {
	retry := retryFirst
	for seen := false; ; {
		csr, err := i.look(ctx, s.Name)
		switch {
		case ctx.Err() != nil:
			return reconcile.Answer{}, context.Cause(ctx)
		case err != nil && lasting(err) && !seen: // an apiserver that just started may not know all rights
			return reconcile.Answer{}, err
		case err != nil:
			if err := sleep(ctx, retry); err != nil {
				return reconcile.Answer{}, err
			}
			retry = min(2*retry, retryAtMost)
			continue
		case csr == nil:
			return reconcile.Answer{State: reconcile.RequestAbsent}, nil
		}
		seen, retry = true, retryFirst
		answer, err := i.answer(s, csr)
		if err != nil || !waits(answer) {
			return answer, err
		}
		s.UID = answer.UID
		answer, done, err := i.watch(ctx, s, csr.ResourceVersion)
		if done || err != nil {
			return answer, err
		}
	}
}

func waits(a reconcile.Answer) bool {
	return a.State == reconcile.RequestPending || a.State == reconcile.RequestApproved
}

// look is get for who tries again.
func (i *Issuer) look(ctx context.Context, name string) (*certificates.CertificateSigningRequest, error) {
	csr := &certificates.CertificateSigningRequest{}
	k := call{verb: "get", name: name}
	err := i.cluster.try(ctx, k, func(ctx context.Context) error {
		return i.cluster.client.Get().Resource(resource).Name(name).Do(ctx).Into(csr)
	})
	if k.absent(err) {
		return nil, nil //nolint:nilnil // absence is an answer
	}
	return csr, err
}

// lasting tells errors that do not go away by themselves.
func lasting(err error) bool {
	return apierrors.IsUnauthorized(err) || apierrors.IsForbidden(err) || apierrors.IsNotFound(err)
}

// watch watches one object from a version on, until it is answered. It tells false
// when the watch ends before that: then it is to be looked at anew.
func (i *Issuer) watch(ctx context.Context, s reconcile.Sent, version string) (reconcile.Answer, bool, error) {
	w, err := i.cluster.client.Get().Resource(resource).VersionedParams(&metav1.ListOptions{
		Watch: true, FieldSelector: "metadata.name=" + s.Name, ResourceVersion: version,
	}, i.cluster.codec).Watch(ctx)
	if err != nil {
		// Whoever may not watch may still look; and what cannot be reached is
		// told by the next look.
		every := retryFirst
		if apierrors.IsForbidden(err) {
			every = pollEvery
		}
		return reconcile.Answer{}, false, sleep(ctx, every)
	}
	defer w.Stop()
	for {
		select {
		case <-ctx.Done():
			return reconcile.Answer{}, false, context.Cause(ctx)
		case event, ok := <-w.ResultChan():
			if !ok {
				return reconcile.Answer{}, false, sleep(ctx, retryFirst)
			}
			answer, done, err := i.event(s, event)
			if done || err != nil {
				return answer, done, err
			}
			if event.Type == watch.Error { // the version is too old, as a rule
				return reconcile.Answer{}, false, sleep(ctx, retryFirst)
			}
		}
	}
}

// event tells whether an event of the watch answers the request.
func (i *Issuer) event(s reconcile.Sent, event watch.Event) (reconcile.Answer, bool, error) {
	csr, ok := event.Object.(*certificates.CertificateSigningRequest)
	switch {
	case !ok:
		return reconcile.Answer{}, false, nil
	case event.Type == watch.Deleted && string(csr.UID) == s.UID:
		return reconcile.Answer{State: reconcile.RequestAbsent}, true, nil
	case event.Type != watch.Added && event.Type != watch.Modified:
		return reconcile.Answer{}, false, nil
	}
	answer, err := i.answer(s, csr)
	if errors.Is(err, errForeign) {
		return answer, true, err
	}
	return answer, err != nil || !waits(answer), err
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}
