package spec

import (
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Cluster is how a Kubernetes cluster is reached.
type Cluster struct {
	Name string
	// Kubeconfig is an absolute path; empty for the defaults: the files that
	// KUBECONFIG names, ~/.kube/config, or the service account of the pod.
	Kubeconfig string
	// Context names a context of the kubeconfig; empty for its current one.
	Context string
	Pos     Position
}

// Kubernetes is a signer that is asked through the certificates.k8s.io API.
type Kubernetes struct {
	// Cluster is nil for the defaults (see Cluster.Kubeconfig).
	Cluster    *Cluster
	SignerName string
	// Approve tells that certsync approves its own requests.
	Approve bool
	// Timeout is how long apply --wait waits for an answer.
	Timeout time.Duration
	// CA is the absolute path of a file with the signer's CAs, as the API returns
	// a certificate and its intermediates only. Empty: the cluster's own CA takes
	// its place where a trust anchor is needed (see NeedsAnchor).
	CA string `json:",omitempty"`
}

// The signers of kube-controller-manager.
const (
	SignerAPIServerClient        = "kubernetes.io/kube-apiserver-client"
	SignerAPIServerClientKubelet = "kubernetes.io/kube-apiserver-client-kubelet"
	SignerKubeletServing         = "kubernetes.io/kubelet-serving"

	signerLegacyUnknown = "kubernetes.io/legacy-unknown"
)

var builtinSigners = []string{SignerAPIServerClient, SignerAPIServerClientKubelet, SignerKubeletServing}

// BuiltIn tells whether the signer is one of kube-controller-manager's: they sign
// with the cluster's own CA unless it is told otherwise.
func (k *Kubernetes) BuiltIn() bool { return slices.Contains(builtinSigners, k.SignerName) }

// Remote tells whether the issuer's answer may take its time.
func (i *Issuer) Remote() bool { return i.Kubernetes != nil }

// NeedsAnchor tells whether an output of the form holds the trust anchor.
func (f Form) NeedsAnchor() bool { return f == FormCA || f.IsKeystore() }

// NeedsAnchor tells whether any output of the certificate holds the trust anchor.
func (c *Certificate) NeedsAnchor() bool {
	return slices.ContainsFunc(c.Outputs, func(o Output) bool { return o.Form.NeedsAnchor() })
}

// Cluster returns the cluster of the name, or nil.
func (s *Spec) Cluster(name string) *Cluster {
	for _, c := range s.Clusters {
		if c.Name == name {
			return c
		}
	}
	return nil
}

// defaultTimeout is how long apply --wait waits if the issuer does not say.
const defaultTimeout = 10 * time.Minute

var clusterTable = newTable("a cluster", []field[*Cluster]{
	{name: "kubeconfig", doc: "Path of a kubeconfig; by default what KUBECONFIG names, ~/.kube/config, or the pod's service account.",
		shape:  stringShape,
		decode: func(d *loader, v value, c *Cluster) { c.Kubeconfig = d.path(v) }},
	{name: "context", doc: "Name of a context in the kubeconfig; by default its current one.",
		shape:  stringShape,
		decode: func(d *loader, v value, c *Cluster) { setWord(d, v, &c.Context) }},
})

var kubernetesTable = newTable("a kubernetes issuer", []field[*Kubernetes]{
	{name: "cluster", doc: "Name of the cluster; without one, the kubeconfig or service account that kubectl would use.",
		shape:  stringShape,
		decode: func(d *loader, v value, k *Kubernetes) { k.Cluster = d.clusterNamed(v) }},
	{name: "signerName", required: true, doc: "The signer, such as kubernetes.io/kube-apiserver-client.",
		hint:  "kube-controller-manager's are " + strings.Join(builtinSigners, ", "),
		shape: stringShape, decode: (*loader).signerName},
	{name: "approve", doc: "Whether certsync approves its own requests; false by default: somebody else has to.",
		shape: scalarShape(schema{"enum": []any{true, false, "true", "false"}}),
		decode: func(d *loader, v value, k *Kubernetes) {
			if b, ok := d.boolean(v); ok {
				k.Approve = b
			}
		}},
	{name: "timeout", doc: "How long apply --wait waits for the certificate; 10m by default.",
		shape: durationShape(""),
		decode: func(d *loader, v value, k *Kubernetes) {
			if n, ok := d.lifetime(v); ok {
				k.Timeout = n
			}
		}},
	{name: "ca", doc: "File with the signer's CA, for outputs that hold the trust anchor; by default the cluster's own, for Kubernetes' own signers.",
		shape:  stringShape,
		decode: func(d *loader, v value, k *Kubernetes) { k.CA = d.path(v) }},
})

// loadClusters decodes the clusters, used or not.
func (d *loader) loadClusters() {
	for _, e := range d.clusters.list {
		if !d.checkName(e.key, e.name) {
			continue
		}
		c := &Cluster{Name: e.name, Pos: e.key.pos()}
		d.spec.Clusters = append(d.spec.Clusters, c)
		if e.value.isNull() {
			continue
		}
		clusterTable.decode(d, e.value, c)
	}
}

func (d *loader) kubernetes(v value, is *issuer) {
	is.kubernetes = &Kubernetes{Timeout: defaultTimeout}
	kubernetesTable.decode(d, v, is.kubernetes)
}

// clusterNamed returns the cluster that v names, or nil after reporting that there
// is none.
func (d *loader) clusterNamed(v value) *Cluster {
	name, ok := d.word(v)
	if !ok {
		return nil
	}
	if c := d.spec.Cluster(name); c != nil {
		return c
	}
	if _, stated := d.clusters.byName[name]; stated {
		return nil // its name is bad, which is reported
	}
	var names []string
	for _, c := range d.spec.Clusters {
		names = append(names, c.Name)
	}
	d.hinted(v, "state it under clusters", "unknown cluster %q%s", shorten(name), didYouMean(name, names))
	return nil
}

// signerRE is the syntax of signer names: a domain of several labels, a slash,
// and names with dots between. The lengths are checked apart.
var signerRE = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)+/` +
	`[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`)

const maxSignerName = 571

// signerName decodes the name of a signer. One that nobody listens to would let
// its requests lie for ever, so those that Kubernetes keeps for itself are known.
func (d *loader) signerName(v value, k *Kubernetes) {
	s, ok := d.word(v)
	if !ok {
		return
	}
	domain, _, _ := strings.Cut(s, "/")
	long := func(label string) bool { return len(label) > 63 }
	switch reserved := domain == "kubernetes.io" || strings.HasSuffix(domain, ".kubernetes.io"); {
	case s == signerLegacyUnknown:
		d.hinted(v, "for clients of the apiserver there is "+SignerAPIServerClient, "certificates.k8s.io/v1 refuses requests for %s", s)
	case len(s) > maxSignerName || !signerRE.MatchString(s) || len(domain) > 253 || slices.ContainsFunc(strings.Split(domain, "."), long):
		d.hinted(v, "write example.com/my-signer", "bad signer name %q: a domain and a name, in lower case, with one slash between", shorten(s))
	case reserved && !slices.Contains(builtinSigners, s):
		hint := "known are " + strings.Join(builtinSigners, ", ")
		d.hinted(v, hint, "Kubernetes has no signer %q%s", s, didYouMean(s, builtinSigners))
	}
	k.SignerName = s
}

// Limits of certificates.k8s.io/v1 on spec.expirationSeconds.
const (
	minExpiration = 10 * time.Minute
	maxExpiration = math.MaxInt32 * time.Second
)

// preflight checks a certificate against what its signer serves: what the signer
// would refuse, or let lie without a word, is told before anything is asked.
func (d *loader) preflight(c *draft, is *issuer, whole value) {
	k := is.kubernetes
	if c.CA != nil {
		d.hinted(c.at("issuer", whole), "sign it with an issuer of the kind ca, or let it sign itself", "issuer %q signs no CAs: %s answers for leaves only", is.name, orSigner(k.SignerName))
		return
	}
	at := c.at("duration", whole)
	switch {
	case c.Duration < minExpiration:
		d.problem(at, "%s is shorter than a certificate request may ask for, %s", FormatDuration(c.Duration), FormatDuration(minExpiration))
	case c.Duration > maxExpiration:
		d.problem(at, "%s is longer than a certificate request may ask for", FormatDuration(c.Duration))
	}
	if len(c.Usages) == 0 {
		d.hinted(c.at("usages", whole), "state profile: client or profile: server", "a certificate request must state usages")
		return
	}
	d.preflightAnchor(c, is)
	switch k.SignerName {
	case SignerAPIServerClient:
		d.onlyUsages(c, k, UsageClientAuth, whole)
		if slices.Contains(c.Subject.Organizations, "system:masters") {
			d.hinted(c.at("subject.organizations", whole), "use another group, and bind it to the role cluster-admin",
				"the apiserver refuses requests to %s for the group system:masters", k.SignerName)
		}
		if c.CommonName == "" {
			d.warn(whole, "has no commonName, which is the user: the apiserver will not know whose it is")
		}
	case SignerAPIServerClientKubelet:
		d.onlyUsages(c, k, UsageClientAuth, whole)
		d.requireUsage(c, k, UsageDigitalSignature, whole)
		d.nodeSubject(c, k, whole)
		if field := firstStated(c, "dnsNames", "ipAddresses", "uris", "emailAddresses"); field != "" {
			d.problem(c.at(field, whole), "%s allows no subject alternative names", k.SignerName)
		}
	case SignerKubeletServing:
		d.onlyUsages(c, k, UsageServerAuth, whole)
		d.requireUsage(c, k, UsageDigitalSignature, whole)
		d.nodeSubject(c, k, whole)
		if field := firstStated(c, "uris", "emailAddresses"); field != "" {
			d.problem(c.at(field, whole), "%s allows DNS names and IP addresses only", k.SignerName)
		}
		if firstStated(c, "dnsNames", "ipAddresses") == "" && firstStated(c, "uris", "emailAddresses") != "" {
			d.problem(whole, "%s wants a DNS name or an IP address", k.SignerName)
		}
	}
}

func orSigner(name string) string {
	if name == "" {
		return "the signer"
	}
	return name
}

// preflightAnchor checks that the trust anchor is known where an output holds it.
func (d *loader) preflightAnchor(c *draft, is *issuer) {
	k := is.kubernetes
	if k.CA != "" || k.BuiltIn() || k.SignerName == "" {
		return
	}
	for _, o := range c.Outputs {
		if o.Form.NeedsAnchor() {
			field, _, _ := strings.Cut(o.Field(), "/")
			d.problems = append(d.problems, Problem{Pos: o.Pos, Path: c.ID.String() + "." + field,
				Message: "the trust anchor of issuer " + strconv.Quote(is.name) + " is not known: a certificate request is answered without it",
				Hint:    "state ca: FILE with the CA of " + k.SignerName + " under issuers." + is.name + ".kubernetes"})
			return
		}
	}
}

// onlyUsages checks that the usages are the one that the signer is for, and those
// that go with any key.
func (d *loader) onlyUsages(c *draft, k *Kubernetes, purpose Usage, whole value) {
	at := c.at("usages", whole)
	for _, u := range c.Usages {
		if u != purpose && u != UsageDigitalSignature && u != UsageKeyEncipherment {
			d.problem(at, "%s refuses the usage %q", k.SignerName, u)
		}
	}
	d.requireUsage(c, k, purpose, whole)
}

func (d *loader) requireUsage(c *draft, k *Kubernetes, u Usage, whole value) {
	if slices.Contains(c.Usages, u) {
		return
	}
	hint := "state usages: [digital signature, server auth]"
	if k.SignerName != SignerKubeletServing {
		hint = "state profile: client"
	}
	d.hinted(c.at("usages", whole), hint, "%s wants the usage %q", k.SignerName, u)
}

// nodeSubject checks that the subject is that of a node.
func (d *loader) nodeSubject(c *draft, k *Kubernetes, whole value) {
	if !slices.Equal(c.Subject.Organizations, []string{"system:nodes"}) {
		d.hinted(c.at("subject.organizations", whole), "state subject: {organizations: [system:nodes]}",
			"%s wants exactly the organization system:nodes", k.SignerName)
	}
	if !strings.HasPrefix(c.CommonName, "system:node:") {
		d.hinted(c.at("commonName", whole), "state commonName: system:node:NAME", "%s wants a commonName that starts with system:node:", k.SignerName)
	}
}

// firstStated returns the first of the fields that has names in it.
func firstStated(c *draft, fields ...string) string {
	for _, f := range fields {
		if n := map[string]int{"dnsNames": len(c.DNSNames), "ipAddresses": len(c.IPAddresses),
			"uris": len(c.URIs), "emailAddresses": len(c.EmailAddresses)}[f]; n > 0 {
			return f
		}
	}
	return ""
}
