package spec

import (
	"fmt"
	"io/fs"
	"net/netip"
	"time"
)

// Spec is what a user asked for: validated, resolved and complete. Every
// default, profile, variable and forEach is already applied, every path is
// absolute. A Spec is immutable: nobody who holds one may change it, so it can
// be shared between goroutines.
type Spec struct {
	// Sources are the files that were read, absolute, in reading order.
	Sources []string
	// Dir is the directory of the first source.
	Dir string
	// Clusters are the Kubernetes clusters that the spec names.
	Clusters []*Cluster `json:",omitempty"`
	// Issuers are all issuers, each after the one that signs it.
	Issuers []*Issuer
	// Certificates are the leaves, in the order in which they are declared.
	Certificates []*Certificate
	// Warnings are problems that do not keep the spec from being applied.
	Warnings []Problem

	// index finds every certificate that Load made; nil in other Specs.
	index map[ID]*Certificate
}

// Issuer is one entry of issuers: exactly one of its kinds is set.
type Issuer struct {
	Name string
	// CA is the certificate of a CA that this spec owns.
	CA *Certificate
	// Kubernetes is a signer of a Kubernetes cluster.
	Kubernetes *Kubernetes `json:",omitempty"`
}

// Kind tells a CA's certificate, which stands under issuers, from a leaf.
type Kind string

// The kinds of certificates, spelled as the spec's top-level keys.
const (
	KindIssuer      Kind = "issuers"
	KindCertificate Kind = "certificates"
)

// ID names one certificate of a spec. An issuer and a leaf may share a name.
type ID struct {
	Kind Kind
	Name string
}

// String returns the path of the certificate in the spec: certificates.web.
func (id ID) String() string { return string(id.Kind) + "." + id.Name }

// Title returns how messages name the certificate: certificate "web".
func (id ID) Title() string {
	if id.Kind == KindIssuer {
		return fmt.Sprintf("issuer %q", id.Name)
	}
	return fmt.Sprintf("certificate %q", id.Name)
}

// Certificate is one wanted certificate: a leaf, or a CA's own.
type Certificate struct {
	ID
	// Issuer names the issuer that signs; empty for a self-signed CA.
	Issuer string

	CommonName     string
	Subject        Subject
	DNSNames       []string // lower case; internationalized names as A-labels (RFC 5890)
	IPAddresses    []netip.Addr
	URIs           []string
	EmailAddresses []string
	Usages         []Usage // in canonical order, without repetition
	// UsagesStated tells usages that the certificate, the defaults or a profile
	// states from the built-in ones.
	UsagesStated bool

	PrivateKey PrivateKey
	// Duration is the wanted lifetime from now to notAfter.
	Duration time.Duration
	// DurationStated tells a lifetime that the spec states from the built-in default.
	DurationStated bool
	RenewBefore    RenewBefore

	// CA is set for the certificate of a CA.
	CA *CA

	Outputs []Output
	Pos     Position
	// Source is the absolute path of the file that declares the certificate.
	Source string
}

// Subject is the distinguished name besides the common name (RFC 5280,
// section 4.1.2.6). Field names are those of cert-manager's Certificate.
type Subject struct {
	Countries           []string
	Provinces           []string
	Localities          []string
	StreetAddresses     []string
	PostalCodes         []string
	Organizations       []string
	OrganizationalUnits []string
	SerialNumber        string
	// EmailAddress is the legacy attribute 1.2.840.113549.1.9.1 (RFC 2985).
	EmailAddress string
}

// CA holds what only the certificate of a CA has.
type CA struct {
	// PathLen is how many intermediate CAs may follow; nil is unlimited.
	PathLen         *int
	NameConstraints *NameConstraints
}

// NameConstraints limit the names below a CA (RFC 5280, section 4.2.1.10).
type NameConstraints struct {
	Critical            bool
	Permitted, Excluded Names
}

