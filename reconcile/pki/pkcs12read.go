package pki

import (
	"bytes"
	"crypto/hmac"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"unicode/utf16"

	"github.com/certsync/certsync/spec"
)

// parsePKCS12 reads a PKCS#12 file. One that is whole, and not understood, may be
// in BER, or hold what this program does not know: it is not malformed.
func parsePKCS12(data []byte, password func() ([]byte, error), iterationLimit int) (*Keystore, error) {
	switch {
	case !isPKCS12(data):
		return nil, errors.New("malformed PKCS#12: it does not start as one")
	case !isWhole(data):
		return nil, errors.New("malformed PKCS#12: it is cut off")
	}
	store, err := readPKCS12(data, password, iterationLimit)
	if err != nil {
		return nil, intact(err)
	}
	return store, nil
}

// isWhole tells whether a sequence in DER or BER is there to its end.
func isWhole(data []byte) bool {
	if len(data) < 2 || data[0] != 0x30 {
		return false
	}
	n, rest := uint64(data[1]), data[2:]
	switch {
	case n == 0x80: // of indefinite length: zeros end it
		return bytes.HasSuffix(rest, []byte{0, 0})
	case n > 0x80:
		size := int(n & 0x7f)
		if size > 8 || size > len(rest) {
			return false
		}
		n = 0
		for _, b := range rest[:size] {
			n = n<<8 | uint64(b)
		}
		rest = rest[size:]
	}
	return n <= uint64(len(rest))
}

func readPKCS12(data []byte, password func() ([]byte, error), iterationLimit int) (*Keystore, error) {
	var file p12File
	if err := unmarshal(data, &file); err != nil {
		return nil, errNotDER
	}
	if file.Version != 3 || !file.AuthSafe.Type.Equal(oidData) {
		return nil, unsupported("PKCS#12 of version %d and content %v is not supported", file.Version, file.AuthSafe.Type)
	}
	r := &p12Reader{iterationLimit: iterationLimit, ask: password}
	var safe []byte
	if err := unmarshal(file.AuthSafe.Content.Bytes, &safe); err != nil {
		return nil, errNotDER
	}
	if file.MAC.Digest.Algorithm.Algorithm != nil {
		if err := r.verify(&file.MAC, safe); err != nil {
			return nil, err
		}
	}
	var contents []p12Content
	if err := unmarshal(safe, &contents); err != nil {
		return nil, errNotDER
	}
	for i := range contents {
		if err := r.content(&contents[i]); err != nil {
			return nil, err
		}
	}
	store := r.keystore()
	store.Profile = r.profile(&file.MAC)
	return store, nil
}

// errNotDER stands for what encoding/asn1 says, which helps nobody.
var errNotDER = unsupported("PKCS#12 that is in BER or damaged is not supported: openssl pkcs12 may convert it")

// p12Reader gathers what the bags hold.
type p12Reader struct {
	iterationLimit int
	ask            func() ([]byte, error)
	secret         *p12Password // once it was asked for
	parts          int          // that were encrypted

	certs      []p12Cert
	keys       []p12Key
	certCipher asn1.ObjectIdentifier
	ciphered   bool // certCipher is that of a certificate, be it none
	keyCipher  asn1.ObjectIdentifier
	mixed      bool // more than one cipher for certificates, or for keys
}

type p12Cert struct {
	KeystoreCert
	id      []byte
	trusted bool
}

type p12Key struct {
	alias string
	id    []byte
	key   *Key
}

func (r *p12Reader) password() (p12Password, error) {
	if r.secret == nil {
		secret, err := keystorePassword(r.ask)
		if err != nil {
			return p12Password{}, err
		}
		p := newP12Password(secret)
		r.secret = &p
	}
	return *r.secret, nil
}

// verify checks the MAC, and so the password. An empty password is nothing at all
// for some programs, and two zero bytes for others.
func (r *p12Reader) verify(mac *p12MAC, safe []byte) error {
	password, err := r.password()
	if err != nil {
		return err
	}
	tries := []p12Password{password}
	if len(password.utf8) == 0 {
		tries = append(tries, p12Password{})
	}
	for i := range tries {
		sum, err := mac.sum(safe, tries[i], r.iterationLimit)
		if err != nil {
			return err
		}
		if hmac.Equal(sum, mac.Digest.Digest) {
			r.secret = &tries[i]
			return nil
		}
	}
	return errKeystorePassword
}

// part counts what is decrypted.
func (r *p12Reader) part() error {
	if r.parts++; r.parts > maxKeystoreParts {
		return unsupported("PKCS#12 with more than %d encrypted parts is not supported", maxKeystoreParts)
	}
	return nil
}

func (r *p12Reader) decrypt(enc encryptedKey) ([]byte, error) {
	if err := r.part(); err != nil {
		return nil, err
	}
	password, err := r.password()
	if err != nil {
		return nil, err
	}
	plain, err := p12Decrypt(enc, password, r.iterationLimit)
	if errors.Is(err, ErrPassword) {
		return nil, errKeystorePassword
	}
	return plain, err
}

