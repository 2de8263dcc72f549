package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	certificates "k8s.io/api/certificates/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/certsync/certsync/spec"
)

const (
	resource = "certificatesigningrequests"
	group    = certificates.GroupName
)

// call is one call of the API, for its error.
type call struct {
	verb        string
	subresource string
	name        string // of the object
	signer      string
	object      *spec.Object // that it is about, if it is not a request
}

// explain says in words what came of a call that failed.
func (c *Cluster) explain(ctx context.Context, k call, err error) error {
	if err == nil {
		return nil
	}
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		if cause := context.Cause(ctx); ctx.Err() != nil && !errors.Is(cause, errSlow) {
			return cause
		}
		slow := errors.Is(context.Cause(ctx), errSlow)
		err = fmt.Errorf("%s cannot be reached at %s: %w", c.title, c.host, plain(ctx, err))
		if plugin := c.config.ExecProvider; plugin != nil && slow {
			err = hinted{err, fmt.Sprintf("the kubeconfig gets its credentials from %s: does that end?", plugin.Command)}
		}
		return unreached{err, slow}
	}
	if err := c.explainObject(k.object, err); err != nil {
		return err
	}
	message := status.Status().Message
	switch {
	case apierrors.IsUnauthorized(err):
		return hinted{fmt.Errorf("%s does not accept the credentials: %w", c.title, err),
			"they may have expired, or belong to another cluster"}
	case apierrors.IsForbidden(err):
		return hinted{fmt.Errorf("%s forbids it: %w", c.title, err), k.rule(message)}
	case apierrors.IsNotFound(err) && !k.absent(err) && k.object == nil:
		return hinted{fmt.Errorf("%s has no %s/v1: %w", c.title, group, err),
			"certificates.k8s.io/v1 is there since Kubernetes 1.19; is the address that of an apiserver?"}
	case apierrors.IsInvalid(err):
		return fmt.Errorf("%s refuses it as invalid: %w", c.title, err)
	}
	return fmt.Errorf("%s: %w", c.title, err)
}

// unreached is the error of a call that the apiserver never answered.
type unreached struct {
	error
	slow bool // it had all the time that a call may take
}

func (u unreached) Unwrap() error { return u.error }

// noted has the cluster count as down for a while if it could not be reached.
func (c *Cluster) noted(err error) error {
	if u := (unreached{}); errors.As(err, &u) {
		c.unreachable(err)
	}
	return err
}

// passing tells errors that may be gone the next moment: an apiserver restarts, or
// has lost its etcd for an instant.
func passing(err error) bool {
	if u := (unreached{}); errors.As(err, &u) {
		return !u.slow
	}
	return apierrors.IsInternalError(err) || apierrors.IsServiceUnavailable(err) || apierrors.IsServerTimeout(err) ||
		apierrors.IsTimeout(err) || apierrors.IsTooManyRequests(err)
}

// errSlow is the cause with which a call is ended that takes too long.
var errSlow = fmt.Errorf("no answer within %s", callWithin)

// plain leaves away what the HTTP client says of the request.
func plain(ctx context.Context, err error) error {
	if errors.Is(context.Cause(ctx), errSlow) {
		return errSlow
	}
	for {
		next := errors.Unwrap(err)
		if next == nil || !strings.Contains(err.Error(), "://") {
			return err
		}
		err = next
	}
}

// rule tells which rule of RBAC is missing, if it is one.
func (k call) rule(message string) string {
	switch {
	case k.object != nil:
		return k.objectRule(message)
	case k.subresource == "approval" && strings.Contains(message, "signerName"):
		return fmt.Sprintf("add to a ClusterRole of this user: {apiGroups: [%s], resources: [signers], resourceNames: [%s], verbs: [approve]}", group, k.signer)
	case !strings.Contains(message, "cannot "+k.verb):
		return "" // something else forbids it, and says what
	}
	of := resource
	if k.subresource != "" {
		of += "/" + k.subresource
	}
	return fmt.Sprintf("add to a ClusterRole of this user: {apiGroups: [%s], resources: [%s], verbs: [%s]}", group, of, k.verb)
}

// absent tells whether the answer says that the object is not there. A bare 404 says
// nothing of the kind: it may be that of any web server, or of another API.
func (k call) absent(err error) bool {
	if k.object != nil {
		return k.objectAbsent(err)
	}
	var status apierrors.APIStatus
	if !errors.As(err, &status) || !apierrors.IsNotFound(err) {
		return false
	}
	d := status.Status().Details
	return status.Status().Code == http.StatusNotFound && d != nil && k.name != "" && d.Name == k.name && d.Group == group && !unexpected(d)
}

// unexpected tells answers that client-go made up from what was no Status.
func unexpected(d *metav1.StatusDetails) bool {
	for _, cause := range d.Causes {
		if cause.Type == metav1.CauseTypeUnexpectedServerResponse {
			return true
		}
	}
	return false
}
