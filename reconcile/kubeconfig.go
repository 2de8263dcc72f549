package reconcile

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/certsync/certsync/reconcile/pki"
	"github.com/certsync/certsync/spec"
)

// KubeconfigState is what a kubeconfig tells besides its key and chain.
type KubeconfigState struct {
	// The settings that it has. Paths are absolute.
	spec.Kubeconfig
	// CurrentContext names the context in use; ContextCluster and ContextUser are
	// what the context joins.
	CurrentContext, ContextCluster, ContextUser string
	// Anchors are the certificates in it that the server is checked with.
	Anchors []pki.Fingerprint
	// HoldsKey and HoldsCertificate tell whether it holds them itself.
	HoldsKey, HoldsCertificate bool
	// More names what is in it beyond one cluster, one user and one context.
	More []string
}

// kubeconfigUser returns the user whose key and certificate are the output's.
func kubeconfigUser(out spec.Output, data []byte) (*pki.KubeUser, error) {
	k, err := pki.ParseKubeconfig(data)
	if err != nil {
		return nil, err
	}
	if u := k.User(userName(out)); u != nil {
		return u, nil
	}
	return nil, pki.ErrNoKey
}

// userName is empty for an output that is known from a record only.
func userName(out spec.Output) string {
	if out.Kubeconfig == nil {
		return ""
	}
	return out.Kubeconfig.User
}

// kubeconfig observes a kubeconfig, and returns the leaf that it holds. One that
// certsync did not write, with credentials that are not its to replace, is an
// error; and so is a key or certificate that only may be intact.
func (o *observer) kubeconfig(out spec.Output, ours bool, data []byte, s *OutputState) (*x509.Certificate, error) {
	failed := func(err error) error { return fmt.Errorf("%s: read %s: %w", out.Field(), out.Path, err) }
	k, err := pki.ParseKubeconfig(data)
	switch {
	case errors.Is(err, pki.ErrUnsupported):
		return nil, failed(err)
	case err != nil && !ours && pki.IsKubeconfig(data):
		return nil, failed(foreignKubeconfigError("cannot be read: " + err.Error()))
	case err != nil:
		s.Malformed = err.Error()
		return nil, nil //nolint:nilerr // that it is malformed is an observation
	}
	user := k.User(userName(out))
	if others := otherCredentials(k, user); len(others) > 0 && !ours {
		return nil, failed(foreignKubeconfigError("holds other credentials: " + strings.Join(others, ", ")))
	}
	s.Kubeconfig = kubeconfigState(k, user, out)
	if user == nil {
		return nil, nil
	}
	bad := func(err error) error {
		switch {
		case errors.Is(err, pki.ErrPassword), errors.Is(err, pki.ErrUnsupported):
			return failed(err)
		case s.Malformed == "":
			s.Malformed = err.Error()
		}
		return nil
	}
	if user.HoldsKey() {
		if _, info, err := user.Key(); err == nil {
			s.Key = &info
		} else if err := bad(err); err != nil {
			return nil, err
		}
	}
	if !user.HoldsCertificate() {
		return nil, nil
	}
	chain, err := user.Chain()
	if err != nil {
		return nil, bad(err)
	}
	for _, cert := range chain {
		s.Certs = append(s.Certs, pki.CertificateFingerprint(cert))
	}
	return chain[0], nil
}

// otherCredentials names what a kubeconfig holds besides one client certificate.
func otherCredentials(k *pki.Kubeconfig, user *pki.KubeUser) []string {
	var others []string
	for i := range k.Users {
		switch u := &k.Users[i]; {
		case u != user:
			others = append(others, fmt.Sprintf("user %q", u.Name))
		case len(u.Other) > 0:
			others = append(others, fmt.Sprintf("%s of user %q", strings.Join(u.Other, ", "), u.Name))
		}
	}
	return others
}

// foreignKubeconfigError tells why a kubeconfig that certsync did not write is left
// alone; it is ErrUnsupported.
type foreignKubeconfigError string

func (e foreignKubeconfigError) Error() string { return "it is not of certsync, and " + string(e) }

func (foreignKubeconfigError) Is(target error) bool { return target == pki.ErrUnsupported }

