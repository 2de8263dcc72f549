package pki

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"

	"github.com/certsync/certsync/spec"
)

// Kubeconfig is what a kubeconfig holds, be it ours or a stranger's. Other has the
// names of fields that state something and that this program does not know.
type Kubeconfig struct {
	CurrentContext string
	Clusters       []KubeCluster
	Users          []KubeUser
	Contexts       []KubeContext
	Other          []string
}

// KubeCluster is one cluster of a kubeconfig. URLs are without the password that
// they may hold.
type KubeCluster struct {
	Name, Server, TLSServerName, ProxyURL string
	// CAFile is the path of the server's CA, as it is stated; CA are certificates
	// in the kubeconfig itself, and CAErr tells why they cannot be read.
	CAFile string
	CA     []*x509.Certificate
	CAErr  error
	Other  []string
}

// KubeContext is one context of a kubeconfig.
type KubeContext struct {
	Name, Cluster, User, Namespace string
	Other                          []string
}

// KubeUser is one user of a kubeconfig.
type KubeUser struct {
	Name string
	// CertificateFile and KeyFile are paths, as they are stated.
	CertificateFile, KeyFile string
	// Other has credentials of other kinds, by name: token, exec, ….
	Other []string

	data *kubeUserData // a pointer, which formats as an address
}

// kubeUserData is what the kubeconfig itself holds of a user, in PEM.
type kubeUserData struct {
	certificate, key       []byte // nil for none
	certificateErr, keyErr error
}

// HoldsCertificate tells whether the kubeconfig itself holds a certificate.
func (u *KubeUser) HoldsCertificate() bool {
	return u.data.certificate != nil || u.data.certificateErr != nil
}

// HoldsKey tells whether the kubeconfig itself holds a private key.
func (u *KubeUser) HoldsKey() bool { return u.data.key != nil || u.data.keyErr != nil }

// Key returns the private key in the kubeconfig; the errors are those of ParseKey.
func (u *KubeUser) Key() (*Key, KeyInfo, error) {
	switch {
	case u.data.keyErr != nil:
		return nil, KeyInfo{}, u.data.keyErr
	case u.data.key == nil:
		return nil, KeyInfo{}, ErrNoKey
	}
	return ParseKey(u.data.key, nil)
}

// Chain returns the certificate in the kubeconfig and what follows it; the errors
// are those of ParseCertificates.
func (u *KubeUser) Chain() ([]*x509.Certificate, error) {
	switch {
	case u.data.certificateErr != nil:
		return nil, u.data.certificateErr
	case u.data.certificate == nil:
		return nil, ErrNoCertificate
	}
	certs, err := ParseCertificates(u.data.certificate)
	if errors.Is(err, ErrNoCertificate) {
		if form := CheckForm(u.data.certificate); form != nil {
			return nil, form
		}
	}
	return certs, err
}

// User returns the user of the name; if there is none, the one of the current
// context, and else the first. It is nil only without users.
func (k *Kubeconfig) User(name string) *KubeUser {
	find := func(name string) *KubeUser {
		i := slices.IndexFunc(k.Users, func(u KubeUser) bool { return u.Name == name })
		if i < 0 {
			return nil
		}
		return &k.Users[i]
	}
	if u := find(name); u != nil {
		return u
	}
	for _, c := range k.Contexts {
		if u := find(c.User); u != nil && c.Name == k.CurrentContext {
			return u
		}
	}
	if len(k.Users) == 0 {
		return nil
	}
	return &k.Users[0]
}

// kindConfig is found at the top of a kubeconfig in YAML or JSON.
var kindConfig = regexp.MustCompile(`(?m)^kind: *"?Config"?\s*$|^\{(\s*|.*[{,]\s*)"?kind"?: *"?Config\b|^\s*"kind": *"Config"`)

// IsKubeconfig tells whether data looks like a kubeconfig, be it malformed.
func IsKubeconfig(data []byte) bool {
	return bytes.Contains(data, []byte("clusters")) && kindConfig.Match(data)
}