// Names are the subtrees of a name constraint.
type Names struct {
	DNSDomains     []string
	IPRanges       []netip.Prefix
	EmailAddresses []string
	URIDomains     []string
}

// Algorithm is a key's algorithm, spelled as in cert-manager.
type Algorithm string

// The algorithms of private keys.
const (
	RSA     Algorithm = "RSA"
	ECDSA   Algorithm = "ECDSA"
	Ed25519 Algorithm = "Ed25519"
)

// Encoding is the ASN.1 structure of a private key file; all are written as PEM.
type Encoding string

// The encodings of private keys.
const (
	PKCS8 Encoding = "PKCS8" // RFC 5208
	PKCS1 Encoding = "PKCS1" // RFC 8017, RSA only
	SEC1  Encoding = "SEC1"  // RFC 5915, ECDSA only
)

// RotationPolicy tells whether a new certificate comes with a new key.
type RotationPolicy string

// The rotation policies.
const (
	RotateAlways RotationPolicy = "Always"
	RotateNever  RotationPolicy = "Never"
)

// PrivateKey describes a private key.
type PrivateKey struct {
	Algorithm Algorithm
	Size      int // bits; 0 for Ed25519
	// Encoding is empty if the spec does not state one: then any is accepted
	// in an existing file, and PKCS8 is written.
	Encoding       Encoding
	RotationPolicy RotationPolicy
	// Password refers to the password that encrypts the key file; nil for none.
	Password *SecretRef
}

// SecretRef refers to a secret that is not in the spec: exactly one is set.
type SecretRef struct {
	File string // absolute path; one trailing newline is not part of the secret
	Env  string // name of an environment variable
}

// RenewBefore tells how long before notAfter a certificate is renewed. The zero
// value means one third of the certificate's lifetime.
type RenewBefore struct {
	Duration time.Duration
	Percent  float64 // of the lifetime, between 0 and 100 exclusive
}

// Form is what an output holds.
type Form string

// The forms of outputs, spelled as the keys under files.
const (
	FormCertificate Form = "certificate" // the leaf alone
	FormChain       Form = "chain"       // the intermediates alone, maybe none
	FormFullChain   Form = "fullChain"   // the leaf, then the intermediates
	FormPrivateKey  Form = "privateKey"
	FormCA          Form = "ca"       // the trust anchor
	FormCombined    Form = "combined" // the key, then the full chain

	// The keystores hold the key, the full chain and the trust anchor. They stand
	// beside files, under keys of their own.
	FormPKCS12 Form = "pkcs12" // RFC 7292
	FormJKS    Form = "jks"    // Java's own format

	// A kubeconfig holds the key and the full chain, or the paths of the outputs
	// that do. It stands beside files, too.
	FormKubeconfig      Form = "kubeconfig"
	FormKubeconfigPaths Form = "kubeconfigPaths"
)

// HoldsKey tells whether outputs of the form hold a private key.
func (f Form) HoldsKey() bool {
	return f == FormPrivateKey || f == FormCombined || f == FormKubeconfig || f.IsKeystore()
}

// HoldsLeaf tells whether outputs of the form hold the certificate.
func (f Form) HoldsLeaf() bool {
	return f == FormCertificate || f == FormFullChain || f == FormCombined || f == FormKubeconfig || f.IsKeystore()
}

// IsKubeconfig tells whether outputs of the form are kubeconfigs.
func (f Form) IsKubeconfig() bool { return f == FormKubeconfig || f == FormKubeconfigPaths }

// IsKeystore tells whether outputs of the form are keystores.
func (f Form) IsKeystore() bool { return f == FormPKCS12 || f == FormJKS }

// Profile is how a PKCS#12 file is encrypted.
type Profile string

