package pki

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"github.com/certsync/certsync/spec"
)

// ErrPassword is wrapped by the errors for an encrypted key whose password is
// missing, unobtainable or wrong.
var ErrPassword = errors.New("password")

// ErrNoKey is wrapped by the errors for input that holds no private key.
var ErrNoKey = errors.New("no private key found")

// ErrUnsupported is what the errors for keys and certificates are (errors.Is) that
// may be intact, but come in a form that certsync cannot read.
var ErrUnsupported = errors.New("not supported")

// unsupportedError is a whole sentence, which ErrUnsupported has no part in.
type unsupportedError struct{ error }

func (unsupportedError) Is(target error) bool { return target == ErrUnsupported }

func unsupported(format string, args ...any) error {
	return unsupportedError{fmt.Errorf(format, args...)}
}

// KeyInfo is what may be told of a private key in a file.
type KeyInfo struct {
	Algorithm   spec.Algorithm
	Size        int // bits; 0 for Ed25519
	Encoding    spec.Encoding
	Encrypted   bool
	Fingerprint Fingerprint // of the public key
}

// ParseKey reads the one private key in PEM data; certificates, parameters and
// text around it are skipped. It knows PKCS#8, plain (RFC 5208) and encrypted
// with PBES2 (RFC 8018), PKCS#1 (RFC 8017) and SEC 1 (RFC 5915), plain and as
// openssl used to encrypt them (RFC 1421).
//
// The password is asked for only if the key is encrypted; without it the error
// wraps ErrPassword, and KeyInfo holds what can be known all the same. No error
// shows any part of the key.
func ParseKey(data []byte, password func() ([]byte, error)) (*Key, KeyInfo, error) {
	whole := data
	block := nextKeyBlock(&data)
	switch {
	case block != nil:
	case bytes.Contains(whole, []byte("PRIVATE KEY-----")): // which encoding/pem passes over
		return nil, KeyInfo{}, errors.New("malformed private key: incomplete PEM block")
	default:
		if form := foreign(whole); form != "" {
			return nil, KeyInfo{}, unsupported("the private key is %s: PEM is what can be read", form)
		}
		return nil, KeyInfo{}, ErrNoKey
	}
	if nextKeyBlock(&data) != nil {
		return nil, KeyInfo{}, errors.New("more than one private key")
	}
	return parseKeyBlock(block, password)
}

func nextKeyBlock(data *[]byte) *pem.Block {
	for {
		var block *pem.Block
		if block, *data = pem.Decode(*data); block == nil || isKeyBlock(block) {
			return block
		}
	}
}

func isKeyBlock(b *pem.Block) bool { return strings.HasSuffix(b.Type, "PRIVATE KEY") }

func parseKeyBlock(block *pem.Block, password func() ([]byte, error)) (*Key, KeyInfo, error) {
	info := KeyInfo{}
	switch block.Type {
	case pemPKCS8, pemEncryptedPKCS8:
		info.Encoding = spec.PKCS8
	case pemPKCS1:
		info.Encoding = spec.PKCS1
	case pemSEC1:
		info.Encoding = spec.SEC1
	default:
		return nil, info, unsupported("a private key in PEM type %q is not supported", block.Type)
	}

	der, err := block.Bytes, error(nil)
	//nolint:staticcheck // Deprecated as insecure; we only read what openssl left.
	legacy := x509.IsEncryptedPEMBlock(block)
	if info.Encrypted = legacy || block.Type == pemEncryptedPKCS8; info.Encrypted {
		if der, err = decryptKeyBlock(block, legacy, password); err != nil {
			return nil, info, err
		}
	}

	var parsed any
	switch info.Encoding {
	case spec.PKCS8:
		parsed, err = x509.ParsePKCS8PrivateKey(der)
	case spec.PKCS1:
		parsed, err = x509.ParsePKCS1PrivateKey(der)
	case spec.SEC1:
		parsed, err = x509.ParseECPrivateKey(der)
	}
	if err != nil && strings.Contains(err.Error(), "unknown") { // algorithm, or elliptic curve
		return nil, info, unsupported("%s private key: %w", info.Encoding, err)
	}
	if err != nil && info.Encrypted {
		// One wrong password in 256 leaves valid padding: what comes out then is noise.
		return nil, info, errWrongPassword
	}
	if err != nil {
		return nil, info, fmt.Errorf("malformed %s private key: %w", info.Encoding, err)
	}
	key, err := newParsedKey(parsed)
	if err != nil {
		return nil, info, err
	}
	info.Algorithm, info.Size, info.Fingerprint = key.Algorithm(), key.Size(), key.Fingerprint()
	return key, info, nil
}