// ParseKubeconfig reads a kubeconfig in YAML or JSON. What is in it is not judged:
// a key or certificate that is malformed is an error of who asks for it. One that
// may be good and is more than is read is ErrUnsupported. No error shows any part of
// a key.
func ParseKubeconfig(data []byte) (*Kubeconfig, error) {
	tree, err := spec.ReadYAML(data)
	if errors.Is(err, spec.ErrTooMuch) {
		return nil, unsupported("kubeconfig: %w", err)
	}
	if err != nil {
		return nil, fmt.Errorf("malformed kubeconfig: %w", err)
	}
	p := &kubeconfigParser{}
	k := p.kubeconfig(tree)
	if p.err != nil {
		return nil, fmt.Errorf("malformed kubeconfig: %w", p.err)
	}
	return k, nil
}

// kubeconfigParser reads the tree of a kubeconfig; err is the first error.
type kubeconfigParser struct{ err error }

func (p *kubeconfigParser) fail(format string, args ...any) {
	if p.err == nil {
		p.err = fmt.Errorf(format, args...)
	}
}

func (p *kubeconfigParser) kubeconfig(tree any) *Kubeconfig {
	m := p.mapping(tree, "it")
	if version := m.text("apiVersion"); version != "" && version != "v1" {
		p.fail("the version %q is not known", clip(version))
	}
	// clientcmd goes without a kind, too.
	if kind := m.text("kind"); kind != "Config" && (kind != "" || m.fields["users"] == nil) {
		p.fail("its kind is %q, not Config", clip(kind))
	}
	k := &Kubeconfig{CurrentContext: m.text("current-context")}
	for _, e := range m.list("clusters") {
		name, c := e.entry("cluster")
		cluster := KubeCluster{Name: name, Server: redacted(c.text("server")), TLSServerName: c.text("tls-server-name"),
			ProxyURL: redacted(c.text("proxy-url")), CAFile: c.text("certificate-authority")}
		if data, err := c.data("certificate-authority-data"); err != nil {
			cluster.CAErr = err
		} else if data != nil {
			cluster.CA, cluster.CAErr = ParseCertificates(data)
		}
		cluster.Other = c.rest()
		k.Clusters = append(k.Clusters, cluster)
	}
	for _, e := range m.list("users") {
		name, u := e.entry("user")
		user := KubeUser{Name: name, CertificateFile: u.text("client-certificate"), KeyFile: u.text("client-key"), data: &kubeUserData{}}
		user.data.certificate, user.data.certificateErr = u.data("client-certificate-data")
		user.data.key, user.data.keyErr = u.data("client-key-data")
		user.Other = u.rest()
		k.Users = append(k.Users, user)
	}
	for _, e := range m.list("contexts") {
		name, c := e.entry("context")
		k.Contexts = append(k.Contexts, KubeContext{Name: name, Cluster: c.text("cluster"), User: c.text("user"),
			Namespace: c.text("namespace"), Other: c.rest()})
	}
	k.Other = m.rest()
	return k
}

// kubeMapping is one mapping, from which fields are taken.
type kubeMapping struct {
	p      *kubeconfigParser
	name   string
	fields map[string]any
}

func (p *kubeconfigParser) mapping(v any, name string) kubeMapping {
	m, ok := v.(map[string]any)
	if !ok && v != nil {
		p.fail("%s is no mapping", name)
	}
	return kubeMapping{p, name, maps.Clone(m)}
}

func (m kubeMapping) take(name string) any {
	v := m.fields[name]
	delete(m.fields, name)
	return v
}

func (m kubeMapping) text(name string) string {
	v := m.take(name)
	s, ok := v.(string)
	if !ok && v != nil {
		m.p.fail("%s of %s is no string", name, m.name)
	}
	return s
}

// data decodes base64, as Go does for JSON: with padding, and without regard to
// line ends. It returns nil if the field states nothing.
func (m kubeMapping) data(name string) ([]byte, error) {
	text := m.text(name)
	if text == "" {
		return nil, nil
	}
	data, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, fmt.Errorf("%s is not base64", name) // where it goes wrong is nobody's business
	}
	return data, nil
}

func (m kubeMapping) list(name string) []kubeMapping {
	v := m.take(name)
	list, ok := v.([]any)
	if !ok && v != nil {
		m.p.fail("%s is no list", name)
	}
	entries := make([]kubeMapping, len(list))
	for i, item := range list {
		entries[i] = m.p.mapping(item, fmt.Sprintf("%s[%d]", name, i))
	}
	return entries
}

