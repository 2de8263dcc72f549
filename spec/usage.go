package spec

// Usage is one key usage or extended key usage, spelled as Kubernetes and
// cert-manager spell it.
type Usage string

// Key usages (RFC 5280, section 4.2.1.3), in the order of their bits.
const (
	UsageDigitalSignature  Usage = "digital signature"
	UsageContentCommitment Usage = "content commitment"
	UsageKeyEncipherment   Usage = "key encipherment"
	UsageDataEncipherment  Usage = "data encipherment"
	UsageKeyAgreement      Usage = "key agreement"
	UsageCertSign          Usage = "cert sign"
	UsageCRLSign           Usage = "crl sign"
	UsageEncipherOnly      Usage = "encipher only"
	UsageDecipherOnly      Usage = "decipher only"
)

// Extended key usages (RFC 5280, section 4.2.1.12).
const (
	UsageAny             Usage = "any"
	UsageServerAuth      Usage = "server auth"
	UsageClientAuth      Usage = "client auth"
	UsageCodeSigning     Usage = "code signing"
	UsageEmailProtection Usage = "email protection"
	UsageIPsecEndSystem  Usage = "ipsec end system"
	UsageIPsecTunnel     Usage = "ipsec tunnel"
	UsageIPsecUser       Usage = "ipsec user"
	UsageTimestamping    Usage = "timestamping"
	UsageOCSPSigning     Usage = "ocsp signing"
	UsageMicrosoftSGC    Usage = "microsoft sgc"
	UsageNetscapeSGC     Usage = "netscape sgc"
)

// Usages lists every usage in canonical order.
var Usages = []Usage{
	UsageDigitalSignature, UsageContentCommitment, UsageKeyEncipherment,
	UsageDataEncipherment, UsageKeyAgreement, UsageCertSign, UsageCRLSign,
	UsageEncipherOnly, UsageDecipherOnly,
	UsageAny, UsageServerAuth, UsageClientAuth, UsageCodeSigning,
	UsageEmailProtection, UsageIPsecEndSystem, UsageIPsecTunnel,
	UsageIPsecUser, UsageTimestamping, UsageOCSPSigning,
	UsageMicrosoftSGC, UsageNetscapeSGC,
}

// usageAliases are other spellings that Kubernetes and cert-manager accept.
var usageAliases = map[Usage]Usage{
	"signing": UsageDigitalSignature, // Kubernetes: an alias of digital signature
	"s/mime":  UsageEmailProtection,
}
