package kubernetes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"

	core "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"github.com/certsync/certsync/reconcile"
	"github.com/certsync/certsync/spec"
)

// Objects is the reconcile.ObjectStore for Secrets and ConfigMaps.
//
// Objects are written by server-side apply: the cluster knows, field by field, what
// is certsync's, and leaves the rest alone.
type Objects struct {
	open func(*spec.Cluster) (*Cluster, error)
}

var _ reconcile.ObjectStore = (*Objects)(nil)

// NewObjects returns the store of objects in the clusters that open returns. open may
// be called concurrently; a cluster without a name is the default one.
func NewObjects(open func(*spec.Cluster) (*Cluster, error)) *Objects { return &Objects{open: open} }

// fieldManager is who the fields belong to that certsync writes.
const fieldManager = "certsync"

// maxCalls bounds how many calls are under way at once, to one cluster.
const maxCalls = 16

// resources are the names of the kinds in the API.
var resources = map[spec.ObjectKind]string{spec.KindSecret: "secrets", spec.KindConfigMap: "configmaps"}

// path returns where the object is in the API.
func pathOf(o *spec.Object) string {
	return listPath(o.Kind, o.Namespace) + "/" + o.Name
}

// listPath returns where the objects of a namespace are, or those of all.
func listPath(kind spec.ObjectKind, namespace string) string {
	if namespace == "" {
		return "/api/v1/" + resources[kind]
	}
	return "/api/v1/namespaces/" + namespace + "/" + resources[kind]
}

// ask makes one call about objects, and returns the body of the answer.
func (c *Cluster) ask(ctx context.Context, k call, r *rest.Request) ([]byte, error) {
	var body []byte
	err := c.once(ctx, k, func(ctx context.Context) error {
		result := r.Do(ctx)
		if err := result.Error(); err != nil {
			return err
		}
		var err error
		body, err = result.Raw()
		return err
	})
	return body, err
}

// getObject observes one object.
func (c *Cluster) getObject(ctx context.Context, o *spec.Object) reconcile.ObservedObject {
	k := call{verb: "get", object: o}
	body, err := c.ask(ctx, k, c.client.Get().AbsPath(pathOf(o)))
	if k.absent(err) {
		return reconcile.ObservedObject{}
	}
	if err != nil {
		return reconcile.ObservedObject{Err: err}
	}
	var found object
	if err := json.Unmarshal(body, &found); err != nil || !found.is(o) {
		return reconcile.ObservedObject{Err: fmt.Errorf("%s: %s: %w", c.title, o, errShape)}
	}
	return found.observed(o)
}

// ApplyObject implements reconcile.ObjectStore.
func (s *Objects) ApplyObject(ctx context.Context, change reconcile.ObjectChange) error {
	c, err := s.open(change.Object.Cluster)
	if err != nil {
		return err
	}
	body, err := json.Marshal(applied(change))
	if err != nil {
		return fmt.Errorf("%s: %w", change.Object, err)
	}
	// The fields are known to be right: the apiserver need not parse it all twice.
	r := c.client.Patch(types.ApplyPatchType).AbsPath(pathOf(change.Object)).Param("fieldManager", fieldManager).
		Param("fieldValidation", "Ignore").Body(body)
	if change.Force {
		r = r.Param("force", "true")
	}
	answered := true
	err = c.once(ctx, call{verb: "patch", object: change.Object}, func(ctx context.Context) error {
		err := r.Do(ctx).Error()
		answered = refusedFor(err)
		return err
	})
	if err != nil && !answered {
		return unanswered{err}
	}
	return err
}

// refusedFor tells whether an error is the apiserver's word that nothing was done.
func refusedFor(err error) bool {
	var status apierrors.APIStatus
	return err == nil || errors.As(err, &status) && status.Status().Code/100 == 4
}

// unanswered is the error of a call of which it is not known whether it was done.
type unanswered struct{ error }

func (u unanswered) Unwrap() error { return u.error }

// Is makes it a reconcile.ErrUnanswered.
func (u unanswered) Is(target error) bool { return target == reconcile.ErrUnanswered }

