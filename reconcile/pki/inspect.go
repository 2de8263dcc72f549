package pki

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"time"

	"github.com/certsync/certsync/spec"
)

// Item is one thing that Inspect found: what Type tells is set.
type Item struct {
	Type        string           `json:"type"` // one of the Item constants
	Certificate *CertificateInfo `json:"certificate,omitempty"`
	Request     *RequestInfo     `json:"request,omitempty"`
	PrivateKey  *PrivateKeyInfo  `json:"privateKey,omitempty"`
	PublicKey   *PublicKeyInfo   `json:"publicKey,omitempty"`
	CRL         *CRLInfo         `json:"crl,omitempty"`
	Keystore    *KeystoreInfo    `json:"keystore,omitempty"`
	Kubeconfig  *KubeconfigInfo  `json:"kubeconfig,omitempty"`
	PEMType     string           `json:"pemType,omitempty"` // of an ItemOther
	// Alias is the name of what stands in a keystore; it may be empty there.
	Alias string `json:"alias,omitempty"`
	// Of tells whose a key or certificate in a kubeconfig is: user NAME, cluster NAME.
	Of string `json:"of,omitempty"`
	// Trusted marks a certificate that Java takes for a trust anchor, by the
	// keystore that it is in.
	Trusted bool `json:"trusted,omitempty"`
}

// The types of Items.
const (
	ItemCertificate = "certificate"
	ItemRequest     = "certificate request"
	ItemPrivateKey  = "private key"
	ItemPublicKey   = "public key"
	ItemCRL         = "CRL"
	ItemKeystore    = "keystore"   // what is in it follows
	ItemKubeconfig  = "kubeconfig" // what is in it follows
	ItemOther       = "other"      // a PEM block that is none of these
)

// CertificateInfo is what is in a certificate, for people and JSON.
type CertificateInfo struct {
	Subject   string    `json:"subject"`
	Issuer    string    `json:"issuer"`
	Serial    string    `json:"serial"` // hexadecimal
	NotBefore time.Time `json:"notBefore"`
	NotAfter  time.Time `json:"notAfter"`
	NamesInfo
	PublicKey          PublicKeyInfo    `json:"publicKey"`
	SubjectKeyID       string           `json:"subjectKeyID,omitempty"`   // hexadecimal
	AuthorityKeyID     string           `json:"authorityKeyID,omitempty"` // hexadecimal
	NameConstraints    *NameConstraints `json:"nameConstraints,omitempty"`
	CRLs               []string         `json:"crlDistributionPoints,omitempty"`
	OCSPServers        []string         `json:"ocspServers,omitempty"`
	IssuerURLs         []string         `json:"issuingCertificateURLs,omitempty"`
	Policies           []string         `json:"policies,omitempty"`
	SignatureAlgorithm string           `json:"signatureAlgorithm"`
	Fingerprint        Fingerprint      `json:"fingerprint"`
	Extensions         []ExtensionInfo  `json:"extensions,omitempty"` // those not decoded above
}

// NamesInfo is what certificates and requests have in common.
type NamesInfo struct {
	DNSNames       []string     `json:"dnsNames,omitempty"`
	IPAddresses    []string     `json:"ipAddresses,omitempty"`
	URIs           []string     `json:"uris,omitempty"`
	EmailAddresses []string     `json:"emailAddresses,omitempty"`
	OtherNames     []string     `json:"otherNames,omitempty"` // subject alternative names of other kinds
	Usages         []spec.Usage `json:"usages,omitempty"`     // unknown ones as dotted OIDs
	IsCA           bool         `json:"isCA"`
	PathLen        *int         `json:"pathLen,omitempty"`
}

// KeystoreInfo is what is known of a keystore as a whole.
type KeystoreInfo struct {
	Format string `json:"format"` // PKCS#12 or JKS
	// Profile is how a PKCS#12 file is encrypted; empty if no profile has it so.
	Profile spec.Profile `json:"profile,omitempty"`
	Keys    int          `json:"keys"`
	Trusted int          `json:"trusted"`
}

