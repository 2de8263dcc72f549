package pki

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/certsync/certsync/spec"
)

// ErrNoCertificate is wrapped by the errors for input that holds no certificate.
var ErrNoCertificate = errors.New("no certificate found")

const (
	pemCertificate = "CERTIFICATE"
	pemOldX509     = "X509 CERTIFICATE" // as old versions of openssl wrote
)

// CheckForm tells whether data that holds no PEM certificate holds one in another
// form, which is an error that is ErrUnsupported: it may be intact.
func CheckForm(data []byte) error {
	if form := foreign(data); form != "" {
		return unsupported("the certificate is %s: PEM is what can be read", form)
	}
	return nil
}

// foreign names the form of data that is not PEM as it is read here, but may
// hold keys and certificates all the same; empty if it is nothing known.
func foreign(data []byte) string {
	if bytes.HasPrefix(data, []byte("\xef\xbb\xbf")) {
		return "behind a byte order mark"
	}
	var whole asn1.RawValue
	if rest, err := asn1.Unmarshal(data, &whole); err == nil && len(rest) == 0 && whole.Tag == asn1.TagSequence && whole.IsCompound {
		return "in DER"
	}
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			return ""
		}
		switch block.Type {
		case "PKCS7", "PKCS #7 SIGNED DATA", "CMS", "TRUSTED CERTIFICATE":
			return "in PEM of type " + block.Type
		}
	}
}

// IsCertificate tells whether a PEM block is a certificate, by its type.
func IsCertificate(block *pem.Block) bool {
	return block.Type == pemCertificate || block.Type == pemOldX509
}

// ParseCertificates reads the certificates in PEM data, in their order. Text
// around the blocks and blocks of other types, such as a private key or DH
// parameters, are skipped. A certificate that is cut off or malformed is an
// error; so is data without any, which wraps ErrNoCertificate.
func ParseCertificates(data []byte) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	blocks := 0
	for rest := data; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if !IsCertificate(block) {
			continue
		}
		if block.Type == pemCertificate {
			blocks++
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("malformed certificate: %w", err)
		}
		certs = append(certs, cert)
	}
	// encoding/pem passes over a block that is damaged, as if it were text.
	if bytes.Count(data, []byte("-----BEGIN "+pemCertificate+"-----")) > blocks {
		return nil, errors.New("malformed certificate: incomplete PEM block")
	}
	if len(certs) == 0 {
		return nil, ErrNoCertificate
	}
	return certs, nil
}

// EncodeCertificates returns the certificates in PEM, nil for none.
func EncodeCertificates(certs ...*x509.Certificate) []byte {
	if len(certs) == 0 {
		return nil
	}
	size := 0
	for _, cert := range certs {
		n := base64.StdEncoding.EncodedLen(len(cert.Raw))
		size += n + n/64 + 64
	}
	out := bytes.NewBuffer(make([]byte, 0, size))
	for _, cert := range certs {
		// A bytes.Buffer does not fail, and there are no headers to be wrong.
		_ = pem.Encode(out, &pem.Block{Type: pemCertificate, Bytes: cert.Raw})
	}
	return out.Bytes()
}

// Encode returns the content of an output of the given form. enc and password
// are those of EncodePEM. The chain of a certificate without intermediates is
// nil: an empty file. What the form needs and the material lacks is an error.
func Encode(form spec.Form, m Material, enc spec.Encoding, password []byte) ([]byte, error) {
	switch form {
	case spec.FormCA:
		if m.Anchor == nil {
			return nil, errors.New("the trust anchor is not known")
		}
		return EncodeCertificates(m.Anchor), nil
	case spec.FormPrivateKey:
		return encodeKey(m, enc, password)
	}

	if len(m.Chain) == 0 {
		return nil, errors.New("no certificate")
	}
	switch form {
	case spec.FormCertificate:
		return EncodeCertificates(m.Chain[0]), nil
	case spec.FormChain:
		return EncodeCertificates(m.Chain[1:]...), nil
	case spec.FormFullChain:
		return EncodeCertificates(m.Chain...), nil
	case spec.FormCombined:
		key, err := encodeKey(m, enc, password)
		if err != nil {
			return nil, err
		}
		return append(key, EncodeCertificates(m.Chain...)...), nil
	}
	return nil, fmt.Errorf("output form %q is not supported", form)
}

func encodeKey(m Material, enc spec.Encoding, password []byte) ([]byte, error) {
	if m.Key == nil {
		return nil, errors.New("no private key")
	}
	return m.Key.EncodePEM(enc, password)
}