// RemoveObject implements reconcile.ObjectStore.
func (s *Objects) RemoveObject(ctx context.Context, o *spec.Object, uid, version string) error {
	c, err := s.open(o.Cluster)
	if err != nil {
		return err
	}
	body, err := json.Marshal(map[string]any{"apiVersion": "v1", "kind": "DeleteOptions",
		"preconditions": map[string]string{"uid": uid, "resourceVersion": version}})
	if err != nil {
		return err
	}
	k := call{verb: "delete", object: o}
	_, err = c.ask(ctx, k, c.client.Delete().AbsPath(pathOf(o)).SetHeader("Content-Type", "application/json").Body(body))
	if k.absent(err) || errors.Is(err, reconcile.ErrNamespace) {
		return nil
	}
	return err
}

// namespace tells why objects cannot be in a namespace; nil if they can, or if that
// is not known.
func (c *Cluster) namespace(ctx context.Context, name string) error {
	body, err := c.ask(ctx, call{verb: "get"}, c.client.Get().AbsPath("/api/v1/namespaces/"+name))
	var status apierrors.APIStatus
	switch {
	case err == nil:
	case errors.As(err, &status) && apierrors.IsNotFound(err):
		return c.noNamespace(name, "does not exist")
	default:
		return nil // who may not look at namespaces goes without
	}
	var found struct {
		Status struct{ Phase core.NamespacePhase }
	}
	if json.Unmarshal(body, &found) == nil && found.Status.Phase == core.NamespaceTerminating {
		return c.noNamespace(name, "is being deleted")
	}
	return nil
}

func (c *Cluster) noNamespace(name, what string) error {
	return hinted{namespaceError(fmt.Sprintf("%s: namespace %q %s", c.title, name, what)),
		"certsync makes no namespaces: " + c.kubectl + " create namespace " + name}
}

// namespaceError is a reconcile.ErrNamespace with a message of its own.
type namespaceError string

func (e namespaceError) Error() string { return string(e) }

// Is makes it a reconcile.ErrNamespace.
func (e namespaceError) Is(target error) bool { return target == reconcile.ErrNamespace }

// explainObject says in words what came of a call about an object, where that is
// something else than for any call; nil if it is not.
func (c *Cluster) explainObject(o *spec.Object, err error) error {
	var status apierrors.APIStatus
	if o == nil || !errors.As(err, &status) {
		return nil
	}
	st := status.Status()
	switch {
	case apierrors.IsConflict(err):
		var fields []string
		if st.Details != nil {
			for _, cause := range st.Details.Causes {
				if cause.Type == "FieldManagerConflict" {
					fields = append(fields, cause.Message+": "+cause.Field)
				}
			}
		}
		if len(fields) == 0 {
			return hinted{fmt.Errorf("%s has changed since the plan was made", o), "make a new plan"}
		}
		return hinted{fmt.Errorf("%s: somebody else has written other values: %s", o, strings.Join(fields, "; ")),
			fmt.Sprintf("leave these fields out of the spec, or delete the %s if nobody needs it", o.Kind)}
	case apierrors.IsNotFound(err) && st.Details != nil && st.Details.Kind == "namespaces":
		return c.noNamespace(o.Namespace, "does not exist")
	case apierrors.HasStatusCause(err, core.NamespaceTerminatingCause):
		return c.noNamespace(o.Namespace, "is being deleted")
	}
	return nil
}

// objectRule tells which rule of RBAC is missing, if it is one.
func (k call) objectRule(message string) string {
	_, after, ok := strings.Cut(message, " cannot ")
	if !ok {
		return "" // something else forbids it, and says what
	}
	verb, _, _ := strings.Cut(after, " ")
	return fmt.Sprintf(`add to a Role of this user in the namespace %s: {apiGroups: [""], resources: [%s], verbs: [%s]}`,
		k.object.Namespace, resources[k.object.Kind], verb)
}

// objectAbsent tells whether the answer says that the object is not there.
func (k call) objectAbsent(err error) bool {
	var status apierrors.APIStatus
	if !errors.As(err, &status) || !apierrors.IsNotFound(err) {
		return false
	}
	st := status.Status()
	return st.Code == http.StatusNotFound && st.Details != nil && st.Details.Name == k.object.Name &&
		st.Details.Kind == resources[k.object.Kind] && !unexpected(st.Details)
}

// errShape is the error of an answer that is not what was asked for. What was
// received stays out of it: it may hold a key.
var errShape = errors.New("the answer has another form than expected")

// limited calls f for 0 ≤ i < n, at most maxCalls at once.
func limited(n int, f func(i int)) {
	slots := make(chan struct{}, maxCalls)
	var wg sync.WaitGroup
	for i := range n {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			f(i)
		})
	}
	wg.Wait()
}
