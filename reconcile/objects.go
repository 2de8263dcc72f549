package reconcile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/certsync/certsync/reconcile/pki"
	"github.com/certsync/certsync/spec"
)

// ObjectStore reads and writes the outputs that are in objects of Kubernetes
// clusters. Its methods may be called concurrently, return soon after ctx ends, and
// write nothing on this machine.
type ObjectStore interface {
	// Objects observes objects, one result for each. That an object is not there is
	// an observation; whatever else keeps it from being read is an error in its
	// result. One that is not there because its namespace is not, or is being
	// deleted, has an error that wraps ErrNamespace. Who wants many objects gives
	// all of them at once: that may take fewer calls.
	Objects(ctx context.Context, wanted []*spec.Object) []ObservedObject

	// ApplyObject makes one object as the change says, wholly or not at all. After an
	// error it is as it was; only if that wraps ErrUnanswered, it may also be as it
	// was to be. The namespace is not made.
	ApplyObject(ctx context.Context, change ObjectChange) error

	// RemoveObject removes an object, if it still is what was observed. That it is
	// gone already is no error.
	RemoveObject(ctx context.Context, object *spec.Object, uid, version string) error
}

// ErrNamespace is wrapped by the error of an object whose namespace is not there, or
// is being deleted.
var ErrNamespace = errors.New("no such namespace")

// ErrUnanswered is wrapped by the error of a call of which it is not known whether it
// was done.
var ErrUnanswered = errors.New("no answer")

// ObservedObject is what an ObjectStore found.
type ObservedObject struct {
	Err    error
	Exists bool
	// UID tells the object from every other one that ever had its name, Version
	// its present state from every other one.
	UID, Version string
	// Type is that of a Secret.
	Type                string
	Immutable           bool
	Labels, Annotations map[string]string
	Data                map[string]Secret
	// Mine are the fields that certsync wrote last, and Others by whom other fields
	// are written: data/KEY, label/NAME, annotation/NAME and type. A field may be in
	// both, if all agree on it.
	Mine   []string
	Others map[string]string
}

// ObjectChange is what one object is to be like.
type ObjectChange struct {
	Object *spec.Object
	// Data, Labels and Annotations are all that certsync has in the object: what it
	// wrote before, and is not in them, is removed. What others wrote stays.
	Data                map[string]Secret
	Labels, Annotations map[string]string
	// Version is that of the object which the change is for. If it has another one
	// by now, that is an error; if it is gone, it is made anew. Empty: the object
	// was not there.
	Version string
	// Force takes fields from whoever writes them, too. Without it, that somebody
	// else wants another value is an error.
	Force bool
}

// ObjectState is what was found of one object, its data apart.
type ObjectState struct {
	Object              *spec.Object
	Exists              bool
	UID, Version, Type  string
	Immutable           bool
	Labels, Annotations map[string]string
	Mine                []string
	Others              map[string]string
	// Left tells to whom the object is left, because they write it again and again.
	Left string
}

// TypeTLS is the type of the Secrets that hold outputs.
const TypeTLS = "kubernetes.io/tls"

// The annotations of an object that tell what is in it.
const (
	NoteCertificate = spec.NotePrefix + "certificate" // its path in the spec
	NoteIssuer      = spec.NotePrefix + "issuer"      // absent for self-signed
	NoteFingerprint = spec.NotePrefix + "fingerprint"
	NoteSpecDigest  = spec.NotePrefix + "spec-digest" // for which it was issued
)

// Read observes one output, wherever it is.
func (b Backends) Read(ctx context.Context, out spec.Output) (Observation, error) {
	if out.Object == nil {
		return b.Store.Read(ctx, out)
	}
	found, err := b.object(ctx, out.Object)
	if err != nil {
		return Observation{}, err
	}
	return found.observation(out), nil
}

// object observes one object.
func (b Backends) object(ctx context.Context, object *spec.Object) (ObservedObject, error) {
	if b.Objects == nil {
		return ObservedObject{}, fmt.Errorf("%s: no access to clusters", object)
	}
	found := b.Objects.Objects(ctx, []*spec.Object{object})[0]
	return found, found.Err
}

// observation returns what an object tells of one of its keys.
func (o *ObservedObject) observation(out spec.Output) Observation {
	data, ok := o.Data[out.DataKey]
	if !o.Exists || !ok {
		return Observation{}
	}
	return Observation{Exists: true, Data: data, File: FileID{Object: o.UID}}
}

// errContested is wrapped by the error of a certificate that has no place any more
// but those that others write.
var errContested = errors.New("no output is left")

// checkLeft makes sure that there still is a place for the key and for the
// certificate.
func (s *CertState) checkLeft(c *spec.Certificate) error {
	key, leaf := false, false
	var left *ObjectState
	for _, out := range c.Outputs {
		if s.left(out) {
			left = s.object(out.Object)
			continue
		}
		key, leaf = key || out.Form.HoldsKey(), leaf || out.Form.HoldsLeaf()
	}
	if left == nil || key && leaf {
		return nil
	}
	return hintedError{fmt.Errorf("%w: %s", errContested, left.leftTo()), left.giveBack(c)}
}

// leftTo says to whom an object is left.
func (o *ObjectState) leftTo() string {
	return fmt.Sprintf("%s is left to %s, who wrote it again each time certsync had", o.Object, o.Left)
}

func (o *ObjectState) giveBack(c *spec.Certificate) string {
	return fmt.Sprintf("stop the other writer, then delete the %s, or run apply --replace %s", o.Object.Kind, c.ID)
}

// mine tells whether certsync wrote the object before, whoever did since.
func (o *ObjectState) mine(record *Record) bool {
	return len(o.Mine) > 0 || record.wrote(o.Object)
}

