package pki

import (
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"slices"

	"github.com/certsync/certsync/spec"
)

// usageTable tells what each usage is in X.509, in the order of spec.Usages.
// Either keyUsage is set, or it is an extended one.
var usageTable = []struct {
	usage    spec.Usage
	keyUsage x509.KeyUsage
	ext      x509.ExtKeyUsage
	oid      asn1.ObjectIdentifier
}{
	{usage: spec.UsageDigitalSignature, keyUsage: x509.KeyUsageDigitalSignature},
	{usage: spec.UsageContentCommitment, keyUsage: x509.KeyUsageContentCommitment},
	{usage: spec.UsageKeyEncipherment, keyUsage: x509.KeyUsageKeyEncipherment},
	{usage: spec.UsageDataEncipherment, keyUsage: x509.KeyUsageDataEncipherment},
	{usage: spec.UsageKeyAgreement, keyUsage: x509.KeyUsageKeyAgreement},
	{usage: spec.UsageCertSign, keyUsage: x509.KeyUsageCertSign},
	{usage: spec.UsageCRLSign, keyUsage: x509.KeyUsageCRLSign},
	{usage: spec.UsageEncipherOnly, keyUsage: x509.KeyUsageEncipherOnly},
	{usage: spec.UsageDecipherOnly, keyUsage: x509.KeyUsageDecipherOnly},
	{usage: spec.UsageAny, ext: x509.ExtKeyUsageAny, oid: asn1.ObjectIdentifier{2, 5, 29, 37, 0}},
	{usage: spec.UsageServerAuth, ext: x509.ExtKeyUsageServerAuth, oid: asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 1}},
	{usage: spec.UsageClientAuth, ext: x509.ExtKeyUsageClientAuth, oid: asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 2}},
	{usage: spec.UsageCodeSigning, ext: x509.ExtKeyUsageCodeSigning, oid: asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 3}},
	{usage: spec.UsageEmailProtection, ext: x509.ExtKeyUsageEmailProtection, oid: asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 4}},
	{usage: spec.UsageIPsecEndSystem, ext: x509.ExtKeyUsageIPSECEndSystem, oid: asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 5}},
	{usage: spec.UsageIPsecTunnel, ext: x509.ExtKeyUsageIPSECTunnel, oid: asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 6}},
	{usage: spec.UsageIPsecUser, ext: x509.ExtKeyUsageIPSECUser, oid: asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 7}},
	{usage: spec.UsageTimestamping, ext: x509.ExtKeyUsageTimeStamping, oid: asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 8}},
	{usage: spec.UsageOCSPSigning, ext: x509.ExtKeyUsageOCSPSigning, oid: asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 9}},
	{usage: spec.UsageMicrosoftSGC, ext: x509.ExtKeyUsageMicrosoftServerGatedCrypto, oid: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 10, 3, 3}},
	{usage: spec.UsageNetscapeSGC, ext: x509.ExtKeyUsageNetscapeServerGatedCrypto, oid: asn1.ObjectIdentifier{2, 16, 840, 1, 113730, 4, 1}},
}

// namelessExtKeyUsages are those that crypto/x509 knows and the spec does not.
var namelessExtKeyUsages = map[x509.ExtKeyUsage]string{
	x509.ExtKeyUsageMicrosoftCommercialCodeSigning: "1.3.6.1.4.1.311.2.1.22",
	x509.ExtKeyUsageMicrosoftKernelCodeSigning:     "1.3.6.1.4.1.311.61.1.1",
}

// usagesOf returns a certificate's usages in canonical order, followed by those
// that the spec has no word for, as dotted OIDs.
func usagesOf(cert *x509.Certificate) []spec.Usage {
	n := len(cert.ExtKeyUsage) + len(cert.UnknownExtKeyUsage)
	if n == 0 && cert.KeyUsage == 0 {
		return nil
	}
	usages := make([]spec.Usage, 0, n+2)
	for i := range usageTable {
		u := &usageTable[i]
		if u.keyUsage != 0 && cert.KeyUsage&u.keyUsage != 0 ||
			u.keyUsage == 0 && n > 0 && slices.Contains(cert.ExtKeyUsage, u.ext) {
			usages = append(usages, u.usage)
		}
	}
	known := len(usages)
	for _, u := range cert.ExtKeyUsage {
		if oid := namelessExtKeyUsages[u]; oid != "" {
			usages = append(usages, spec.Usage(oid))
		}
	}
	for _, oid := range cert.UnknownExtKeyUsage {
		usages = append(usages, spec.Usage(oid.String()))
	}
	slices.Sort(usages[known:])
	return slices.Compact(usages)
}

// canonicalUsages returns the usages in canonical order, unknown ones last.
func canonicalUsages(usages []spec.Usage) []spec.Usage {
	if len(usages) == 0 {
		return nil
	}
	out := make([]spec.Usage, 0, len(usages))
	for i := range usageTable {
		if slices.Contains(usages, usageTable[i].usage) {
			out = append(out, usageTable[i].usage)
		}
	}
	known := len(out)
	for _, u := range usages {
		if !slices.Contains(out[:known], u) {
			out = append(out, u)
		}
	}
	slices.Sort(out[known:])
	return slices.Compact(out)
}

// x509Usages splits usages into the two extensions of X.509.
func x509Usages(usages []spec.Usage) (x509.KeyUsage, []x509.ExtKeyUsage, error) {
	var keyUsage x509.KeyUsage
	var ext []x509.ExtKeyUsage
	for _, usage := range usages {
		i := slices.Index(spec.Usages, usage)
		if i < 0 {
			return 0, nil, fmt.Errorf("usage %q is not supported", usage)
		}
		if u := &usageTable[i]; u.keyUsage != 0 {
			keyUsage |= u.keyUsage
		} else {
			ext = append(ext, u.ext)
		}
	}
	return keyUsage, ext, nil
}
