package spec

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/netip"
)

// Digest returns the SHA-256, in hexadecimal, of everything that the spec says
// about the certificate, but for the place where it says so, and whether usages
// are stated or built in. Two certificates with the same digest want the same
// thing.
//
// It is stable across versions: a field that a later version adds changes the
// digest only of certificates that use it. It is that of the JSON of
// canonicalCertificate, whose names must therefore stay as they are, and whose
// fields are all left out when they are zero.
func (c *Certificate) Digest() string {
	sum := c.sum()
	return hex.EncodeToString(sum[:])
}

// Digest returns the SHA-256, in hexadecimal, of the digests of all
// certificates in their order (see All). Two specs with the same digest want
// the same, whatever files they come from.
func (s *Spec) Digest() string {
	h := sha256.New()
	for c := range s.All() {
		sum := c.sum()
		h.Write(sum[:])
	}
	for _, i := range s.Issuers {
		if i.Kubernetes != nil {
			h.Write(i.Kubernetes.sum(i.Name))
		}
	}
	return hex.EncodeToString(h.Sum(nil))
}

func (c *Certificate) sum() [sha256.Size]byte {
	data, err := json.Marshal(c.canonical())
	if err != nil {
		panic("spec: digest: " + err.Error()) // strings and numbers only
	}
	return sha256.Sum256(data)
}

type canonicalCertificate struct {
	Kind           Kind              `json:"kind,omitempty"`
	Name           string            `json:"name,omitempty"`
	Issuer         string            `json:"issuer,omitempty"`
	CommonName     string            `json:"commonName,omitempty"`
	Subject        canonicalSubject  `json:"subject,omitzero"`
	DNSNames       []string          `json:"dnsNames,omitempty"`
	IPAddresses    []netip.Addr      `json:"ipAddresses,omitempty"`
	URIs           []string          `json:"uris,omitempty"`
	EmailAddresses []string          `json:"emailAddresses,omitempty"`
	Usages         []Usage           `json:"usages,omitempty"`
	PrivateKey     canonicalKey      `json:"privateKey,omitzero"`
	Duration       int64             `json:"durationNanoseconds,omitempty"`
	DurationStated bool              `json:"durationStated,omitempty"`
	RenewBefore    int64             `json:"renewBeforeNanoseconds,omitempty"`
	RenewPercent   float64           `json:"renewBeforePercent,omitempty"`
	CA             *canonicalCA      `json:"ca,omitempty"`
	Outputs        []canonicalOutput `json:"outputs,omitempty"`
}

// sum digests how an issuer is asked.
func (k *Kubernetes) sum(name string) []byte {
	n := struct {
		Name       string `json:"name"`
		Cluster    string `json:"cluster,omitempty"`
		Kubeconfig string `json:"kubeconfig,omitempty"`
		Context    string `json:"context,omitempty"`
		SignerName string `json:"signerName"`
		Approve    bool   `json:"approve,omitempty"`
		CA         string `json:"ca,omitempty"`
	}{Name: name, SignerName: k.SignerName, Approve: k.Approve, CA: k.CA}
	if c := k.Cluster; c != nil {
		n.Cluster, n.Kubeconfig, n.Context = c.Name, c.Kubeconfig, c.Context
	}
	data, err := json.Marshal(n)
	if err != nil {
		panic("spec: digest: " + err.Error()) // strings and booleans only
	}
	sum := sha256.Sum256(data)
	return sum[:]
}

type canonicalSubject struct {
	Countries           []string `json:"countries,omitempty"`
	Provinces           []string `json:"provinces,omitempty"`
	Localities          []string `json:"localities,omitempty"`
	StreetAddresses     []string `json:"streetAddresses,omitempty"`
	PostalCodes         []string `json:"postalCodes,omitempty"`
	Organizations       []string `json:"organizations,omitempty"`
	OrganizationalUnits []string `json:"organizationalUnits,omitempty"`
	SerialNumber        string   `json:"serialNumber,omitempty"`
	EmailAddress        string   `json:"emailAddress,omitempty"`
}

// IsZero is asked by omitzero: lists are not comparable.
func (s canonicalSubject) IsZero() bool {
	return len(s.Countries)+len(s.Provinces)+len(s.Localities)+len(s.StreetAddresses)+len(s.PostalCodes)+
		len(s.Organizations)+len(s.OrganizationalUnits) == 0 && s.SerialNumber == "" && s.EmailAddress == ""
}

type canonicalKey struct {
	Algorithm      Algorithm      `json:"algorithm,omitempty"`
	Size           int            `json:"size,omitempty"`
	Encoding       Encoding       `json:"encoding,omitempty"`
	RotationPolicy RotationPolicy `json:"rotationPolicy,omitempty"`
	PasswordFile   string         `json:"passwordFile,omitempty"`
	PasswordEnv    string         `json:"passwordEnv,omitempty"`
}

type canonicalCA struct {
	PathLen     *int                  `json:"pathLen,omitempty"`
	Constraints *canonicalConstraints `json:"nameConstraints,omitempty"`
}

type canonicalConstraints struct {
	Critical  bool           `json:"critical,omitempty"`
	Permitted canonicalNames `json:"permitted"`
	Excluded  canonicalNames `json:"excluded"`
}