// contestant names who else writes what the certificate has in the object; nothing
// if nobody does. Another certsync has the same name as this one, but leaves another
// note.
func (o *ObjectState) contestant(c *spec.Certificate, record *Record) string {
	if !o.Exists {
		return ""
	}
	for _, out := range c.Outputs {
		if who := o.Others["data/"+out.DataKey]; out.Object == o.Object && who != "" {
			return fmt.Sprintf("%q", who)
		}
	}
	if !slices.Contains(o.Mine, "annotation/"+NoteFingerprint) {
		return ""
	}
	if of := o.Annotations[NoteCertificate]; of != "" && of != c.ID.String() {
		return fmt.Sprintf("the certsync that has %s", of)
	}
	there := o.Annotations[NoteFingerprint]
	if record.wrote(o.Object) && record.Fingerprint != "" && there != record.Fingerprint && there != record.contest(o.Object).Before {
		return "another certsync"
	}
	return ""
}

// maxRounds is how often something is taken back from somebody else who writes it.
const maxRounds = 3

// Contest counts how often an object was taken back from somebody else who writes
// it: its data, and its labels and annotations. What is written without being
// contested ends the count.
type Contest struct {
	Data int `json:"data,omitempty"`
	Meta int `json:"meta,omitempty"`
	// Before is the fingerprint that the object noted before a write that failed, or
	// was not answered: that it is still there is nobody's doing.
	Before string `json:"before,omitempty"`
}

func (r *Record) contest(o *spec.Object) Contest {
	if r == nil {
		return Contest{}
	}
	return r.Contests[o.String()]
}

// wrote tells whether the record has outputs in the object.
func (r *Record) wrote(o *spec.Object) bool {
	return r != nil && slices.ContainsFunc(r.Outputs, func(out RecordedOutput) bool {
		return out.Object != nil && keyOf(out.Object.object()) == keyOf(o)
	})
}

// RecordedObject is an object that holds an output.
type RecordedObject struct {
	Kind      spec.ObjectKind `json:"kind"`
	Namespace string          `json:"namespace"`
	Name      string          `json:"name"`
	// Cluster is what the spec called the cluster, empty for the default one, and
	// Kubeconfig and Context how it was reached.
	Cluster    string `json:"cluster,omitempty"`
	Kubeconfig string `json:"kubeconfig,omitempty"`
	Context    string `json:"context,omitempty"`
}

func recordedObject(o *spec.Object) *RecordedObject {
	if o == nil {
		return nil
	}
	r := &RecordedObject{Kind: o.Kind, Namespace: o.Namespace, Name: o.Name}
	if c := o.Cluster; c != nil {
		r.Cluster, r.Kubeconfig, r.Context = c.Name, c.Kubeconfig, c.Context
	}
	return r
}

func (r *RecordedObject) object() *spec.Object {
	o := &spec.Object{Kind: r.Kind, Namespace: r.Namespace, Name: r.Name}
	if r.Cluster != "" {
		o.Cluster = &spec.Cluster{Name: r.Cluster, Kubeconfig: r.Kubeconfig, Context: r.Context}
	}
	return o
}

// notes returns the annotations that tell what is in an object.
func notes(c *spec.Certificate, fingerprint pki.Fingerprint, digest string) map[string]string {
	n := map[string]string{NoteCertificate: c.ID.String(), NoteFingerprint: fingerprint.String(), NoteSpecDigest: digest}
	if c.Issuer != "" {
		n[NoteIssuer] = c.Issuer
	}
	return n
}

// wantedMeta returns the labels and annotations that an object is to have. Those
// that somebody else has set again and again are left alone, and told.
func (o *ObjectState) wantedMeta(notes map[string]string, contest Contest) (labels, annotations map[string]string, left []string) {
	labels, annotations = map[string]string{spec.ManagedBy: "certsync"}, maps.Clone(notes)
	for _, l := range o.Object.Labels {
		labels[l.Name] = l.Value
	}
	for _, a := range o.Object.Annotations {
		annotations[a.Name] = a.Value
	}
	if contest.Meta < maxRounds {
		return labels, annotations, nil
	}
	drop := func(kind string, want, have map[string]string) {
		for _, name := range slices.Sorted(maps.Keys(want)) {
			if who := o.Others[kind+"/"+name]; who != "" && have[name] != want[name] {
				left = append(left, fmt.Sprintf("the %s %s of %s is left to %q, who sets it again each time", kind, name, o.Object, who))
				delete(want, name)
			}
		}
	}
	drop("label", labels, o.Labels)
	drop("annotation", annotations, o.Annotations)
	return labels, annotations, left
}

// digest sums up what was observed of an object.
func (o *ObjectState) digest(w io.Writer) {
	fmt.Fprintf(w, "object %s %t %s %s %t %q %q %q %q\n", o.Object, o.Exists, o.UID, o.Type, o.Immutable, o.Labels, o.Annotations, o.Mine, o.Others)
}

// isGone tells whether an object is not there, be it with its namespace.
func isGone(o ObservedObject) bool {
	return o.Err == nil && !o.Exists || errors.Is(o.Err, ErrNamespace)
}

// wholly tells whether the object is what certsync wrote for a certificate, and
// nothing else.
func (o *ObservedObject) wholly(id spec.ID, recs []RecordedOutput) bool {
	if len(o.Mine) == 0 || o.Annotations[NoteCertificate] != id.String() || len(o.Data) != len(recs) {
		return false
	}
	for _, rec := range recs {
		data, ok := o.Data[rec.DataKey]
		if !ok || digestOf(data) != rec.Digest {
			return false
		}
	}
	return true
}