// kubeconfigState gathers the settings of the entries that are the output's, by
// their names or, if those are others, by their places.
func kubeconfigState(k *pki.Kubeconfig, user *pki.KubeUser, out spec.Output) *KubeconfigState {
	absolute := func(path string) string {
		if path == "" || filepath.IsAbs(path) {
			return path
		}
		return filepath.Join(filepath.Dir(out.Path), path) // as clientcmd has it
	}
	s := &KubeconfigState{CurrentContext: k.CurrentContext, More: slices.Clone(k.Other)}
	var want spec.Kubeconfig
	if out.Kubeconfig != nil {
		want = *out.Kubeconfig
	}
	if user != nil {
		s.User = user.Name
		s.Certificate, s.PrivateKey = absolute(user.CertificateFile), absolute(user.KeyFile)
		s.HoldsKey, s.HoldsCertificate = user.HoldsKey(), user.HoldsCertificate()
		s.More = append(s.More, otherCredentials(k, user)...)
	}
	ours := max(0, slices.IndexFunc(k.Clusters, func(c pki.KubeCluster) bool { return c.Name == want.Cluster }))
	for i, c := range k.Clusters {
		if i != ours {
			s.More = append(s.More, fmt.Sprintf("cluster %q", c.Name))
			continue
		}
		s.Cluster, s.Server, s.TLSServerName, s.ProxyURL, s.CA = c.Name, c.Server, c.TLSServerName, c.ProxyURL, absolute(c.CAFile)
		for _, cert := range c.CA {
			s.Anchors = append(s.Anchors, pki.CertificateFingerprint(cert))
		}
		if c.CAErr != nil {
			s.More = append(s.More, fmt.Sprintf("a CA that cannot be read (%v)", c.CAErr))
		}
		s.More = append(s.More, c.Other...)
	}
	ours = max(0, slices.IndexFunc(k.Contexts, func(c pki.KubeContext) bool { return c.Name == want.Context }))
	for i, c := range k.Contexts {
		if i != ours {
			s.More = append(s.More, fmt.Sprintf("context %q", c.Name))
			continue
		}
		s.Context, s.ContextCluster, s.ContextUser, s.Namespace = c.Name, c.Cluster, c.User, c.Namespace
		s.More = append(s.More, c.Other...)
	}
	return s
}

// serverCA notes what is in the file that a kubeconfig takes for the CA of its
// server. That of an issuer is known without it.
func (o *observer) serverCA(out spec.Output, s *OutputState) error {
	k := out.Kubeconfig
	if out.Form != spec.FormKubeconfig || k == nil || k.CA == "" || k.CAIssuer != "" {
		return nil
	}
	certs, err := o.readServerCA(k.CA)
	if err != nil {
		return fmt.Errorf("%s: %w", out.Field(), err)
	}
	for _, cert := range certs {
		s.ServerCA = append(s.ServerCA, pki.CertificateFingerprint(cert))
	}
	return nil
}

func (b Backends) readServerCA(path string) ([]*x509.Certificate, error) {
	data, err := b.Input(path)
	if err != nil {
		return nil, fmt.Errorf("the server's CA: %w", err)
	}
	certs, err := pki.ParseCertificates(data)
	if err != nil {
		return nil, fmt.Errorf("the server's CA: read %s: %w", path, err)
	}
	return certs, nil
}

// dependence returns the form whose changes above the certificate concern an
// output: of a kubeconfig the chain, the trust anchor, both or none.
func dependence(o spec.Output) spec.Form {
	switch {
	case !o.Form.IsKubeconfig():
		return o.Form
	case o.Form == spec.FormKubeconfig && o.Kubeconfig.CA != "":
		return spec.FormFullChain
	case o.Form == spec.FormKubeconfigPaths && o.Kubeconfig.CA == "":
		return spec.FormCA
	case o.Form == spec.FormKubeconfigPaths:
		return spec.FormPrivateKey // which nothing above changes
	}
	return spec.FormKubeconfig
}

// serverCAChanges names an issuer whose certificate is in a kubeconfig of c as the
// CA of the server, if the plan changes it.
func (d *differ) serverCAChanges(c *spec.Certificate) string {
	for _, o := range c.Outputs {
		if o.Form != spec.FormKubeconfig || o.Kubeconfig.CAIssuer == "" {
			continue
		}
		if up := d.issuers[o.Kubeconfig.CAIssuer]; up != nil && up.newCert {
			return o.Kubeconfig.CAIssuer
		}
	}
	return ""
}

