package pki

import (
	"crypto/ed25519"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"strings"

	gopkcs12 "software.sslmate.com/src/go-pkcs12"
)

// RC2 is long broken and in no standard library. Certificates that old programs
// encrypt with it are left to go-pkcs12, which takes and gives no names with them.
// So the name of an entry stands with its key, and the trust anchor, which has a name
// of its own and is no secret, beside it. No key is encrypted with RC2.

// isRC2 tells the two ciphers with RC2 that PKCS#12 has.
func isRC2(algorithm pkix.AlgorithmIdentifier) bool {
	return algorithm.Algorithm.Equal(oidPBERC240) || algorithm.Algorithm.Equal(oidPBERC2128)
}

// beyondUCS2 tells of characters that go-pkcs12 cannot put into a password.
func beyondUCS2(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool { return r > 0xffff })
}

// rc2StandIn is in the place of the private key: none is ever given to go-pkcs12.
func rc2StandIn() ed25519.PrivateKey { return ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)) }

// rc2Certs returns the chain, encrypted with RC2.
func (w *p12Writer) rc2Certs(chain Chain, password []byte) p12Content {
	data, err := gopkcs12.LegacyRC2.WithIterations(w.profile.iterations).Encode(rc2StandIn(), chain[0], chain[1:], string(password))
	var file p12File
	var safe []byte
	var contents []p12Content
	if err == nil {
		err = unmarshal(data, &file)
	}
	if err == nil {
		err = unmarshal(file.AuthSafe.Content.Bytes, &safe)
	}
	if err == nil {
		err = unmarshal(safe, &contents)
	}
	if err != nil || len(contents) == 0 {
		w.err = errors.Join(w.err, errors.New("encrypt with RC2"), err)
		return p12Content{}
	}
	return contents[0] // the other one has the key
}

// rc2Content reads certificates that are encrypted with RC2: those in it are trust
// anchors if all of them are. go-pkcs12 gets them in a file of their own, with
// parameters that were checked and a MAC of ours, as it has no bounds itself.
func (r *p12Reader) rc2Content(c *p12Content, algorithm pkix.AlgorithmIdentifier) error {
	if err := r.part(); err != nil {
		return err
	}
	password, err := r.password()
	if err != nil {
		return err
	}
	if _, err := pbeParameters(algorithm, r.iterationLimit); err != nil {
		return err
	}
	secret := string(password.utf8)
	if beyondUCS2(secret) {
		return unsupported("RC2 with a password beyond UCS-2 is not supported: convert it with openssl pkcs12 -legacy")
	}
	w := &p12Writer{profile: &p12Profile{mac: oidSHA1, iterations: 1, saltSize: 8}, password: password}
	certs, err := gopkcs12.DecodeTrustStore(w.file(*c), secret)
	trusted := err == nil
	if err != nil && !errors.Is(err, gopkcs12.ErrDecryption) {
		if err := r.part(); err != nil {
			return err
		}
		key := w.content(w.marshal([]p12Bag{w.keyBag(rc2StandIn())}), nil)
		var leaf *x509.Certificate
		_, leaf, certs, err = gopkcs12.DecodeChain(w.file(*c, key), secret)
		certs = append([]*x509.Certificate{leaf}, certs...)
	}
	switch {
	case w.err != nil:
		return w.err
	case errors.Is(err, gopkcs12.ErrDecryption):
		return errKeystorePassword
	case err != nil:
		return unsupported("encrypted with RC2: %w", err)
	}
	for _, cert := range certs {
		r.cert(p12Cert{KeystoreCert: KeystoreCert{Cert: cert}, trusted: trusted}, algorithm.Algorithm)
	}
	return nil
}