func (r *p12Reader) content(c *p12Content) error {
	var data []byte
	var err error
	var algorithm asn1.ObjectIdentifier
	switch {
	case c.Type.Equal(oidData):
		err = unmarshal(c.Content.Bytes, &data)
	case c.Type.Equal(oidEncryptedData):
		var enc p12Encrypted
		if err = unmarshal(c.Content.Bytes, &enc); err != nil {
			break
		}
		if isRC2(enc.Info.Algorithm) {
			return r.rc2Content(c, enc.Info.Algorithm)
		}
		algorithm = enc.Info.Algorithm.Algorithm
		if data, err = r.decrypt(encryptedKey{enc.Info.Algorithm, enc.Info.Data}); err != nil {
			return err
		}
	default:
		return unsupported("PKCS#12 with content %v is not supported", c.Type)
	}
	var bags []p12Bag
	if err == nil {
		err = unmarshal(data, &bags)
	}
	if err != nil {
		return errNotDER
	}
	for i := range bags {
		if err := r.bag(&bags[i], algorithm); err != nil {
			return err
		}
	}
	return nil
}

func (r *p12Reader) bag(b *p12Bag, algorithm asn1.ObjectIdentifier) error {
	name, id, trusted := b.attributes()
	switch {
	case b.ID.Equal(oidCertBag):
		var bag p12CertBag
		if err := unmarshal(b.Value.Bytes, &bag); err != nil {
			return errNotDER
		}
		if !bag.ID.Equal(oidX509Certificate) {
			return unsupported("a certificate of type %v is not supported", bag.ID)
		}
		cert, err := x509.ParseCertificate(bag.Data)
		if err != nil {
			return fmt.Errorf("malformed certificate: %w", err)
		}
		r.cert(p12Cert{KeystoreCert{name, cert}, id, trusted}, algorithm)
		return nil
	case b.ID.Equal(oidKeyBag), b.ID.Equal(oidShroudedKeyBag):
		der := b.Value.Bytes
		if b.ID.Equal(oidShroudedKeyBag) {
			var enc encryptedKey
			err := unmarshal(der, &enc)
			if err != nil {
				return errNotDER
			}
			algorithm = enc.Algorithm.Algorithm
			if der, err = r.decrypt(enc); err != nil {
				return err
			}
		}
		key, err := keystoreKey(der)
		if err != nil {
			return err
		}
		r.mixed = r.mixed || len(r.keys) > 0 && !algorithm.Equal(r.keyCipher)
		r.keyCipher = algorithm
		r.keys = append(r.keys, p12Key{name, id, key})
		return nil
	}
	return unsupported("PKCS#12 with a bag of type %v is not supported", b.ID)
}

func (r *p12Reader) cert(c p12Cert, algorithm asn1.ObjectIdentifier) {
	r.certs = append(r.certs, c)
	if algorithm == nil && c.trusted {
		return // an anchor may stand in the clear, as it does with LegacyRC2
	}
	r.mixed = r.mixed || r.ciphered && !algorithm.Equal(r.certCipher)
	r.certCipher, r.ciphered = algorithm, true
}

// attributes reads those that are known; others say nothing to us.
func (b *p12Bag) attributes() (name string, id []byte, trusted bool) {
	for _, a := range b.Attributes {
		switch {
		case a.ID.Equal(oidFriendlyName):
			var text asn1.RawValue
			if _, err := asn1.Unmarshal(a.Values.Bytes, &text); err != nil || text.Tag != asn1.TagBMPString {
				continue
			}
			var units []uint16
			for i := 0; i+1 < len(text.Bytes); i += 2 {
				units = append(units, uint16(text.Bytes[i])<<8|uint16(text.Bytes[i+1]))
			}
			name = string(utf16.Decode(units))
		case a.ID.Equal(oidLocalKeyID):
			_, _ = asn1.Unmarshal(a.Values.Bytes, &id) // nil if malformed
		case a.ID.Equal(oidJavaTrusted):
			trusted = true
		}
	}
	return name, id, trusted
}

// keystore sorts out what belongs to what: a key's certificate is the one for
// it, and what else there is stands above the only key.
func (r *p12Reader) keystore() *Keystore {
	store := &Keystore{Form: spec.FormPKCS12}
	used := make([]bool, len(r.certs))
	for _, k := range r.keys {
		entry := KeystoreKey{Alias: k.alias, Key: k.key}
		best := -1
		for i := range r.certs {
			c := &r.certs[i]
			if !used[i] && !c.trusted && k.key.Matches(c.Cert) && (best < 0 || len(k.id) > 0 && bytes.Equal(c.id, k.id) && !bytes.Equal(r.certs[best].id, k.id)) {
				best = i
			}
		}
		if best >= 0 {
			used[best] = true
			entry.Chain = []*x509.Certificate{r.certs[best].Cert}
			if entry.Alias == "" {
				entry.Alias = r.certs[best].Alias
			}
		}
		store.Keys = append(store.Keys, entry)
	}
	for i, c := range r.certs {
		switch {
		case used[i]:
		case c.trusted:
			store.Trusted = append(store.Trusted, c.KeystoreCert)
		case len(store.Keys) == 1 && len(store.Keys[0].Chain) > 0:
			store.Keys[0].Chain = append(store.Keys[0].Chain, c.Cert)
		default:
			store.Others = append(store.Others, c.KeystoreCert)
		}
	}
	return store
}

// profile names how the file is encrypted; the numbers of iterations may be others.
func (r *p12Reader) profile(mac *p12MAC) spec.Profile {
	for _, p := range p12Profiles {
		if !r.mixed && p.certs.Equal(r.certCipher) && p.key.Equal(r.keyCipher) && p.mac.Equal(mac.Digest.Algorithm.Algorithm) {
			return p.name
		}
	}
	return ""
}
