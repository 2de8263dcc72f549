package kubernetes

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/certsync/certsync/reconcile"
	"github.com/certsync/certsync/spec"
)

// How many objects are observed in few calls: those that certsync wrote have a label
// by which they are listed, a page at a time. What the list does not show is looked
// for by its name alone, in a list without contents, and only what is there without
// the label is got one by one. Who may not list gets everything one by one.

const (
	// listFrom is from how many objects on a list is worth its call.
	listFrom = 4
	// pageSize bounds what is held in memory besides what was asked for.
	pageSize = 500
	// maxLists is how many namespaces are listed each for itself; more of them are
	// listed as a whole.
	maxLists = 4
)

// Objects implements reconcile.ObjectStore.
func (s *Objects) Objects(ctx context.Context, wanted []*spec.Object) []reconcile.ObservedObject {
	results := make([]reconcile.ObservedObject, len(wanted))
	type group struct {
		cluster *Cluster
		kind    spec.ObjectKind
	}
	groups := map[group][]int{}
	var order []group
	for i, o := range wanted {
		c, err := s.open(o.Cluster)
		if err != nil {
			results[i].Err = err
			continue
		}
		g := group{c, o.Kind}
		if groups[g] == nil {
			order = append(order, g)
		}
		groups[g] = append(groups[g], i)
	}
	for _, g := range order {
		f := finder{cluster: g.cluster, kind: g.kind, wanted: wanted, results: results, known: make([]bool, len(wanted))}
		f.find(ctx, groups[g])
	}
	return results
}

// finder observes the objects of one kind in one cluster.
type finder struct {
	cluster *Cluster
	kind    spec.ObjectKind
	wanted  []*spec.Object
	results []reconcile.ObservedObject
	known   []bool // whose result is there
}

func (f *finder) find(ctx context.Context, indices []int) {
	if len(indices) >= listFrom {
		if err := f.list(ctx, indices); err != nil {
			for _, i := range f.unknown(indices) {
				f.result(i, reconcile.ObservedObject{Err: err})
			}
			return
		}
	}
	left := f.unknown(indices)
	limited(len(left), func(i int) {
		f.result(left[i], f.cluster.getObject(ctx, f.wanted[left[i]]))
	})
	f.checkNamespaces(ctx, indices)
}

func (f *finder) result(i int, found reconcile.ObservedObject) {
	f.results[i], f.known[i] = found, true
}

func (f *finder) unknown(indices []int) []int {
	return slices.DeleteFunc(slices.Clone(indices), func(i int) bool { return f.known[i] })
}

// list observes what can be listed. Its error is for all that is not known yet; that
// a list is forbidden is none.
func (f *finder) list(ctx context.Context, indices []int) error {
	byNamespace := map[string][]int{}
	for _, i := range indices {
		ns := f.wanted[i].Namespace
		byNamespace[ns] = append(byNamespace[ns], i)
	}
	if len(byNamespace) > maxLists {
		done, err := f.listIn(ctx, "", indices)
		if done || err != nil {
			return err
		}
	}
	for _, ns := range slices.Sorted(maps.Keys(byNamespace)) {
		if len(byNamespace[ns]) >= listFrom {
			if _, err := f.listIn(ctx, ns, byNamespace[ns]); err != nil {
				return err
			}
		}
	}
	return nil
}

// listIn observes objects of one namespace, or of all, and tells whether it could.
func (f *finder) listIn(ctx context.Context, namespace string, indices []int) (bool, error) {
	index := make(map[string]int, len(indices))
	for _, i := range indices {
		index[f.wanted[i].Namespace+"/"+f.wanted[i].Name] = i
	}
	err := f.pages(ctx, namespace, fieldsAll, func(found *object) {
		if i, ok := index[found.Metadata.Namespace+"/"+found.Metadata.Name]; ok {
			f.result(i, found.observed(f.wanted[i]))
		}
	})
	switch {
	case apierrors.IsForbidden(err):
		return false, nil
	case apierrors.IsResourceExpired(err): // it took too long; what is missing is got
		return true, nil
	case err != nil:
		return false, err
	}
	left := f.unknown(indices)
	if len(left) < listFrom {
		return true, nil
	}
	there := make(map[string]bool)
	err = f.pages(ctx, namespace, fieldsNames, func(found *object) {
		name := found.Metadata.Namespace + "/" + found.Metadata.Name
		if _, ok := index[name]; ok {
			there[name] = true
		}
	})
	switch {
	case apierrors.IsResourceExpired(err), apierrors.IsForbidden(err):
		return true, nil
	case err != nil:
		return true, err
	}
	for _, i := range left {
		if !there[f.wanted[i].Namespace+"/"+f.wanted[i].Name] {
			f.result(i, reconcile.ObservedObject{})
		}
	}
	return true, nil
}

// What a list is to have: everything of what certsync wrote, or the names of all.
const (
	fieldsAll = iota
	fieldsNames
)

// pages lists objects, a page at a time.
func (f *finder) pages(ctx context.Context, namespace string, fields int, each func(*object)) error {
	k := call{verb: "list", object: &spec.Object{Kind: f.kind, Namespace: namespace}}
	kind := string(f.kind) + "List"
	if fields == fieldsNames {
		kind = "PartialObjectMetadataList"
	}
	next := ""
	for {
		r := f.cluster.client.Get().AbsPath(listPath(f.kind, namespace)).Param("limit", strconv.Itoa(pageSize))
		if fields == fieldsNames {
			r = r.SetHeader("Accept", "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1")
		} else {
			r = r.Param("labelSelector", spec.ManagedBy+"=certsync")
		}
		if next != "" {
			r = r.Param("continue", next)
		}
		body, err := f.cluster.ask(ctx, k, r)
		if err != nil {
			return err
		}
		var page struct {
			Kind     string `json:"kind"`
			Metadata struct {
				Continue string `json:"continue"`
			} `json:"metadata"`
			Items []object `json:"items"`
		}
		// What is no list is not an empty one.
		if err := json.Unmarshal(body, &page); err != nil || page.Kind != kind {
			return fmt.Errorf("%s: list %s: %w", f.cluster.title, resources[f.kind], errShape)
		}
		for i := range page.Items {
			each(&page.Items[i])
		}
		if next = page.Metadata.Continue; next == "" {
			return nil
		}
	}
}

// checkNamespaces tells objects that are not there from those that cannot be,
// because their namespace is not.
func (f *finder) checkNamespaces(ctx context.Context, indices []int) {
	absent := map[string][]int{}
	for _, i := range indices {
		if r := &f.results[i]; r.Err == nil && !r.Exists {
			absent[f.wanted[i].Namespace] = append(absent[f.wanted[i].Namespace], i)
		}
	}
	names := slices.Sorted(maps.Keys(absent))
	limited(len(names), func(n int) {
		err := f.cluster.namespace(ctx, names[n])
		for _, i := range absent[names[n]] {
			f.results[i].Err = cmp.Or(f.results[i].Err, err)
		}
	})
}
