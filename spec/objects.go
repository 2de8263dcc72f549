package spec

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"
)

// ObjectKind is a kind of object in a Kubernetes cluster.
type ObjectKind string

// The kinds of objects that hold outputs.
const (
	KindSecret    ObjectKind = "Secret"    // of the type kubernetes.io/tls
	KindConfigMap ObjectKind = "ConfigMap" // for the certificate of a CA
)

// Object is an object of a Kubernetes cluster that holds outputs: all the outputs
// with the same Object change together.
type Object struct {
	Kind ObjectKind
	// Cluster is nil for the defaults (see Cluster.Kubeconfig).
	Cluster         *Cluster `json:",omitempty"`
	Namespace, Name string
	// Labels and Annotations are those that the spec asks for, sorted by name.
	Labels, Annotations []Label `json:",omitempty"`
}

// Label is one label or annotation.
type Label struct{ Name, Value string }

// String returns how plans and messages name the object: prod:dev/secret/jane-tls,
// without prod: in the default cluster.
func (o *Object) String() string {
	s := o.Namespace + "/" + strings.ToLower(string(o.Kind)) + "/" + o.Name
	if o.Cluster != nil {
		s = o.Cluster.Name + ":" + s
	}
	return s
}

// Field returns the key under a certificate that states objects of the kind.
func (k ObjectKind) Field() string {
	if k == KindConfigMap {
		return "configMap"
	}
	return "secret"
}

// ManagedBy is the label, with the value certsync, of all objects that certsync
// writes; annotations below NotePrefix are its own.
const (
	ManagedBy  = "app.kubernetes.io/managed-by"
	NotePrefix = "certsync/"
)

// objectTarget is an object as it is stated.
type objectTarget struct {
	Object
	key       string // of a ConfigMap
	keystores [len(keystoreForms)]keystoreTarget
	pos       Position
}

// Keys of keystores in a Secret, as cert-manager names them.
var keystoreKeys = [len(keystoreForms)]string{"keystore.p12", "keystore.jks"}

var (
	secretTable = newTable("a Secret", append(objectFields[:len(objectFields):len(objectFields)],
		field[*objectTarget]{name: "pkcs12", doc: "A PKCS#12 file in the Secret, beside tls.crt and tls.key.", shape: secretPKCS12Table.shape(),
			decode: func(d *loader, v value, t *objectTarget) { d.objectKeystore(v, t, 0, secretPKCS12Table) }},
		field[*objectTarget]{name: "jks", doc: "A Java keystore of the old format JKS in the Secret.", shape: secretJKSTable.shape(),
			decode: func(d *loader, v value, t *objectTarget) { d.objectKeystore(v, t, 1, secretJKSTable) }}))
	configMapTable = newTable("a ConfigMap", append(objectFields[:len(objectFields):len(objectFields)],
		field[*objectTarget]{name: "key", doc: "Key of the certificate in the ConfigMap; ca.crt by default.", shape: stringShape,
			decode: func(d *loader, v value, t *objectTarget) { t.key = d.dataKey(v) }}))

	secretPKCS12Table = newTable("a PKCS#12 file in a Secret", inObject(pkcs12Table.fields, keystoreKeys[0]))
	secretJKSTable    = newTable("a Java keystore in a Secret", inObject(jksTable.fields, keystoreKeys[1]))
)

var objectFields = []field[*objectTarget]{
	{name: "cluster", doc: "Name of the cluster; without one, the kubeconfig or service account that kubectl would use.", shape: stringShape,
		decode: func(d *loader, v value, t *objectTarget) { t.Cluster = d.clusterNamed(v) }},
	{name: "namespace", required: true, doc: "The namespace, which must exist.", shape: stringShape,
		decode: func(d *loader, v value, t *objectTarget) { t.Namespace = d.dnsLabel(v) }},
	{name: "name", required: true, doc: "The object's name.", shape: stringShape,
		decode: func(d *loader, v value, t *objectTarget) { t.Name = d.dnsSubdomain(v) }},
	{name: "labels", doc: "Labels that the object must have.", shape: labelsShape,
		decode: func(d *loader, v value, t *objectTarget) { t.Labels = d.labels(v) }},
	{name: "annotations", doc: "Annotations that the object must have.", shape: labelsShape,
		decode: func(d *loader, v value, t *objectTarget) { t.Annotations = d.annotations(v) }},
}

var labelsShape = shape{schema: schema{"type": "object", "additionalProperties": schema{"type": []string{"string", "number"}}}}

