package pki

import (
	"bytes"
	"crypto"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha1" //nolint:gosec // what old importers read
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"hash"
	"unicode/utf16"

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

// parsePKCS12 reads a PKCS#12 file.
func parsePKCS12(data []byte, password func() ([]byte, error), iterationLimit int) (*Keystore, error) {
	var file p12File
	if err := unmarshal(data, &file); err != nil {
		if isPKCS12(data) && data[1] == 0x80 {
			return nil, unsupported("PKCS#12 in BER is not supported: convert it with openssl pkcs12")
		}
		return nil, p12Malformed(err)
	}
	if file.Version != 3 || !file.AuthSafe.Type.Equal(oidData) {
		return nil, unsupported("PKCS#12 of version %d and content %v is not supported", file.Version, file.AuthSafe.Type)
	}
	r := &p12Reader{iterationLimit: iterationLimit, ask: password}
	var safe []byte
	if err := unmarshal(file.AuthSafe.Content.Bytes, &safe); err != nil {
		return nil, p12Malformed(err)
	}
	if file.MAC.Digest.Algorithm.Algorithm != nil {
		if err := r.verify(&file.MAC, safe); err != nil {
			return nil, err
		}
	}
	var contents []p12Content
	if err := unmarshal(safe, &contents); err != nil {
		return nil, p12Malformed(err)
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

func p12Malformed(err error) error { return fmt.Errorf("malformed PKCS#12: %w", err) }

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
		return p12Malformed(err)
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
			return p12Malformed(err)
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
				return p12Malformed(err)
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