// entry returns the name and the content of an entry of a list.
func (m kubeMapping) entry(kind string) (string, kubeMapping) {
	name := m.text("name")
	content := m.p.mapping(m.take(kind), m.name+"."+kind)
	if content.fields == nil {
		content.fields = map[string]any{}
	}
	for _, other := range m.rest() { // beside the content, so that it is not lost
		content.fields[other+" beside "+kind] = m.fields[other]
	}
	return name, content
}

// rest names the fields that are left and state something.
func (m kubeMapping) rest() []string {
	var names []string
	for name, v := range m.fields {
		switch v := v.(type) {
		case nil:
		case string:
			if v != "" && v != "false" {
				names = append(names, name)
			}
		case []any:
			if len(v) > 0 {
				names = append(names, name)
			}
		case map[string]any:
			if len(v) > 0 {
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	return names
}

// redacted returns a URL without its password.
func redacted(s string) string {
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return "(not a URL)"
	case u.User != nil:
		return u.Redacted()
	}
	return s
}

// clip shortens what a stranger wrote for a message.
func clip(s string) string { return s[:min(len(s), 40)] }

// EncodeKubeconfig returns a kubeconfig of one cluster, one user and one context.
// With a FormKubeconfig it holds the key, encoded as enc says, and the chain;
// otherwise it names the files that the settings state. ca are the certificates
// that the server is checked with; without any the file that the settings state
// is named. The same arguments give the same bytes.
func EncodeKubeconfig(form spec.Form, m Material, ca []*x509.Certificate, k *spec.Kubeconfig, enc spec.Encoding) ([]byte, error) {
	var out bytes.Buffer
	field := func(indent, name, value string) {
		if value != "" {
			fmt.Fprintf(&out, "%s%s: %s\n", indent, name, yamlScalar(value))
		}
	}
	data := func(indent, name string, value []byte) {
		field(indent, name, base64.StdEncoding.EncodeToString(value))
	}
	out.WriteString("apiVersion: v1\nclusters:\n- cluster:\n")
	switch {
	case len(ca) > 0:
		data("    ", "certificate-authority-data", EncodeCertificates(ca...))
	case k.CA != "":
		field("    ", "certificate-authority", k.CA)
	default:
		return nil, errors.New("the trust anchor is not known")
	}
	field("    ", "proxy-url", k.ProxyURL)
	field("    ", "server", k.Server)
	field("    ", "tls-server-name", k.TLSServerName)
	field("  ", "name", k.Cluster)
	out.WriteString("contexts:\n- context:\n")
	field("    ", "cluster", k.Cluster)
	field("    ", "namespace", k.Namespace)
	field("    ", "user", k.User)
	field("  ", "name", k.Context)
	field("", "current-context", k.Context)
	out.WriteString("kind: Config\nusers:\n")
	field("- ", "name", k.User)
	out.WriteString("  user:\n")
	if form == spec.FormKubeconfigPaths {
		field("    ", "client-certificate", k.Certificate)
		field("    ", "client-key", k.PrivateKey)
		return out.Bytes(), nil
	}
	if len(m.Chain) == 0 {
		return nil, errors.New("no certificate")
	}
	key, err := encodeKey(m, enc, nil)
	if err != nil {
		return nil, err
	}
	data("    ", "client-certificate-data", EncodeCertificates(m.Chain...))
	data("    ", "client-key-data", key)
	return out.Bytes(), nil
}

// plainScalar starts with what no number and no indicator starts with, and has no
// blank, colon or comment that could end it.
var (
	plainScalar = regexp.MustCompile(`^[A-Za-z/]([A-Za-z0-9._/@+=:-]*[A-Za-z0-9._/@+=-])?$`)
	yamlWords   = regexp.MustCompile(`^(?i:y|n|yes|no|on|off|true|false|null)$`)
)

// yamlScalar returns a string as YAML reads it back: plain, as kubectl writes it,
// if that can mean nothing else, and else in double quotes (YAML 1.2, section 7.3.1).
func yamlScalar(s string) string {
	if plainScalar.MatchString(s) && !yamlWords.MatchString(s) {
		return s
	}
	var out bytes.Buffer
	out.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			out.WriteByte('\\')
			out.WriteRune(r)
		case r < ' ' || r >= 0x7f && r < 0xa0 || r == 0x2028 || r == 0x2029 || r == 0xfeff || r == 0xfffe || r == 0xffff:
			fmt.Fprintf(&out, `\u%04x`, r)
		default:
			out.WriteRune(r)
		}
	}
	out.WriteByte('"')
	return out.String()
}