// KubeconfigInfo is what is known of a kubeconfig as a whole. Other names fields
// that are not shown, and what may be a secret is never shown.
type KubeconfigInfo struct {
	CurrentContext string            `json:"currentContext"`
	Contexts       []KubeContextInfo `json:"contexts"`
	Clusters       []KubeClusterInfo `json:"clusters"`
	Users          []KubeUserInfo    `json:"users"`
	Other          []string          `json:"other,omitempty"`
}

// KubeContextInfo is one context.
type KubeContextInfo struct {
	Name      string   `json:"name"`
	Cluster   string   `json:"cluster"`
	User      string   `json:"user"`
	Namespace string   `json:"namespace,omitempty"`
	Other     []string `json:"other,omitempty"`
}

// KubeClusterInfo is one cluster.
type KubeClusterInfo struct {
	Name          string   `json:"name"`
	Server        string   `json:"server"`
	TLSServerName string   `json:"tlsServerName,omitempty"`
	ProxyURL      string   `json:"proxyURL,omitempty"`
	CAFile        string   `json:"caFile,omitempty"`
	Other         []string `json:"other,omitempty"`
}

// KubeUserInfo is one user.
type KubeUserInfo struct {
	Name            string   `json:"name"`
	CertificateFile string   `json:"certificateFile,omitempty"`
	KeyFile         string   `json:"keyFile,omitempty"`
	Other           []string `json:"other,omitempty"`
}

// RequestInfo is what is in a certificate request.
type RequestInfo struct {
	Subject string `json:"subject"`
	NamesInfo
	PublicKey          PublicKeyInfo   `json:"publicKey"`
	SignatureAlgorithm string          `json:"signatureAlgorithm"`
	SignatureValid     bool            `json:"signatureValid"`
	Extensions         []ExtensionInfo `json:"extensions,omitempty"` // requested, not decoded above
}

// PublicKeyInfo tells of a public key. Fingerprint is the SHA-256 of its
// SubjectPublicKeyInfo: equal to that of the private key that it belongs to.
type PublicKeyInfo struct {
	Algorithm   string      `json:"algorithm"`
	Size        int         `json:"size,omitempty"` // bits
	Fingerprint Fingerprint `json:"fingerprint"`
}

// PrivateKeyInfo is what may be shown of a private key.
type PrivateKeyInfo struct {
	Encoding  spec.Encoding `json:"encoding"`
	Encrypted bool          `json:"encrypted"`
	// PublicKey is nil if the key is encrypted and its password is not there.
	PublicKey *PublicKeyInfo `json:"publicKey,omitempty"`
}

// CRLInfo is what is in a certificate revocation list.
type CRLInfo struct {
	Issuer             string          `json:"issuer"`
	Number             string          `json:"number,omitempty"` // hexadecimal
	ThisUpdate         time.Time       `json:"thisUpdate"`
	NextUpdate         time.Time       `json:"nextUpdate,omitzero"`
	AuthorityKeyID     string          `json:"authorityKeyID,omitempty"`
	SignatureAlgorithm string          `json:"signatureAlgorithm"`
	Fingerprint        Fingerprint     `json:"fingerprint"`
	Revoked            []RevokedInfo   `json:"revoked,omitempty"`
	Extensions         []ExtensionInfo `json:"extensions,omitempty"` // those not decoded above
}

// RevokedInfo is one entry of a CRL.
type RevokedInfo struct {
	Serial    string    `json:"serial"` // hexadecimal
	RevokedAt time.Time `json:"revokedAt"`
	Reason    string    `json:"reason"`
}

// ExtensionInfo tells that there is an extension.
type ExtensionInfo struct {
	OID      string `json:"oid"`
	Critical bool   `json:"critical,omitempty"`
}

