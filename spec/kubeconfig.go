package spec

import (
	"net/url"
	"regexp"
	"slices"
	"strconv"
)

// defaultCluster is what kubeadm calls its cluster.
const defaultCluster = "kubernetes"

// kubeconfigTarget is a kubeconfig as it is stated.
type kubeconfigTarget struct {
	target
	Kubeconfig
	byPath bool // names the files that hold key and certificate
}

func (d *loader) kubeconfig(v value, c *draft) {
	t := &kubeconfigTarget{target: target{pos: v.pos()}}
	kubeconfigTable.decode(d, v, t)
	if mode, ok := peek(v, "mode"); ok {
		d.checkMode(mode, t.mode, !t.byPath)
	}
	c.kubeconfig = t
}

// finishKubeconfig adds the kubeconfig to the outputs, after those that it may
// name, and checks that the certificate is one that an apiserver lets in.
func (d *loader) finishKubeconfig(c *draft, whole value) {
	t := c.kubeconfig
	if t == nil {
		return
	}
	at := c.at("kubeconfig", whole)
	if c.CommonName == "" && !c.states("commonName") {
		d.hinted(at, "state commonName", "an apiserver takes the user's name from the commonName")
	}
	if !slices.Contains(c.Usages, UsageClientAuth) && !slices.Contains(c.Usages, UsageAny) &&
		slices.ContainsFunc(c.Usages, func(u Usage) bool { return slices.Index(Usages, u) >= slices.Index(Usages, UsageAny) }) {
		d.hinted(at, "use the profile client", "an apiserver lets in nobody without the usage %q", UsageClientAuth)
	}
	if c.PrivateKey.Password != nil {
		d.problem(at, "clients of Kubernetes cannot read an encrypted private key")
	}
	k := t.Kubeconfig
	if k.Cluster == "" {
		k.Cluster = defaultCluster
	}
	if k.User == "" {
		k.User = c.CommonName
	}
	if k.Context == "" {
		k.Context = k.User + "@" + k.Cluster
	}
	form := FormKubeconfig
	if t.byPath {
		form = FormKubeconfigPaths
		k.Certificate, k.PrivateKey = pair(c.Outputs)
		if k.Certificate == "" || k.PrivateKey == "" {
			d.hinted(at, "state files.combined, directory, or files.fullChain and files.privateKey",
				"with embed: false the certificate and the private key need files of their own")
		}
		if i := slices.IndexFunc(c.Outputs, func(o Output) bool { return o.Form == FormCA }); i >= 0 && k.CA == "" {
			k.CA = c.Outputs[i].Path
		}
	}
	if t.path == "" {
		return
	}
	o := t.target.output(form, "", t.path)
	o.Mode = privateMode
	if t.mode != 0 {
		o.Mode = t.mode
	}
	o.Kubeconfig = &k
	c.Outputs = append(c.Outputs, o)
}

// pair returns the outputs that a client reads its certificate and key from: one
// that has both, or those that change as one, before others.
func pair(outputs []Output) (certificate, key string) {
	find := func(set bool, forms ...Form) string {
		for _, f := range forms {
			for _, o := range outputs {
				if o.Form == f && (o.Dir != "") == set {
					return o.Path
				}
			}
		}
		return ""
	}
	if both := find(false, FormCombined); both != "" {
		return both, both
	}
	if chain := find(true, FormFullChain); chain != "" {
		return chain, find(true, FormPrivateKey)
	}
	return find(false, FormFullChain, FormCertificate), find(false, FormPrivateKey)
}

// serverURL decodes the URL of an apiserver. Without TLS no client shows a
// certificate.
func (d *loader) serverURL(v value) string {
	s, ok := d.word(v)
	if !ok {
		return ""
	}
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Hostname() == "" || !isPort(u.Port()):
		d.hinted(v, "write https://HOST:PORT", "not the URL of a server")
	case u.Scheme != "https":
		d.problem(v, "must start with https://: without TLS no certificate is shown")
	case u.User != nil:
		d.problem(v, "a URL here holds no user or password")
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		d.problem(v, "ends with the host, the port or a path, without ? and #")
	default:
		return s
	}
	return ""
}

// isPort tells whether s can be the port of a URL; none is.
func isPort(s string) bool {
	n, err := strconv.ParseUint(s, 10, 16)
	return s == "" || err == nil && n > 0
}

var proxySchemes = []string{"http", "https", "socks5"}

func (d *loader) proxyURL(v value) string {
	s, ok := d.word(v)
	if !ok {
		return ""
	}
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Hostname() == "" || !isPort(u.Port()):
		d.hinted(v, "write http://HOST:PORT", "not the URL of a proxy")
	case !slices.Contains(proxySchemes, u.Scheme):
		d.problem(v, "a proxy is reached by http, https or socks5, not %q", shorten(u.Scheme))
	case u.User != nil:
		d.problem(v, "a spec holds no secrets: a URL here has no user or password")
	default:
		return s
	}
	return ""
}

// tlsServerName decodes a DNS name or an IP address.
func (d *loader) tlsServerName(v value) string {
	s, ok := d.word(v)
	if !ok {
		return ""
	}
	if a, err := normalizeIP(s); err == nil {
		return a.String()
	}
	name, err := normalizeHost(s)
	if err != nil {
		d.problem(v, "bad server name %q: %s", shorten(s), err)
		return ""
	}
	return name
}

// label is what Kubernetes takes for the name of a namespace (RFC 1123).
var label = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)

func (d *loader) namespace(v value) string {
	s, ok := d.word(v)
	if ok && !label.MatchString(s) {
		d.problem(v, "bad namespace %q: it has up to 63 lower-case letters, digits and '-' within", shorten(s))
		return ""
	}
	return s
}
