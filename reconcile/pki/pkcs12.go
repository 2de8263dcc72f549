package pki

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha1" //nolint:gosec // what old importers read
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"hash"

	"github.com/certsync/certsync/spec"
)

// p12File is PFX (RFC 7292, section 4).
type p12File struct {
	Version  int
	AuthSafe p12Content
	MAC      p12MAC `asn1:"optional"`
}

// p12Content is ContentInfo (RFC 5652, section 3).
type p12Content struct {
	Type    asn1.ObjectIdentifier
	Content asn1.RawValue `asn1:"tag:0,explicit,optional"`
}

type p12MAC struct {
	Digest struct {
		Algorithm pkix.AlgorithmIdentifier
		Digest    []byte
	}
	Salt       []byte
	Iterations int `asn1:"optional,default:1"`
}

// p12Encrypted is EncryptedData (RFC 5652, section 8).
type p12Encrypted struct {
	Version int
	Info    struct {
		Type      asn1.ObjectIdentifier
		Algorithm pkix.AlgorithmIdentifier
		Data      []byte `asn1:"tag:0,optional"`
	}
}

// p12Bag is SafeBag (RFC 7292, section 4.2).
type p12Bag struct {
	ID         asn1.ObjectIdentifier
	Value      asn1.RawValue  `asn1:"tag:0,explicit"`
	Attributes []p12Attribute `asn1:"set,optional"`
}

type p12Attribute struct {
	ID     asn1.ObjectIdentifier
	Values asn1.RawValue `asn1:"set"`
}

type p12CertBag struct {
	ID   asn1.ObjectIdentifier
	Data []byte `asn1:"tag:0,explicit"`
}

// pbmac1Params is PBMAC1-params (RFC 9579).
type pbmac1Params struct {
	KDF, MAC pkix.AlgorithmIdentifier
}

var (
	oidData          = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}
	oidEncryptedData = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 6}

	oidKeyBag          = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 12, 10, 1, 1}
	oidShroudedKeyBag  = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 12, 10, 1, 2}
	oidCertBag         = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 12, 10, 1, 3}
	oidX509Certificate = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 22, 1}

	oidFriendlyName = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 20}
	oidLocalKeyID   = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 21}
	// Java takes certificates with this attribute for trust anchors.
	oidJavaTrusted = asn1.ObjectIdentifier{2, 16, 840, 1, 113894, 746875, 1, 1}
	oidAnyUsage    = asn1.ObjectIdentifier{2, 5, 29, 37, 0}

	oidSHA1   = asn1.ObjectIdentifier{1, 3, 14, 3, 2, 26}
	oidSHA256 = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}
	oidPBMAC1 = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 14}
)

var p12Digests = []struct {
	oid  asn1.ObjectIdentifier
	hash func() hash.Hash
}{
	{oidSHA1, sha1.New},
	{oidSHA256, sha256.New},
	{asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 2}, sha512.New384},
	{asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 3}, sha512.New},
}

// p12Profile is the cryptography of a profile; nil is none.
type p12Profile struct {
	name       spec.Profile
	certs, key asn1.ObjectIdentifier
	mac        asn1.ObjectIdentifier
	iterations int
	saltSize   int
}

// The numbers of iterations are those of Java, which are the highest that are in
// use, and, for old importers, those of old openssl.
var p12Profiles = []p12Profile{
	{spec.ProfileModern2023, oidPBES2, oidPBES2, oidSHA256, 10_000, 16},
	{spec.ProfileModern2026, oidPBES2, oidPBES2, oidPBMAC1, 10_000, 16},
	{spec.ProfileLegacyDES, oidPBE3DES, oidPBE3DES, oidSHA1, 2048, 8},
	{spec.ProfileLegacyRC2, oidPBERC240, oidPBE3DES, oidSHA1, 2048, 8},
	{spec.ProfilePasswordless, nil, nil, nil, 1, 0},
}

// sum computes the MAC (RFC 7292, section 5.1, and RFC 9579).
func (m *p12MAC) sum(safe []byte, password p12Password, iterationLimit int) ([]byte, error) {
	algorithm := m.Digest.Algorithm
	if algorithm.Algorithm.Equal(oidPBMAC1) {
		return pbmac1(algorithm.Parameters.FullBytes, safe, password.utf8, iterationLimit)
	}
	for _, d := range p12Digests {
		if !d.oid.Equal(algorithm.Algorithm) {
			continue
		}
		if err := checkIterations(m.Iterations, iterationLimit); err != nil {
			return nil, err
		}
		h := hmac.New(d.hash, pkcs12Derive(d.hash, kdfMAC, password.bmp, m.Salt, m.Iterations, d.hash().Size()))
		h.Write(safe)
		return h.Sum(nil), nil
	}
	return nil, unsupported("a MAC with algorithm %v is not supported", algorithm.Algorithm)
}

func pbmac1(params, safe, password []byte, iterationLimit int) ([]byte, error) {
	var p pbmac1Params
	var kdf pbkdf2Params
	if err := unmarshal(params, &p); err != nil {
		return nil, fmt.Errorf("malformed PBMAC1 parameters: %w", err)
	}
	if !p.KDF.Algorithm.Equal(oidPBKDF2) {
		return nil, unsupported("PBMAC1 with key derivation %v is not supported", p.KDF.Algorithm)
	}
	if err := unmarshal(p.KDF.Parameters.FullBytes, &kdf); err != nil {
		return nil, fmt.Errorf("malformed PBMAC1 parameters: %w", err)
	}
	if err := checkIterations(kdf.Iterations, iterationLimit); err != nil {
		return nil, err
	}
	// RFC 9579, section 5, asks for a length, and no short one.
	if kdf.KeyLength < 20 || kdf.KeyLength > sha512.Size {
		return nil, fmt.Errorf("malformed PBMAC1 parameters: a key of %d bytes", kdf.KeyLength)
	}
	if kdf.PRF.Algorithm == nil {
		kdf.PRF.Algorithm = pbkdf2PRFs[0].oid
	}
	prf, mac := hmacHash(kdf.PRF.Algorithm), hmacHash(p.MAC.Algorithm)
	if prf == nil || mac == nil {
		return nil, unsupported("PBMAC1 with functions %v and %v is not supported", kdf.PRF.Algorithm, p.MAC.Algorithm)
	}
	key, err := pbkdf2.Key(prf, string(password), kdf.Salt, kdf.Iterations, kdf.KeyLength)
	if err != nil {
		return nil, err
	}
	h := hmac.New(mac, key)
	h.Write(safe)
	return h.Sum(nil), nil
}

func hmacHash(oid asn1.ObjectIdentifier) func() hash.Hash {
	for _, prf := range pbkdf2PRFs {
		if prf.oid.Equal(oid) {
			return prf.hash
		}
	}
	return nil
}
