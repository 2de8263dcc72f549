package pki

import (
	"bytes"
	"crypto/rand"
	"crypto/sha1" //nolint:gosec // the format has nothing else
	"crypto/subtle"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"fmt"
	"unicode/utf16"

	"github.com/certsync/certsync/spec"
)

// The format of Java keystores, as sun.security.provider.JavaKeyStore reads it:
// a header, entries, and a digest over the password and everything before it.
// Keys are protected by sun.security.provider.KeyProtector. Its cryptography is
// that of 1996: who has the file and a weak password has the key.

var (
	jksMagic   = []byte{0xfe, 0xed, 0xfe, 0xed}
	jceksMagic = []byte{0xce, 0xce, 0xce, 0xce}

	oidJavaKeyProtector = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 42, 2, 17, 1, 1}
)

const (
	jksVersion   = 2
	jksKeyEntry  = 1
	jksCertEntry = 2
	jksWhitener  = "Mighty Aphrodite"
	jksX509      = "X.509"
)

func encodeJKS(m Material, o KeystoreOptions) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(m.Key.Signer())
	if err != nil {
		return nil, fmt.Errorf("encode the private key: %w", err)
	}
	password := bmpString(string(o.Password))
	protected, err := protectJava(der, password)
	if err != nil {
		return nil, err
	}
	anchored := !m.Anchor.Equal(m.Chain[0])
	alias := JavaAlias(o.Alias)
	date := uint64(entryTime(m).UnixMilli())

	out := binary.BigEndian.AppendUint32(bytes.Clone(jksMagic), jksVersion)
	entries := uint32(1)
	if anchored {
		entries++
	}
	out = binary.BigEndian.AppendUint32(out, entries)
	out = binary.BigEndian.AppendUint32(out, jksKeyEntry)
	out = appendJavaText(out, alias)
	out = binary.BigEndian.AppendUint64(out, date)
	out = binary.BigEndian.AppendUint32(out, uint32(len(protected)))
	out = append(out, protected...)
	out = binary.BigEndian.AppendUint32(out, uint32(len(m.Chain)))
	for _, cert := range m.Chain {
		out = appendJavaCert(out, cert)
	}
	if anchored {
		out = binary.BigEndian.AppendUint32(out, jksCertEntry)
		out = appendJavaText(out, TrustedAlias(alias))
		out = binary.BigEndian.AppendUint64(out, date)
		out = appendJavaCert(out, m.Anchor)
	}
	digest := jksDigest(password, out)
	return append(out, digest[:]...), nil
}

func appendJavaCert(out []byte, cert *x509.Certificate) []byte {
	out = appendJavaText(out, jksX509)
	out = binary.BigEndian.AppendUint32(out, uint32(len(cert.Raw)))
	return append(out, cert.Raw...)
}

// appendJavaText writes as java.io.DataOutput.writeUTF does: each unit of UTF-16
// for itself, in one to three bytes. Aliases are short enough by the spec.
func appendJavaText(out []byte, s string) []byte {
	var text []byte
	for _, u := range utf16.Encode([]rune(s)) {
		switch {
		case u != 0 && u < 0x80:
			text = append(text, byte(u))
		case u < 0x800:
			text = append(text, 0xc0|byte(u>>6), 0x80|byte(u&0x3f))
		default:
			text = append(text, 0xe0|byte(u>>12), 0x80|byte(u>>6&0x3f), 0x80|byte(u&0x3f))
		}
	}
	return append(binary.BigEndian.AppendUint16(out, uint16(len(text))), text...)
}

func javaText(b []byte) string {
	var units []uint16
	for i := 0; i < len(b); {
		switch c := b[i]; {
		case c < 0x80 || i+1 >= len(b):
			units = append(units, uint16(c))
			i++
		case c < 0xe0 || i+2 >= len(b):
			units = append(units, uint16(c&0x1f)<<6|uint16(b[i+1]&0x3f))
			i += 2
		default:
			units = append(units, uint16(c&0x0f)<<12|uint16(b[i+1]&0x3f)<<6|uint16(b[i+2]&0x3f))
			i += 3
		}
	}
	return string(utf16.Decode(units))
}

func jksDigest(password, data []byte) [sha1.Size]byte {
	h := sha1.New() //nolint:gosec // as above
	h.Write(password)
	h.Write([]byte(jksWhitener))
	h.Write(data)
	return [sha1.Size]byte(h.Sum(nil))
}

// jksReader reads numbers and strings of bytes; the first that is cut off is kept
// as the error, and what follows is empty.
type jksReader struct {
	data []byte
	err  error
}

func (r *jksReader) bytes(n uint64) []byte {
	if r.err == nil && n > uint64(len(r.data)) {
		r.err = errors.New("malformed Java keystore: it is cut off")
	}
	if r.err != nil {
		return nil
	}
	b := r.data[:n]
	r.data = r.data[n:]
	return b
}

func (r *jksReader) uint(size uint64) uint64 {
	var n uint64
	for _, b := range r.bytes(size) {
		n = n<<8 | uint64(b)
	}
	return n
}

func (r *jksReader) text() string { return javaText(r.bytes(r.uint(2))) }