// Inspect decodes all that is in data: PEM, a keystore, a kubeconfig, or one thing
// in DER. password is as in ParseKey, but a key whose password is not to be had is
// shown as encrypted; a keystore does not open without. What is cut off or malformed
// is an error, and so is data without anything.
func Inspect(data []byte, password func() ([]byte, error)) ([]Item, error) {
	if form := IsKeystore(data); form != "" {
		return inspectKeystore(form, data, password)
	}
	if isDER(data) {
		item, err := inspectDER(data, password)
		if err != nil {
			return nil, err
		}
		return []Item{item}, nil
	}
	if IsKubeconfig(data) {
		return inspectKubeconfig(data)
	}
	var items []Item
	for rest := data; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		item, err := inspectBlock(block, password)
		if err != nil {
			return nil, err
		}
		items = append(items, item)
	}
	if bytes.Count(data, []byte("-----BEGIN ")) > len(items) {
		return nil, errors.New("malformed input: incomplete PEM block")
	}
	if len(items) == 0 {
		return nil, errNothing
	}
	return items, nil
}

var errNothing = errors.New("no certificate, request, key or CRL found")

func inspectBlock(block *pem.Block, password func() ([]byte, error)) (Item, error) {
	switch {
	case block.Type == pemCertificate || block.Type == pemOldX509:
		return inspectCertificate(block.Bytes)
	case block.Type == "CERTIFICATE REQUEST" || block.Type == "NEW CERTIFICATE REQUEST":
		return inspectRequest(block.Bytes)
	case block.Type == pemCRL:
		return inspectCRL(block.Bytes)
	case block.Type == "PUBLIC KEY":
		return inspectPublicKey(block.Bytes)
	case isKeyBlock(block):
		return inspectKey(block, password)
	}
	return Item{Type: ItemOther, PEMType: block.Type}, nil
}

// inspectDER tries what DER may be. The structures are different enough for no
// one to be taken for another.
func inspectDER(der []byte, password func() ([]byte, error)) (Item, error) {
	for _, inspect := range []func([]byte) (Item, error){inspectCertificate, inspectRequest, inspectCRL, inspectPublicKey} {
		if item, err := inspect(der); err == nil {
			return item, nil
		}
	}
	for _, kind := range []string{pemPKCS8, pemPKCS1, pemSEC1} {
		if item, err := inspectKey(&pem.Block{Type: kind, Bytes: der}, password); err == nil {
			return item, nil
		}
	}
	var encrypted encryptedKey
	if unmarshal(der, &encrypted) == nil && encrypted.Algorithm.Algorithm.Equal(oidPBES2) {
		return inspectKey(&pem.Block{Type: pemEncryptedPKCS8, Bytes: der}, password)
	}
	return Item{}, errNothing
}

func inspectKey(block *pem.Block, password func() ([]byte, error)) (Item, error) {
	_, info, err := parseKeyBlock(block, password)
	if err != nil && (!errors.Is(err, ErrPassword) || errors.Is(err, errWrongPassword)) {
		return Item{}, err
	}
	key := &PrivateKeyInfo{Encoding: info.Encoding, Encrypted: info.Encrypted}
	if err == nil {
		key.PublicKey = &PublicKeyInfo{string(info.Algorithm), info.Size, info.Fingerprint}
	}
	return Item{Type: ItemPrivateKey, PrivateKey: key}, nil
}

