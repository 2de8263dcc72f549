package handshake

import (
	"crypto/tls"
	"fmt"
	"strings"
)

func versionName(v uint16) string {
	if v == 0x0300 {
		return "SSL 3.0"
	}
	return tls.VersionName(v)
}

func suiteName(id uint16) string {
	switch id {
	case 0x00FF: // RFC 5746
		return "TLS_EMPTY_RENEGOTIATION_INFO_SCSV"
	case 0x5600: // RFC 7507
		return "TLS_FALLBACK_SCSV"
	}
	return tls.CipherSuiteName(id)
}

// groupNames are the groups that crypto/tls has no name for, and those that it
// spells as identifiers of Go.
var groupNames = map[uint16]string{
	23: "P-256", 24: "P-384", 25: "P-521", 30: "X448",
	256: "ffdhe2048", 257: "ffdhe3072", 258: "ffdhe4096", 259: "ffdhe6144", 260: "ffdhe8192",
}

func groupName(id uint16) string {
	if name := groupNames[id]; name != "" {
		return name
	}
	if name := tls.CurveID(id).String(); !strings.HasPrefix(name, "CurveID(") {
		return name
	}
	return fmt.Sprintf("0x%04X", id)
}

// schemeNames are as RFC 8446, section 4.2.3, spells them, so that they are
// found in what openssl and others print.
var schemeNames = map[uint16]string{
	0x0201: "rsa_pkcs1_sha1", 0x0203: "ecdsa_sha1",
	0x0202: "dsa_sha1", 0x0302: "dsa_sha224", 0x0402: "dsa_sha256", 0x0502: "dsa_sha384", 0x0602: "dsa_sha512",
	0x0301: "rsa_pkcs1_sha224", 0x0303: "ecdsa_sha224",
	0x0401: "rsa_pkcs1_sha256", 0x0403: "ecdsa_secp256r1_sha256",
	0x0501: "rsa_pkcs1_sha384", 0x0503: "ecdsa_secp384r1_sha384",
	0x0601: "rsa_pkcs1_sha512", 0x0603: "ecdsa_secp521r1_sha512",
	0x0804: "rsa_pss_rsae_sha256", 0x0805: "rsa_pss_rsae_sha384", 0x0806: "rsa_pss_rsae_sha512",
	0x0807: "ed25519", 0x0808: "ed448",
	0x0809: "rsa_pss_pss_sha256", 0x080a: "rsa_pss_pss_sha384", 0x080b: "rsa_pss_pss_sha512",
	0x0904: "mldsa44", 0x0905: "mldsa65", 0x0906: "mldsa87",
}

func schemeName(id uint16) string {
	if name := schemeNames[id]; name != "" {
		return name
	}
	return fmt.Sprintf("0x%04X", id)
}

// typeNames are ClientCertificateType: RFC 5246, section 7.4.4, and RFC 8422,
// section 5.5.
var typeNames = map[byte]string{1: "RSA", 2: "DSA", 64: "ECDSA"}

func typeName(b byte) string {
	if name := typeNames[b]; name != "" {
		return name
	}
	return fmt.Sprintf("type %d", b)
}

// alertNames are as RFC 8446, section 6, spells them, and RFC 5246 for those that
// only older versions have.
var alertNames = map[uint8]string{
	0: "close_notify", 10: "unexpected_message", 20: "bad_record_mac", 21: "decryption_failed",
	22: "record_overflow", 30: "decompression_failure", 40: "handshake_failure",
	41: "no_certificate", 42: "bad_certificate", 43: "unsupported_certificate",
	44: "certificate_revoked", 45: "certificate_expired", 46: "certificate_unknown",
	47: "illegal_parameter", 48: "unknown_ca", 49: "access_denied", 50: "decode_error",
	51: "decrypt_error", 60: "export_restriction", 70: "protocol_version",
	71: "insufficient_security", 80: "internal_error", 86: "inappropriate_fallback",
	90: "user_canceled", 100: "no_renegotiation", 109: "missing_extension",
	110: "unsupported_extension", 111: "certificate_unobtainable", 112: "unrecognized_name",
	113: "bad_certificate_status_response", 114: "bad_certificate_hash_value",
	115: "unknown_psk_identity", 116: "certificate_required", 120: "no_application_protocol",
	121: "ech_required",
}

// alert makes an Alert of its two bytes. In TLS 1.3 the code alone tells whether
// it is fatal (RFC 8446, section 6).
func newAlert(level, code byte) *Alert {
	return &Alert{Code: code, Name: alertNames[code], Fatal: code != closeNotify && code != 90 && (level == 2 || code != 100 && code != 112)}
}

const closeNotify = 0

// String returns the name as others print it: unknown_ca (48).
func (a *Alert) String() string {
	if a.Name == "" {
		return fmt.Sprintf("%d", a.Code)
	}
	return fmt.Sprintf("%s (%d)", a.Name, a.Code)
}