// inObject returns the fields of a keystore that is not a file.
func inObject(fields []field[*keystoreTarget], key string) []field[*keystoreTarget] {
	list := []field[*keystoreTarget]{{name: "key", doc: "Key in the Secret; " + key + " by default.", shape: stringShape,
		decode: func(d *loader, v value, t *keystoreTarget) { t.path = d.dataKey(v) }}}
	for _, f := range fields {
		if !slices.Contains([]string{"path", "mode", "owner", "group"}, f.name) {
			list = append(list, f)
		}
	}
	return list
}

// oneOrMore is a mapping or a list of them.
func oneOrMore(s shape) shape {
	return shape{schema: schema{"anyOf": []schema{s.schema, {"type": "array", "items": s.schema}}}, fields: s.fields}
}

// objects decodes one object or a list of them.
func (d *loader) objects(v value, kind ObjectKind) []*objectTarget {
	table := secretTable
	if kind == KindConfigMap {
		table = configMapTable
	}
	items := []value{v}
	if v.node.Kind == yaml.SequenceNode {
		items, _ = d.items(v)
		if len(items) == 0 {
			d.problem(v, "has no items")
		}
	}
	targets := make([]*objectTarget, 0, len(items))
	for _, item := range items {
		t := &objectTarget{Object: Object{Kind: kind}, pos: item.pos()}
		table.decode(d, item, t)
		targets = append(targets, t)
	}
	return targets
}

// objectKeystore decodes a keystore in a Secret. Its path is its key there.
func (d *loader) objectKeystore(v value, t *objectTarget, index int, table *table[*keystoreTarget]) {
	k := keystoreTarget{target: target{path: keystoreKeys[index]}}
	if keystoreForms[index] == FormPKCS12 {
		k.Profile = ProfileModern2023
	}
	table.decode(d, v, &k)
	k.pos = v.pos()
	d.keystorePasswords(v, k.Profile, v.node.Kind == yaml.MappingNode)
	t.keystores[index] = k
}

// outputs returns what is stated to be in the object; none if it was not stated
// well enough. name is the certificate's.
func (t *objectTarget) outputs(d *loader, whole value, name string) []Output {
	if t.Namespace == "" || t.Name == "" {
		return nil
	}
	object := &t.Object
	member := func(form Form, key string) Output {
		return Output{Form: form, Path: object.String() + "#" + key, Object: object, DataKey: key, Pos: t.pos}
	}
	if t.Kind == KindConfigMap {
		return []Output{member(FormCertificate, cmp.Or(t.key, DirCA))}
	}
	list := []Output{member(FormFullChain, DirCertificate), member(FormPrivateKey, DirPrivateKey), member(FormCA, DirCA)}
	for i := range t.keystores {
		k := &t.keystores[i]
		if k.path == "" {
			continue
		}
		for _, o := range list {
			if o.DataKey == k.path {
				d.problems = append(d.problems, Problem{Pos: k.pos, Path: whole.path.String() + "." + t.Kind.Field() + "." + string(keystoreForms[i]),
					Message: "the key " + strconv.Quote(k.path) + " is that of another output in the Secret"})
			}
		}
		o := member(keystoreForms[i], k.path)
		keystore := k.Keystore
		keystore.Alias = cmp.Or(keystore.Alias, name)
		o.Keystore = &keystore
		list = append(list, o)
	}
	return list
}

// finishObjects makes the outputs in clusters.
func (d *loader) finishObjects(c *draft, whole value) {
	for _, t := range slices.Concat(c.secrets, c.configMaps) {
		c.Outputs = append(c.Outputs, t.outputs(d, whole, c.Name)...)
	}
	if c.states("secret") && c.PrivateKey.Password != nil {
		d.hinted(c.at("secret", whole), "leave out privateKey.passwordFile and passwordEnv, or the Secret",
			"who reads tls.key in a Secret of the type kubernetes.io/tls has no password for it")
	}
}

// objectID identifies an object whatever name its cluster has.
type objectID struct {
	kind                                 ObjectKind
	kubeconfig, context, namespace, name string
}

// claimObject takes an object, which may be the output of one certificate only.
func (t *targets) claimObject(c claim) {
	o := c.cert.Outputs[c.output].Object
	id := objectID{kind: o.Kind, namespace: o.Namespace, name: o.Name}
	if o.Cluster != nil {
		id.kubeconfig, id.context = t.resolved(o.Cluster.Kubeconfig), o.Cluster.Context
	}
	first, twice := t.objects[id]
	if !twice {
		t.objects[id] = c
		return
	}
	if first.path() == c.path() {
		t.problem(c, "%s is also the target of %s", c.path(), first)
		return
	}
	t.problem(c, "%s is the same object as %s, the target of %s", c.path(), first.path(), first)
}