// inspectKeystore returns the keystore, then each key with its chain, then the
// certificates that belong to none.
func inspectKeystore(form spec.Form, data []byte, password func() ([]byte, error)) ([]Item, error) {
	store, err := ParseKeystore(form, data, password)
	if err != nil {
		return nil, err
	}
	info := &KeystoreInfo{Format: "PKCS#12", Profile: store.Profile, Keys: len(store.Keys), Trusted: len(store.Trusted)}
	if form == spec.FormJKS {
		info.Format = "JKS"
	}
	items := []Item{{Type: ItemKeystore, Keystore: info}}
	for _, k := range store.Keys {
		public := PublicKeyInfo{string(k.Key.Algorithm()), k.Key.Size(), k.Key.Fingerprint()}
		items = append(items, Item{Type: ItemPrivateKey, Alias: k.Alias,
			PrivateKey: &PrivateKeyInfo{Encoding: spec.PKCS8, Encrypted: store.Profile != spec.ProfilePasswordless, PublicKey: &public}})
		for _, cert := range k.Chain {
			items = append(items, Item{Type: ItemCertificate, Alias: k.Alias, Certificate: NewCertificateInfo(cert)})
		}
	}
	for i, c := range append(store.Trusted[:len(store.Trusted):len(store.Trusted)], store.Others...) {
		items = append(items, Item{Type: ItemCertificate, Alias: c.Alias, Trusted: i < len(store.Trusted), Certificate: NewCertificateInfo(c.Cert)})
	}
	return items, nil
}

// inspectKubeconfig returns the kubeconfig, then the CA of each cluster, then the
// certificates and the key of each user.
func inspectKubeconfig(data []byte) ([]Item, error) {
	k, err := ParseKubeconfig(data)
	if err != nil {
		return nil, err
	}
	info := &KubeconfigInfo{CurrentContext: k.CurrentContext, Other: k.Other,
		Contexts: []KubeContextInfo{}, Clusters: []KubeClusterInfo{}, Users: []KubeUserInfo{}}
	items := []Item{{Type: ItemKubeconfig, Kubeconfig: info}}
	certificates := func(of string, certs []*x509.Certificate) {
		for _, cert := range certs {
			items = append(items, Item{Type: ItemCertificate, Of: of, Certificate: NewCertificateInfo(cert)})
		}
	}
	for _, c := range k.Contexts {
		info.Contexts = append(info.Contexts, KubeContextInfo(c))
	}
	for _, c := range k.Clusters {
		of := "cluster " + c.Name
		if c.CAErr != nil {
			return nil, fmt.Errorf("%s: %w", of, c.CAErr)
		}
		info.Clusters = append(info.Clusters, KubeClusterInfo{c.Name, c.Server, c.TLSServerName, c.ProxyURL, c.CAFile, c.Other})
		certificates(of, c.CA)
	}
	for i := range k.Users {
		u := &k.Users[i]
		of := "user " + u.Name
		info.Users = append(info.Users, KubeUserInfo{u.Name, u.CertificateFile, u.KeyFile, u.Other})
		if u.HoldsCertificate() {
			chain, err := u.Chain()
			if err != nil {
				return nil, fmt.Errorf("%s: %w", of, err)
			}
			certificates(of, chain)
		}
		if u.HoldsKey() {
			_, key, err := u.Key()
			if err != nil && !errors.Is(err, ErrPassword) {
				return nil, fmt.Errorf("%s: %w", of, err)
			}
			shown := &PrivateKeyInfo{Encoding: key.Encoding, Encrypted: key.Encrypted}
			if err == nil {
				shown.PublicKey = &PublicKeyInfo{string(key.Algorithm), key.Size, key.Fingerprint}
			}
			items = append(items, Item{Type: ItemPrivateKey, Of: of, PrivateKey: shown})
		}
	}
	return items, nil
}

func inspectPublicKey(der []byte) (Item, error) {
	key, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return Item{}, fmt.Errorf("malformed public key: %w", err)
	}
	info := publicKeyInfo(key, x509.UnknownPublicKeyAlgorithm, der)
	return Item{Type: ItemPublicKey, PublicKey: &info}, nil
}

func publicKeyInfo(key any, other x509.PublicKeyAlgorithm, raw []byte) PublicKeyInfo {
	algorithm, size := describe(key)
	info := PublicKeyInfo{string(algorithm), size, sha256.Sum256(raw)}
	if algorithm == "" {
		info.Algorithm = "unknown"
		if other != x509.UnknownPublicKeyAlgorithm {
			info.Algorithm = other.String()
		}
	}
	return info
}