type canonicalNames struct {
	DNSDomains     []string       `json:"dnsDomains,omitempty"`
	IPRanges       []netip.Prefix `json:"ipRanges,omitempty"`
	EmailAddresses []string       `json:"emailAddresses,omitempty"`
	URIDomains     []string       `json:"uriDomains,omitempty"`
}

type canonicalOutput struct {
	Form  Form   `json:"form,omitempty"`
	Path  string `json:"path,omitempty"`
	Dir   string `json:"dir,omitempty"`
	Mode  uint32 `json:"mode,omitempty"`
	Owner string `json:"owner,omitempty"`
	Group string `json:"group,omitempty"`

	Keystore   *canonicalKeystore   `json:"keystore,omitempty"`
	Kubeconfig *canonicalKubeconfig `json:"kubeconfig,omitempty"`
	Object     *canonicalObject     `json:"object,omitempty"`
	DataKey    string               `json:"dataKey,omitempty"`
}

type canonicalKubeconfig struct {
	Server        string `json:"server,omitempty"`
	TLSServerName string `json:"tlsServerName,omitempty"`
	ProxyURL      string `json:"proxyURL,omitempty"`
	Namespace     string `json:"namespace,omitempty"`
	Cluster       string `json:"cluster,omitempty"`
	User          string `json:"user,omitempty"`
	Context       string `json:"context,omitempty"`
	CA            string `json:"ca,omitempty"`
	CAIssuer      string `json:"caIssuer,omitempty"`
	Certificate   string `json:"certificate,omitempty"`
	PrivateKey    string `json:"privateKey,omitempty"`
}

type canonicalObject struct {
	Kind        ObjectKind        `json:"kind,omitempty"`
	Cluster     *canonicalCluster `json:"cluster,omitempty"`
	Namespace   string            `json:"namespace,omitempty"`
	Name        string            `json:"name,omitempty"`
	Labels      []canonicalLabel  `json:"labels,omitempty"`
	Annotations []canonicalLabel  `json:"annotations,omitempty"`
}

type canonicalCluster struct {
	Name       string `json:"name,omitempty"`
	Kubeconfig string `json:"kubeconfig,omitempty"`
	Context    string `json:"context,omitempty"`
}

type canonicalLabel struct {
	Name  string `json:"name,omitempty"`
	Value string `json:"value,omitempty"`
}

func (o *Object) canonical() *canonicalObject {
	labels := func(list []Label) []canonicalLabel {
		out := make([]canonicalLabel, len(list))
		for i, l := range list {
			out[i] = canonicalLabel(l)
		}
		return out
	}
	n := &canonicalObject{Kind: o.Kind, Namespace: o.Namespace, Name: o.Name, Labels: labels(o.Labels), Annotations: labels(o.Annotations)}
	if c := o.Cluster; c != nil {
		n.Cluster = &canonicalCluster{c.Name, c.Kubeconfig, c.Context}
	}
	return n
}

type canonicalKeystore struct {
	Alias        string  `json:"alias,omitempty"`
	Profile      Profile `json:"profile,omitempty"`
	PasswordFile string  `json:"passwordFile,omitempty"`
	PasswordEnv  string  `json:"passwordEnv,omitempty"`
}

func (c *Certificate) canonical() *canonicalCertificate {
	n := &canonicalCertificate{
		Kind: c.Kind, Name: c.Name, Issuer: c.Issuer, CommonName: c.CommonName,
		Subject:  canonicalSubject(c.Subject),
		DNSNames: c.DNSNames, IPAddresses: c.IPAddresses, URIs: c.URIs, EmailAddresses: c.EmailAddresses,
		Usages: c.Usages,
		PrivateKey: canonicalKey{
			Algorithm: c.PrivateKey.Algorithm, Size: c.PrivateKey.Size,
			Encoding: c.PrivateKey.Encoding, RotationPolicy: c.PrivateKey.RotationPolicy,
		},
		Duration: int64(c.Duration), DurationStated: c.DurationStated,
		RenewBefore: int64(c.RenewBefore.Duration), RenewPercent: c.RenewBefore.Percent,
	}
	if p := c.PrivateKey.Password; p != nil {
		n.PrivateKey.PasswordFile, n.PrivateKey.PasswordEnv = p.File, p.Env
	}
	if c.CA != nil {
		n.CA = &canonicalCA{PathLen: c.CA.PathLen}
		if nc := c.CA.NameConstraints; nc != nil {
			n.CA.Constraints = &canonicalConstraints{nc.Critical, canonicalNames(nc.Permitted), canonicalNames(nc.Excluded)}
		}
	}
	n.Outputs = make([]canonicalOutput, len(c.Outputs))
	for i, o := range c.Outputs {
		n.Outputs[i] = canonicalOutput{Form: o.Form, Path: o.Path, Dir: o.Dir, Mode: uint32(o.Mode), Owner: o.Owner, Group: o.Group, DataKey: o.DataKey}
		if o.Object != nil {
			n.Outputs[i].Object = o.Object.canonical()
		}
		if k := o.Kubeconfig; k != nil {
			n.Outputs[i].Kubeconfig = (*canonicalKubeconfig)(k)
		}
		if k := o.Keystore; k != nil {
			n.Outputs[i].Keystore = &canonicalKeystore{Alias: k.Alias, Profile: k.Profile}
			if p := k.Password; p != nil {
				n.Outputs[i].Keystore.PasswordFile, n.Outputs[i].Keystore.PasswordEnv = p.File, p.Env
			}
		}
	}
	return n
}
