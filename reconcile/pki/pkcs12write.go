package pki

import (
	"crypto"
	"crypto/rand"
	"crypto/sha1" //nolint:gosec // what old importers read
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
)

// encodePKCS12 writes what PKCS12_create of openssl does: the certificates
// encrypted, then the key encrypted for itself.
func encodePKCS12(m Material, o KeystoreOptions) ([]byte, error) {
	var profile *p12Profile
	for i := range p12Profiles {
		if p12Profiles[i].name == o.Profile {
			profile = &p12Profiles[i]
		}
	}
	if profile == nil {
		return nil, fmt.Errorf("PKCS#12 profile %q is not supported", o.Profile)
	}
	w := &p12Writer{profile: profile, password: newP12Password(o.Password)}
	id := sha1.Sum(m.Chain[0].Raw) //nolint:gosec // a name for the pair, as openssl gives it
	name, local := p12Name(o.Alias), w.attribute(oidLocalKeyID, w.marshal(id[:]))
	chain, key := []p12Bag{w.certBag(m.Chain[0], local, name)}, []p12Bag{w.keyBag(m.Key.Signer(), local, name)}
	for _, cert := range m.Chain[1:] {
		chain = append(chain, w.certBag(cert))
	}
	var anchor []p12Bag
	if !m.Anchor.Equal(m.Chain[0]) {
		anchor = append(anchor, w.certBag(m.Anchor, p12Name(TrustedAlias(o.Alias)), w.attribute(oidJavaTrusted, w.marshal(oidAnyUsage))))
	}
	var out []byte
	if profile.certs.Equal(oidPBERC240) {
		out = w.file(w.rc2Certs(m.Chain, o.Password), w.content(w.marshal(append(key, anchor...)), nil))
	} else {
		out = w.file(w.content(w.marshal(append(chain, anchor...)), profile.certs), w.content(w.marshal(key), nil))
	}
	if w.err != nil {
		return nil, fmt.Errorf("encode PKCS#12: %w", w.err)
	}
	return out, nil
}

// p12Writer keeps the first error.
type p12Writer struct {
	profile  *p12Profile
	password p12Password
	err      error
}

func (w *p12Writer) marshal(v any) []byte {
	out, err := asn1.Marshal(v)
	w.err = errors.Join(w.err, err)
	return out
}

func (w *p12Writer) file(contents ...p12Content) []byte {
	safe := w.marshal(contents)
	file := p12File{Version: 3, AuthSafe: w.content(safe, nil)}
	w.mac(&file.MAC, safe)
	return w.marshal(file)
}

func (w *p12Writer) salt() []byte {
	salt := make([]byte, w.profile.saltSize)
	_, _ = rand.Read(salt) // never fails
	return salt
}

func (w *p12Writer) encrypt(data []byte, algorithm asn1.ObjectIdentifier) encryptedKey {
	enc, err := p12Encrypt(data, algorithm, w.password, w.salt(), w.profile.iterations)
	w.err = errors.Join(w.err, err)
	return enc
}

// content wraps data, encrypted unless there is no algorithm.
func (w *p12Writer) content(data []byte, algorithm asn1.ObjectIdentifier) p12Content {
	if algorithm == nil {
		return p12Content{oidData, explicit(w.marshal(data))}
	}
	enc := w.encrypt(data, algorithm)
	var out p12Encrypted
	out.Info.Type, out.Info.Algorithm, out.Info.Data = oidData, enc.Algorithm, enc.Data
	return p12Content{oidEncryptedData, explicit(w.marshal(out))}
}

func explicit(inner []byte) asn1.RawValue {
	return asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: inner}
}

func (w *p12Writer) attribute(id asn1.ObjectIdentifier, value []byte) p12Attribute {
	return p12Attribute{id, asn1.RawValue{Tag: asn1.TagSet, IsCompound: true, Bytes: value}}
}

// p12Name is the attribute friendlyName (RFC 2985, section 5.5.1).
func p12Name(alias string) p12Attribute {
	// Numbers and strings always marshal.
	value, _ := asn1.Marshal(asn1.RawValue{Tag: asn1.TagBMPString, Bytes: bmpString(alias)})
	return p12Attribute{oidFriendlyName, asn1.RawValue{Tag: asn1.TagSet, IsCompound: true, Bytes: value}}
}

func (w *p12Writer) certBag(cert *x509.Certificate, attributes ...p12Attribute) p12Bag {
	return p12Bag{oidCertBag, explicit(w.marshal(p12CertBag{oidX509Certificate, cert.Raw})), attributes}
}

func (w *p12Writer) keyBag(key crypto.Signer, attributes ...p12Attribute) p12Bag {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	w.err = errors.Join(w.err, err)
	if w.profile.key == nil {
		return p12Bag{oidKeyBag, explicit(der), attributes}
	}
	return p12Bag{oidShroudedKeyBag, explicit(w.marshal(w.encrypt(der, w.profile.key))), attributes}
}

func (w *p12Writer) mac(mac *p12MAC, safe []byte) {
	if w.profile.mac == nil {
		return
	}
	mac.Digest.Algorithm.Algorithm = w.profile.mac
	mac.Salt, mac.Iterations = w.salt(), w.profile.iterations
	if w.profile.mac.Equal(oidPBMAC1) {
		sha := pkix.AlgorithmIdentifier{Algorithm: oidHMACWithSHA256, Parameters: asn1.NullRawValue}
		kdf := w.marshal(pbkdf2Params{Salt: mac.Salt, Iterations: mac.Iterations, KeyLength: sha256.Size, PRF: sha})
		params := w.marshal(pbmac1Params{
			KDF: pkix.AlgorithmIdentifier{Algorithm: oidPBKDF2, Parameters: asn1.RawValue{FullBytes: kdf}}, MAC: sha})
		mac.Digest.Algorithm.Parameters.FullBytes = params
		mac.Salt, mac.Iterations = []byte("NOT USED"), 1 // RFC 9579, section 6: they are ignored
	} else {
		mac.Digest.Algorithm.Parameters = asn1.NullRawValue
	}
	sum, err := mac.sum(safe, w.password, w.profile.iterations)
	w.err = errors.Join(w.err, err)
	mac.Digest.Digest = sum
}
