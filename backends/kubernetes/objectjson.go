package kubernetes

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/certsync/certsync/reconcile"
	"github.com/certsync/certsync/spec"
)

// object is a Secret or a ConfigMap, as far as it matters here. The types of the
// core API would bring all of it.
type object struct {
	Kind      string            `json:"kind"` // empty in a list
	Metadata  metadata          `json:"metadata"`
	Type      string            `json:"type"`
	Immutable bool              `json:"immutable"`
	Data      map[string]string `json:"data"` // in a Secret in base64
}

type metadata struct {
	Namespace       string            `json:"namespace"`
	Name            string            `json:"name"`
	UID             string            `json:"uid"`
	ResourceVersion string            `json:"resourceVersion"`
	Labels          map[string]string `json:"labels"`
	Annotations     map[string]string `json:"annotations"`
	ManagedFields   []managed         `json:"managedFields"`
}

// managed are the fields that one manager has written last.
type managed struct {
	Manager   string          `json:"manager"`
	Operation string          `json:"operation"`
	Fields    json.RawMessage `json:"fieldsV1"`
}

// is tells whether it is the object that was asked for.
func (f *object) is(o *spec.Object) bool {
	m := &f.Metadata
	return f.Kind == string(o.Kind) && m.Namespace == o.Namespace && m.Name == o.Name && m.UID != "" && m.ResourceVersion != ""
}

// observed returns what the engine wants to know of an object.
func (f *object) observed(o *spec.Object) reconcile.ObservedObject {
	m := &f.Metadata
	found := reconcile.ObservedObject{Exists: true, UID: m.UID, Version: m.ResourceVersion, Type: f.Type, Immutable: f.Immutable,
		Labels: m.Labels, Annotations: m.Annotations, Data: make(map[string]reconcile.Secret, len(f.Data))}
	for key, text := range f.Data {
		data := []byte(text)
		if o.Kind == spec.KindSecret {
			var err error
			if data, err = base64.StdEncoding.DecodeString(text); err != nil {
				return reconcile.ObservedObject{Err: fmt.Errorf("%s: %w", o, errShape)}
			}
		}
		found.Data[key] = data
	}
	for i := range m.ManagedFields {
		who := &m.ManagedFields[i]
		if who.Manager == fieldManager && who.Operation == "Apply" {
			found.Mine = append(found.Mine, who.fields()...)
			continue
		}
		for _, field := range who.fields() {
			if found.Others == nil {
				found.Others = map[string]string{}
			}
			found.Others[field] = who.Manager
		}
	}
	slices.Sort(found.Mine)
	return found
}

// fields lists the fields that matter here: see reconcile.ObservedObject. What has
// another form than is known has none.
func (m *managed) fields() []string {
	var f struct {
		Data     map[string]json.RawMessage `json:"f:data"`
		Type     json.RawMessage            `json:"f:type"`
		Metadata struct {
			Labels      map[string]json.RawMessage `json:"f:labels"`
			Annotations map[string]json.RawMessage `json:"f:annotations"`
		} `json:"f:metadata"`
	}
	if json.Unmarshal(m.Fields, &f) != nil {
		return nil
	}
	var list []string
	for kind, names := range map[string]map[string]json.RawMessage{"data": f.Data, "label": f.Metadata.Labels, "annotation": f.Metadata.Annotations} {
		for name := range names {
			if name, ok := strings.CutPrefix(name, "f:"); ok {
				list = append(list, kind+"/"+name)
			}
		}
	}
	if f.Type != nil {
		list = append(list, "type")
	}
	return list
}

// appliedObject is what server-side apply is given: all fields that are certsync's.
type appliedObject struct {
	APIVersion string            `json:"apiVersion"`
	Kind       spec.ObjectKind   `json:"kind"`
	Metadata   appliedMetadata   `json:"metadata"`
	Type       string            `json:"type,omitempty"`
	Data       map[string]string `json:"data"`
}

type appliedMetadata struct {
	Namespace       string            `json:"namespace"`
	Name            string            `json:"name"`
	ResourceVersion string            `json:"resourceVersion,omitempty"`
	Labels          map[string]string `json:"labels,omitempty"`
	Annotations     map[string]string `json:"annotations,omitempty"`
}

func applied(change reconcile.ObjectChange) appliedObject {
	o := change.Object
	a := appliedObject{APIVersion: "v1", Kind: o.Kind, Data: make(map[string]string, len(change.Data)),
		Metadata: appliedMetadata{Namespace: o.Namespace, Name: o.Name, ResourceVersion: change.Version, Labels: change.Labels, Annotations: change.Annotations}}
	for key, data := range change.Data {
		if o.Kind == spec.KindSecret {
			a.Data[key] = base64.StdEncoding.EncodeToString(data)
		} else {
			a.Data[key] = string(data)
		}
	}
	if o.Kind == spec.KindSecret {
		a.Type = reconcile.TypeTLS
	}
	return a
}