var errWrongPassword = fmt.Errorf("wrong %w, or the encrypted private key is damaged", ErrPassword)

func decryptKeyBlock(block *pem.Block, legacy bool, password func() ([]byte, error)) ([]byte, error) {
	if password == nil {
		return nil, fmt.Errorf("the private key is encrypted and there is no %w for it", ErrPassword)
	}
	secret, err := password()
	if err != nil {
		return nil, fmt.Errorf("%w of the private key: %w", ErrPassword, err)
	}
	if !legacy {
		return decryptPKCS8(block.Bytes, secret, maxIterations)
	}
	der, err := x509.DecryptPEMBlock(block, secret) //nolint:staticcheck // see above
	if errors.Is(err, x509.IncorrectPasswordError) {
		return nil, errWrongPassword
	}
	if err != nil {
		return nil, unsupported("decrypt the private key: %w", err)
	}
	return der, nil
}

// newParsedKey takes what the parsers of crypto/x509 return.
func newParsedKey(parsed any) (*Key, error) {
	switch parsed := parsed.(type) {
	case *ecdsa.PrivateKey:
		return NewKey(parsed)
	case *rsa.PrivateKey:
		return NewKey(parsed)
	case ed25519.PrivateKey:
		return NewKey(parsed)
	}
	return nil, unsupported("a private key of type %T is not supported", parsed)
}

// The types of PEM blocks (RFC 7468 and openssl).
const (
	pemPKCS8          = "PRIVATE KEY"
	pemEncryptedPKCS8 = "ENCRYPTED PRIVATE KEY"
	pemPKCS1          = "RSA PRIVATE KEY"
	pemSEC1           = "EC PRIVATE KEY"
)

// EncodePEM returns the key in PEM: in PKCS#8 if enc is empty. A nil password
// leaves it in the clear. Otherwise it is encrypted with PBES2 (RFC 8018):
// PBKDF2 with HMAC-SHA-256 and 600,000 iterations, AES-256-CBC. That exists for
// PKCS#8 only, and an empty password is an error that wraps ErrPassword.
func (k *Key) EncodePEM(enc spec.Encoding, password []byte) ([]byte, error) {
	if password != nil {
		return k.encodeEncrypted(enc, password)
	}
	block := &pem.Block{}
	var err error
	switch enc {
	case "", spec.PKCS8:
		block.Type = pemPKCS8
		block.Bytes, err = x509.MarshalPKCS8PrivateKey(k.Signer())
	case spec.PKCS1:
		key, ok := k.Signer().(*rsa.PrivateKey)
		if !ok {
			return nil, fmt.Errorf("a private key of %s cannot be encoded as %s", k.Algorithm(), enc)
		}
		block.Type, block.Bytes = pemPKCS1, x509.MarshalPKCS1PrivateKey(key)
	case spec.SEC1:
		key, ok := k.Signer().(*ecdsa.PrivateKey)
		if !ok {
			return nil, fmt.Errorf("a private key of %s cannot be encoded as %s", k.Algorithm(), enc)
		}
		block.Type = pemSEC1
		block.Bytes, err = x509.MarshalECPrivateKey(key)
	default:
		return nil, fmt.Errorf("private key encoding %q is not supported", enc)
	}
	if err != nil {
		return nil, fmt.Errorf("encode the private key: %w", err)
	}
	return pem.EncodeToMemory(block), nil
}

func (k *Key) encodeEncrypted(enc spec.Encoding, password []byte) ([]byte, error) {
	if enc != "" && enc != spec.PKCS8 {
		return nil, fmt.Errorf("a private key encoded as %s cannot be encrypted: use %s", enc, spec.PKCS8)
	}
	if len(password) == 0 {
		return nil, fmt.Errorf("the %w for the private key is empty", ErrPassword)
	}
	der, err := x509.MarshalPKCS8PrivateKey(k.Signer())
	if err != nil {
		return nil, fmt.Errorf("encode the private key: %w", err)
	}
	if der, err = encryptPKCS8(der, password, writeIterations); err != nil {
		return nil, fmt.Errorf("encrypt the private key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: pemEncryptedPKCS8, Bytes: der}), nil
}