// kubeconfigDrift compares a kubeconfig with what it should hold. The whole file
// is ours, but how it is written is nobody's business.
func (d *differ) kubeconfigDrift(o spec.Output, s *OutputState, leaf pki.Fingerprint, up *lineage) string {
	have, want := s.Kubeconfig, KubeconfigState{Kubeconfig: *o.Kubeconfig}
	want.CurrentContext, want.ContextCluster, want.ContextUser = want.Context, want.Cluster, want.User
	if o.Form == spec.FormKubeconfig {
		want.CA = ""
		if message := contentDrift(o.Form, s.Certs, leaf, up.chain...); message != "" && !up.unknown {
			return message
		}
	} else if have.HoldsKey || have.HoldsCertificate {
		return "holds the key or the certificate, and is to name files"
	}
	wanted := want.settings()
	for i, h := range have.settings() {
		switch w := wanted[i]; {
		case h.value == w.value:
		case h.value == "":
			return fmt.Sprintf("has no %s, want %q", h.name, w.value)
		case w.value == "":
			return fmt.Sprintf("has the %s %q, want none", h.name, h.value)
		default:
			return fmt.Sprintf("has the %s %q, want %q", h.name, h.value, w.value)
		}
	}
	if len(have.More) > 0 {
		return "holds more than is ours: " + strings.Join(have.More, ", ")
	}
	if o.Form == spec.FormKubeconfigPaths && o.Kubeconfig.CA != "" {
		if len(have.Anchors) > 0 {
			return "holds a trust anchor, and is to name a file"
		}
		return ""
	}
	anchors, known := d.anchors(o, s, up)
	switch {
	case !known || slices.Equal(have.Anchors, anchors):
		return ""
	case o.Kubeconfig.CAIssuer != "" && d.issuers[o.Kubeconfig.CAIssuer] != nil && d.issuers[o.Kubeconfig.CAIssuer].newCert:
		return fmt.Sprintf("holds the certificate of issuer %q, which changes", o.Kubeconfig.CAIssuer)
	}
	return "holds another trust anchor"
}

// anchors are the certificates that the server is to be checked with, as far as
// that can be told now.
func (d *differ) anchors(o spec.Output, s *OutputState, up *lineage) (anchors []pki.Fingerprint, known bool) {
	switch k := o.Kubeconfig; {
	case k.CA == "" && up.remote:
		return s.ServerCA, true
	case k.CA == "":
		return []pki.Fingerprint{up.anchor}, !up.unknown
	case k.CAIssuer == "":
		return s.ServerCA, true
	default:
		is, st := d.issuers[k.CAIssuer], d.state.Of(spec.ID{Kind: spec.KindIssuer, Name: k.CAIssuer})
		if is != nil && is.newCert {
			return nil, true // another one than any that is there
		}
		if st == nil || st.Leaf == nil {
			return nil, false
		}
		return []pki.Fingerprint{st.Leaf.Fingerprint}, true
	}
}

type setting struct{ name, value string }

// settings lists what is compared, in the order in which it is told.
func (k *KubeconfigState) settings() []setting {
	return []setting{
		{"server", k.Server}, {"TLS server name", k.TLSServerName}, {"proxy", k.ProxyURL}, {"CA file", k.CA},
		{"client certificate file", k.Certificate}, {"client key file", k.PrivateKey},
		{"cluster", k.Cluster}, {"user", k.User}, {"context", k.Context}, {"namespace", k.Namespace},
		{"current context", k.CurrentContext}, {"cluster of the context", k.ContextCluster}, {"user of the context", k.ContextUser},
	}
}

// encodeKubeconfig renders a kubeconfig with the CA that its settings mean.
func (a *applier) encodeKubeconfig(ctx context.Context, c *spec.Certificate, o spec.Output, m pki.Material) ([]byte, error) {
	var ca []*x509.Certificate
	switch k, i := o.Kubeconfig, a.remoteIssuer(c); {
	case k.CA == "" && i != nil:
		var err error
		if ca, err = a.opener.serverCA(ctx, i); err != nil {
			return nil, err
		}
	case k.CA == "" && m.Anchor != nil:
		ca = []*x509.Certificate{m.Anchor}
	case k.CA == "" || o.Form == spec.FormKubeconfigPaths:
	case k.CAIssuer != "":
		up := a.authorities[k.CAIssuer] // made ready before
		if up.cert == nil {
			return nil, fmt.Errorf("the server's CA: issuer %q %w", k.CAIssuer, up.err)
		}
		ca = []*x509.Certificate{up.cert}
	default:
		var err error
		if ca, err = a.readServerCA(k.CA); err != nil {
			return nil, err
		}
	}
	return pki.EncodeKubeconfig(o.Form, m, ca, o.Kubeconfig, c.PrivateKey.Encoding)
}
