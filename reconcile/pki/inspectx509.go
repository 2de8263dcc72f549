package pki

import (
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"fmt"
	"net"
	"net/url"
	"slices"
)

func inspectCertificate(der []byte) (Item, error) {
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return Item{}, fmt.Errorf("malformed certificate: %w", err)
	}
	return Item{Type: ItemCertificate, Certificate: NewCertificateInfo(cert)}, nil
}

// NewCertificateInfo returns what Inspect tells of a certificate.
func NewCertificateInfo(cert *x509.Certificate) *CertificateInfo {
	info := &CertificateInfo{
		Subject:            SubjectString(cert.Subject),
		Issuer:             SubjectString(cert.Issuer),
		Serial:             serialString(cert.SerialNumber),
		NotBefore:          cert.NotBefore,
		NotAfter:           cert.NotAfter,
		NamesInfo:          namesInfo(cert.DNSNames, cert.IPAddresses, cert.URIs, cert.EmailAddresses, cert.Extensions),
		PublicKey:          publicKeyInfo(cert.PublicKey, cert.PublicKeyAlgorithm, cert.RawSubjectPublicKeyInfo),
		SubjectKeyID:       hex.EncodeToString(cert.SubjectKeyId),
		AuthorityKeyID:     hex.EncodeToString(cert.AuthorityKeyId),
		CRLs:               cert.CRLDistributionPoints,
		OCSPServers:        cert.OCSPServer,
		IssuerURLs:         cert.IssuingCertificateURL,
		SignatureAlgorithm: cert.SignatureAlgorithm.String(),
		Fingerprint:        CertificateFingerprint(cert),
		Extensions:         otherExtensions(cert.Extensions),
	}
	info.Policies = mapped(cert.Policies, x509.OID.String)
	info.Usages = usagesOf(cert)
	info.IsCA = cert.BasicConstraintsValid && cert.IsCA
	if limit := pathLen(cert); info.IsCA && limit >= 0 {
		info.PathLen = &limit
	}
	identity := IdentityOf(cert)
	info.NameConstraints = identity.NameConstraints
	return info
}

func inspectRequest(der []byte) (Item, error) {
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return Item{}, fmt.Errorf("malformed certificate request: %w", err)
	}
	info := &RequestInfo{
		Subject:            SubjectString(csr.Subject),
		NamesInfo:          namesInfo(csr.DNSNames, csr.IPAddresses, csr.URIs, csr.EmailAddresses, csr.Extensions),
		PublicKey:          publicKeyInfo(csr.PublicKey, csr.PublicKeyAlgorithm, csr.RawSubjectPublicKeyInfo),
		SignatureAlgorithm: csr.SignatureAlgorithm.String(),
		SignatureValid:     csr.CheckSignature() == nil,
		Extensions:         otherExtensions(csr.Extensions),
	}
	if err := requestedUsages(csr.Extensions, &info.NamesInfo); err != nil {
		return Item{}, err
	}
	return Item{Type: ItemRequest, Request: info}, nil
}

// requestedUsages decodes what crypto/x509 decodes in certificates only.
func requestedUsages(extensions []pkix.Extension, info *NamesInfo) error {
	var asked x509.Certificate
	for _, e := range extensions {
		var err error
		switch {
		case e.Id.Equal(oidKeyUsage):
			var usage asn1.BitString
			err = unmarshal(e.Value, &usage)
			for i := range 9 {
				asked.KeyUsage |= x509.KeyUsage(usage.At(i) << i)
			}
		case e.Id.Equal(oidExtKeyUsage):
			err = unmarshal(e.Value, &asked.UnknownExtKeyUsage)
		case e.Id.Equal(oidBasicConstraints):
			var basic struct {
				IsCA    bool `asn1:"optional"`
				PathLen int  `asn1:"optional,default:-1"`
			}
			err = unmarshal(e.Value, &basic)
			info.IsCA = basic.IsCA
			if basic.IsCA && basic.PathLen >= 0 {
				info.PathLen = &basic.PathLen
			}
		}
		if err != nil {
			return fmt.Errorf("malformed certificate request: extension %v: %w", e.Id, err)
		}
	}
	asked.UnknownExtKeyUsage = slices.DeleteFunc(asked.UnknownExtKeyUsage, func(oid asn1.ObjectIdentifier) bool {
		for i := range usageTable {
			if usageTable[i].oid.Equal(oid) {
				asked.ExtKeyUsage = append(asked.ExtKeyUsage, usageTable[i].ext)
				return true
			}
		}
		return false
	})
	info.Usages = usagesOf(&asked)
	return nil
}