// cert returns a certificate in DER.
func (r *jksReader) cert(version uint64) []byte {
	if version >= jksVersion {
		if kind := r.text(); r.err == nil && kind != jksX509 && kind != "X509" {
			r.err = unsupported("a certificate of type %q is not supported", kind)
		}
	}
	return r.bytes(r.uint(4))
}

// jksEntry is an entry as it is in the file: a key with its chain, or, without
// a key, one certificate.
type jksEntry struct {
	alias string
	key   []byte
	certs [][]byte
}

func parseJKS(data []byte, password func() ([]byte, error)) (*Keystore, error) {
	if bytes.HasPrefix(data, jceksMagic) {
		return nil, unsupported("a Java keystore of type JCEKS is not supported: convert it with keytool -importkeystore")
	}
	if !bytes.HasPrefix(data, jksMagic) {
		return nil, errors.New("malformed Java keystore: it does not start as one")
	}
	r := &jksReader{data: data[len(jksMagic):]}
	version := r.uint(4)
	if r.err == nil && version != 1 && version != jksVersion {
		return nil, unsupported("a Java keystore of version %d is not supported", version)
	}
	var entries []jksEntry
	for n := r.uint(4); n > 0 && r.err == nil; n-- {
		tag, e := r.uint(4), jksEntry{alias: r.text()}
		r.bytes(8) // the date
		switch tag {
		case jksKeyEntry:
			e.key = r.bytes(r.uint(4))
			for n := r.uint(4); n > 0 && r.err == nil; n-- {
				e.certs = append(e.certs, r.cert(version))
			}
		case jksCertEntry:
			e.certs = [][]byte{r.cert(version)}
		default:
			if r.err == nil {
				r.err = fmt.Errorf("malformed Java keystore: an entry of type %d", tag)
			}
		}
		entries = append(entries, e)
	}
	body := data[:len(data)-len(r.data)]
	digest := r.bytes(sha1.Size)
	switch {
	case r.err != nil:
		return nil, r.err
	case len(r.data) > 0:
		return nil, unsupported("a Java keystore with trailing data is not supported")
	}
	secret, err := keystorePassword(password)
	if err != nil {
		return nil, err
	}
	utf16 := bmpString(string(secret))
	if want := jksDigest(utf16, body); subtle.ConstantTimeCompare(digest, want[:]) != 1 {
		return nil, errKeystorePassword
	}
	store := &Keystore{Form: spec.FormJKS}
	for _, e := range entries {
		if err := store.addJava(e, utf16); err != nil {
			// The digest is right: this is what somebody has written.
			return nil, intact(err)
		}
	}
	return store, nil
}

func (k *Keystore) addJava(e jksEntry, password []byte) error {
	var chain []*x509.Certificate
	for _, der := range e.certs {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return fmt.Errorf("certificate of %q: %w", e.alias, err)
		}
		chain = append(chain, cert)
	}
	if e.key == nil {
		k.Trusted = append(k.Trusted, KeystoreCert{e.alias, chain[0]})
		return nil
	}
	der, err := unprotectJava(e.key, password)
	if err != nil {
		return err
	}
	key, err := keystoreKey(der)
	if err != nil {
		return err
	}
	k.Keys = append(k.Keys, KeystoreKey{e.alias, key, chain})
	return nil
}

// javaStream is the key stream of Java's key protector: chained digests.
func javaStream(password, salt []byte, size int) []byte {
	var stream []byte
	for digest := salt; len(stream) < size; {
		sum := sha1.Sum(append(bytes.Clone(password), digest...)) //nolint:gosec // as above
		digest = sum[:]
		stream = append(stream, digest...)
	}
	return stream[:size]
}

func protectJava(der, password []byte) ([]byte, error) {
	var salt [sha1.Size]byte
	_, _ = rand.Read(salt[:])                                // never fails
	check := sha1.Sum(append(bytes.Clone(password), der...)) //nolint:gosec // as above
	data := make([]byte, len(der))
	subtle.XORBytes(data, der, javaStream(password, salt[:], len(der)))
	return asn1.Marshal(encryptedKey{
		Algorithm: pkix.AlgorithmIdentifier{Algorithm: oidJavaKeyProtector, Parameters: asn1.NullRawValue},
		Data:      append(append(salt[:], data...), check[:]...),
	})
}

func unprotectJava(data, password []byte) ([]byte, error) {
	var enc encryptedKey
	if err := unmarshal(data, &enc); err != nil {
		return nil, fmt.Errorf("malformed private key: %w", err)
	}
	if !enc.Algorithm.Algorithm.Equal(oidJavaKeyProtector) {
		return nil, unsupported("a private key encrypted with algorithm %v is not supported", enc.Algorithm.Algorithm)
	}
	n := len(enc.Data) - 2*sha1.Size
	if n < 1 {
		return nil, errors.New("malformed private key: it is cut off")
	}
	salt, check := enc.Data[:sha1.Size], enc.Data[sha1.Size+n:]
	der := make([]byte, n)
	subtle.XORBytes(der, enc.Data[sha1.Size:sha1.Size+n], javaStream(password, salt, n))
	if want := sha1.Sum(append(bytes.Clone(password), der...)); subtle.ConstantTimeCompare(check, want[:]) != 1 { //nolint:gosec // as above
		return nil, fmt.Errorf("the private key has another %w than the keystore", ErrPassword)
	}
	return der, nil
}
