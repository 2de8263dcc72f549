package reconcile

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/certsync/certsync/spec"
)

// objectKey identifies an object whatever its cluster is called.
type objectKey struct {
	kind                                 spec.ObjectKind
	kubeconfig, context, namespace, name string
}

func keyOf(o *spec.Object) objectKey {
	k := objectKey{kind: o.Kind, namespace: o.Namespace, name: o.Name}
	if o.Cluster != nil {
		k.kubeconfig, k.context = o.Cluster.Kubeconfig, o.Cluster.Context
	}
	return k
}

// objectCache holds the objects that one observation has read: all the outputs in an
// object come from one answer.
type objectCache struct {
	mu    sync.Mutex
	found map[objectKey]ObservedObject
}

// objects reads the objects of all certificates at once.
func (o *observer) objects(ctx context.Context, sp *spec.Spec) {
	o.cache = &objectCache{found: map[objectKey]ObservedObject{}}
	var wanted []*spec.Object
	for c := range sp.All() {
		wanted = append(wanted, objectsOf(c.Outputs)...)
	}
	if len(wanted) == 0 || o.Backends.Objects == nil {
		return
	}
	for i, found := range o.Backends.Objects.Objects(ctx, wanted) {
		o.cache.found[keyOf(wanted[i])] = found
	}
}

// objectsOf returns the objects that outputs are in, each once.
func objectsOf(outputs []spec.Output) []*spec.Object {
	var list []*spec.Object
	for _, out := range outputs {
		if out.Object != nil && !slices.Contains(list, out.Object) {
			list = append(list, out.Object)
		}
	}
	return list
}

// object returns an object as it was when it was read first.
func (o *observer) object(ctx context.Context, object *spec.Object) ObservedObject {
	o.cache.mu.Lock()
	found, ok := o.cache.found[keyOf(object)]
	o.cache.mu.Unlock()
	if ok {
		return found
	}
	found, err := o.Backends.object(ctx, object)
	found.Err = err
	o.cache.mu.Lock()
	defer o.cache.mu.Unlock()
	o.cache.found[keyOf(object)] = found
	return found
}

// read observes one output.
func (o *observer) read(ctx context.Context, out spec.Output) (Observation, error) {
	if out.Object == nil {
		return o.Store.Read(ctx, out)
	}
	found := o.object(ctx, out.Object)
	return found.observation(out), found.Err
}

// objectStates notes what the objects of a certificate are like, and which of them
// are left to others.
func (o *observer) objectStates(ctx context.Context, c *spec.Certificate, s *CertState) {
	for _, object := range objectsOf(c.Outputs) {
		found := o.object(ctx, object)
		st := ObjectState{Object: object, Exists: found.Exists, UID: found.UID, Version: found.Version, Type: found.Type,
			Immutable: found.Immutable, Labels: found.Labels, Annotations: found.Annotations, Mine: found.Mine, Others: found.Others}
		if found.Err != nil {
			s.Err = alsoErr(s.Err, fmt.Errorf("%s: %w", object.Kind.Field(), found.Err))
		}
		if rounds := s.Record.contest(object); rounds.Data >= maxRounds {
			st.Left = st.contestant(c, s.Record)
		}
		s.Objects = append(s.Objects, st)
	}
}

// checkShared fails certificates that have the same object by two names of its
// cluster: what the spec cannot tell, the UID does.
func (s *State) checkShared(sp *spec.Spec) {
	type use struct {
		cert   *spec.Certificate
		object *spec.Object
	}
	var uses map[string]use
	for c := range sp.All() {
		for _, o := range s.certs[c.ID].Objects {
			if o.UID == "" {
				continue
			}
			if uses == nil {
				uses = make(map[string]use)
			}
			first, twice := uses[o.UID]
			if !twice {
				uses[o.UID] = use{c, o.Object}
				continue
			}
			err := fmt.Errorf("%s, an output of %s, and %s, one of %s, are the same object", first.object, first.cert.Title(), o.Object, c.Title())
			for _, cert := range []*spec.Certificate{first.cert, c} {
				if st := s.certs[cert.ID]; st.Err == nil {
					st.Err = err
				}
			}
		}
	}
}

// object returns the state of an object that holds an output; nil for a file.
func (s *CertState) object(object *spec.Object) *ObjectState {
	for i := range s.Objects {
		if object != nil && s.Objects[i].Object == object {
			return &s.Objects[i]
		}
	}
	return nil
}

// left tells whether the output is in an object that is left to others.
func (s *CertState) left(out spec.Output) bool {
	o := s.object(out.Object)
	return o != nil && o.Left != ""
}

// leftPath tells the same of the output with the path.
func (s *CertState) leftPath(c *spec.Certificate, path string) bool {
	return slices.ContainsFunc(c.Outputs, func(out spec.Output) bool { return out.Path == path && s.left(out) })
}