func inspectCRL(der []byte) (Item, error) {
	crl, err := parseCRL(der)
	if err != nil {
		return Item{}, err
	}
	info := &CRLInfo{
		Issuer:             SubjectString(crl.Issuer),
		Number:             serialString(crl.Number),
		ThisUpdate:         crl.ThisUpdate,
		NextUpdate:         crl.NextUpdate,
		AuthorityKeyID:     hex.EncodeToString(crl.AuthorityKeyId),
		SignatureAlgorithm: crl.SignatureAlgorithm.String(),
		Fingerprint:        sha256.Sum256(crl.Raw),
		Extensions:         otherExtensions(crl.Extensions),
	}
	for _, e := range crl.RevokedCertificateEntries {
		info.Revoked = append(info.Revoked, RevokedInfo{serialString(e.SerialNumber), e.RevocationTime, reasonString(e.ReasonCode)})
	}
	return Item{Type: ItemCRL, CRL: info}, nil
}

func namesInfo(dns []string, ips []net.IP, uris []*url.URL, emails []string, extensions []pkix.Extension) NamesInfo {
	return NamesInfo{
		DNSNames:       dns,
		IPAddresses:    mapped(ips, ipString),
		URIs:           mapped(uris, (*url.URL).String),
		EmailAddresses: emails,
		OtherNames:     otherNames(extensions),
	}
}

// otherNames describes the subject alternative names that crypto/x509 skips
// (RFC 5280, section 4.2.1.6).
func otherNames(extensions []pkix.Extension) []string {
	var names []string
	for _, e := range extensions {
		var list []asn1.RawValue
		if !e.Id.Equal(oidSubjectAltName) || unmarshal(e.Value, &list) != nil {
			continue
		}
		for _, n := range list {
			switch n.Tag {
			case 0:
				var oid asn1.ObjectIdentifier
				_, _ = asn1.Unmarshal(n.Bytes, &oid) // empty if malformed
				names = append(names, "otherName "+oid.String())
			case 3:
				names = append(names, "x400Address")
			case 4:
				var rdns pkix.RDNSequence
				var name pkix.Name
				if unmarshal(n.Bytes, &rdns) == nil {
					name.FillFromRDNSequence(&rdns)
				}
				names = append(names, "directoryName "+SubjectString(name))
			case 5:
				names = append(names, "ediPartyName")
			case 8:
				var oid asn1.ObjectIdentifier
				_, _ = asn1.UnmarshalWithParams(n.FullBytes, &oid, "tag:8") // empty if malformed
				names = append(names, "registeredID "+oid.String())
			}
		}
	}
	return names
}

// decodedExtensions are shown by fields of their own.
var decodedExtensions = []asn1.ObjectIdentifier{
	{2, 5, 29, 14}, {2, 5, 29, 32}, {1, 3, 6, 1, 5, 5, 7, 1, 1},
	oidKeyUsage, oidSubjectAltName, oidBasicConstraints, oidCRLNumber, oidNameConstraints,
	oidDistributionPoints, oidAuthorityKeyID, oidExtKeyUsage,
}

func otherExtensions(extensions []pkix.Extension) []ExtensionInfo {
	var others []ExtensionInfo
	for _, e := range extensions {
		if !slices.ContainsFunc(decodedExtensions, e.Id.Equal) {
			others = append(others, ExtensionInfo{e.Id.String(), e.Critical})
		}
	}
	return others
}