// The profiles, named as go-pkcs12 names them.
const (
	ProfileModern2023   Profile = "Modern2023"   // AES-256 and SHA-256, as openssl 3 and Java 12 read it
	ProfileModern2026   Profile = "Modern2026"   // as before, with PBMAC1 (RFC 9579)
	ProfileLegacyDES    Profile = "LegacyDES"    // 3DES and SHA-1
	ProfileLegacyRC2    Profile = "LegacyRC2"    // RC2 with 40 bits for certificates, 3DES and SHA-1
	ProfilePasswordless Profile = "Passwordless" // neither encrypted nor authenticated
)

// Keystore is what only the outputs that are keystores have.
type Keystore struct {
	// Alias is the name of the entry with the key, friendlyName in PKCS#12.
	Alias string
	// Profile is for PKCS#12 only.
	Profile Profile
	// Password refers to the password; nil for a PKCS#12 file without one.
	Password *SecretRef
}

// Kubeconfig is what only the outputs that are kubeconfigs have: the settings of
// one cluster, one user, and the context that joins them.
type Kubeconfig struct {
	Server        string // an https URL
	TLSServerName string // the name in the server's certificate, if it is not the URL's
	ProxyURL      string
	Namespace     string

	Cluster, User, Context string // names

	// CA is the file with the CA of the server; empty for the trust anchor of the
	// certificate itself.
	CA string
	// CAIssuer names the issuer of this spec whose certificate is in CA, if one is.
	CAIssuer string
	// Certificate and PrivateKey are the outputs that a FormKubeconfigPaths names.
	Certificate, PrivateKey string
}

// Output is one file, or one key of an object in a cluster, that a certificate is
// written to.
type Output struct {
	Form Form
	// Path is absolute and clean. In a directory set it is Dir joined with the
	// file's name there; in a cluster the object's name (see Object.String), # and
	// the DataKey.
	Path string
	// Dir is the directory set that the file belongs to; empty for a plain file.
	Dir string
	// Mode are the permission bits that the file must have.
	Mode fs.FileMode
	// Owner and Group are names or decimal numbers; empty for what the process has.
	Owner, Group string
	// Keystore is set for the forms that are keystores.
	Keystore *Keystore `json:",omitempty"`
	// Kubeconfig is set for the forms that are kubeconfigs.
	Kubeconfig *Kubeconfig `json:",omitempty"`
	// Object is set for an output in a cluster, and DataKey is its key there.
	Object  *Object `json:",omitempty"`
	DataKey string  `json:",omitempty"`
	Pos     Position
}

// Field returns the output's place under its certificate: files.privateKey,
// pkcs12, kubeconfig, or directory/tls.key and secret/tls.key for what changes
// together.
func (o Output) Field() string {
	if o.Object != nil {
		return o.Object.Kind.Field() + "/" + o.DataKey
	}
	if o.Dir != "" {
		return "directory/" + o.Path[len(o.Dir)+1:]
	}
	switch {
	case o.Form.IsKeystore():
		return string(o.Form)
	case o.Form.IsKubeconfig():
		return string(FormKubeconfig)
	}
	return "files." + string(o.Form)
}

// The names of the files in a directory set, those of a kubernetes.io/tls Secret.
const (
	DirCertificate = "tls.crt" // full chain
	DirPrivateKey  = "tls.key"
	DirCA          = "ca.crt"
)

// Position is a place in a source file; Line and Column count from 1.
type Position struct {
	File         string
	Line, Column int
}

func (p Position) String() string {
	if p.File == "" {
		return "-"
	}
	if p.Line == 0 {
		return p.File
	}
	return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column)
}

// Problem is one thing that is wrong with a spec.
type Problem struct {
	Pos     Position
	Path    string // of the field: certificates.web.dnsNames[0]
	Message string
	Hint    string // how to mend it; may be empty
}

// Error returns file:line:column: path: problem.
func (p Problem) Error() string {
	s := p.Message
	if p.Path != "" {
		s = p.Path + ": " + s
	}
	if p.Pos.File != "" {
		s = p.Pos.String() + ": " + s
	}
	return s
}
