package pki

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/des" //nolint:gosec // read only: openssl wrote keys with 3DES for decades
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha1" //nolint:gosec // as HMAC, the default of RFC 8018
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"hash"
)

// maxIterations bounds PBKDF2, so that a hostile file cannot keep us busy for
// hours: ten million take some seconds.
const maxIterations = 10_000_000

// writeIterations is what OWASP recommends for PBKDF2 with HMAC-SHA-256.
const writeIterations = 600_000

// encryptedKey is EncryptedPrivateKeyInfo (RFC 5208, section 6).
type encryptedKey struct {
	Algorithm pkix.AlgorithmIdentifier
	Data      []byte
}

// pbes2Params is PBES2-params (RFC 8018, section A.4).
type pbes2Params struct {
	KDF, Cipher pkix.AlgorithmIdentifier
}

// pbkdf2Params is PBKDF2-params (RFC 8018, section A.2). That the salt may also
// come from another source was never used by anybody.
type pbkdf2Params struct {
	Salt       []byte
	Iterations int
	KeyLength  int                      `asn1:"optional"`
	PRF        pkix.AlgorithmIdentifier `asn1:"optional"`
}

var (
	oidPBES2  = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 13}
	oidPBKDF2 = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 12}
	oidScrypt = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11591, 4, 11}

	oidHMACWithSHA256 = asn1.ObjectIdentifier{1, 2, 840, 113549, 2, 9}
	oidAES256CBC      = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 42}
)

var pbkdf2PRFs = []struct {
	oid  asn1.ObjectIdentifier
	hash func() hash.Hash
}{
	{asn1.ObjectIdentifier{1, 2, 840, 113549, 2, 7}, sha1.New},
	{asn1.ObjectIdentifier{1, 2, 840, 113549, 2, 8}, sha256.New224},
	{oidHMACWithSHA256, sha256.New},
	{asn1.ObjectIdentifier{1, 2, 840, 113549, 2, 10}, sha512.New384},
	{asn1.ObjectIdentifier{1, 2, 840, 113549, 2, 11}, sha512.New},
}

var pbes2Ciphers = []struct {
	oid     asn1.ObjectIdentifier
	keySize int // bytes
	block   func(key []byte) (cipher.Block, error)
}{
	{asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 2}, 16, aes.NewCipher},
	{asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 22}, 24, aes.NewCipher},
	{oidAES256CBC, 32, aes.NewCipher},
	{asn1.ObjectIdentifier{1, 2, 840, 113549, 3, 7}, 24, des.NewTripleDESCipher},
}

// decryptPKCS8 returns the PrivateKeyInfo in an EncryptedPrivateKeyInfo. A wrong
// password is an error that wraps ErrPassword.
func decryptPKCS8(der, password []byte, iterationLimit int) ([]byte, error) {
	var enc encryptedKey
	if err := unmarshal(der, &enc); err != nil {
		return nil, fmt.Errorf("malformed encrypted private key: %w", err)
	}
	if !enc.Algorithm.Algorithm.Equal(oidPBES2) {
		return nil, unsupported("a private key encrypted with algorithm %v is not supported: use PBES2", enc.Algorithm.Algorithm)
	}
	return decryptPBES2(enc, password, iterationLimit)
}

// decryptPBES2 is decryptPKCS8 for what is known to be encrypted with PBES2.
func decryptPBES2(enc encryptedKey, password []byte, iterationLimit int) ([]byte, error) {
	var params pbes2Params
	if err := unmarshal(enc.Algorithm.Parameters.FullBytes, &params); err != nil {
		return nil, fmt.Errorf("malformed encrypted private key: PBES2: %w", err)
	}

	block, iv, err := pbes2Block(params, password, iterationLimit)
	if err != nil {
		return nil, err
	}
	return decryptCBC(block, iv, enc.Data)
}

// decryptCBC decrypts and takes the padding off (RFC 8018, section 6.1.2). Wrong
// padding is an error that wraps ErrPassword.
func decryptCBC(block cipher.Block, iv, data []byte) ([]byte, error) {
	size := block.BlockSize()
	if len(data) == 0 || len(data)%size != 0 {
		return nil, errors.New("malformed encrypted private key: not a whole number of blocks")
	}
	plain := make([]byte, len(data))
	cipher.NewCBCDecrypter(block, iv).CryptBlocks(plain, data)
	pad := int(plain[len(plain)-1])
	if pad == 0 || pad > size || !bytes.HasSuffix(plain, bytes.Repeat([]byte{byte(pad)}, pad)) {
		return nil, errWrongPassword
	}
	return plain[:len(plain)-pad], nil
}

// pbes2Block returns the cipher, keyed, and its initialization vector.
func pbes2Block(params pbes2Params, password []byte, iterationLimit int) (cipher.Block, []byte, error) {
	for _, c := range pbes2Ciphers {
		if !params.Cipher.Algorithm.Equal(c.oid) {
			continue
		}
		key, err := pbes2Key(params.KDF, password, c.keySize, iterationLimit)
		if err != nil {
			return nil, nil, err
		}
		block, err := c.block(key)
		if err != nil {
			return nil, nil, fmt.Errorf("encrypted private key: %w", err)
		}
		var iv []byte
		if err := unmarshal(params.Cipher.Parameters.FullBytes, &iv); err != nil || len(iv) != block.BlockSize() {
			return nil, nil, errors.New("malformed encrypted private key: initialization vector")
		}
		return block, iv, nil
	}
	return nil, nil, unsupported("a private key encrypted with cipher %v is not supported: use AES-256-CBC", params.Cipher.Algorithm)
}

func pbes2Key(kdf pkix.AlgorithmIdentifier, password []byte, size, iterationLimit int) ([]byte, error) {
	switch {
	case kdf.Algorithm.Equal(oidScrypt):
		return nil, unsupported("a private key encrypted with scrypt is not supported: use PBKDF2")
	case !kdf.Algorithm.Equal(oidPBKDF2):
		return nil, unsupported("a private key encrypted with key derivation %v is not supported: use PBKDF2", kdf.Algorithm)
	}
	var p pbkdf2Params
	if err := unmarshal(kdf.Parameters.FullBytes, &p); err != nil {
		return nil, fmt.Errorf("malformed encrypted private key: PBKDF2: %w", err)
	}
	switch {
	case p.Iterations < 1:
		return nil, errors.New("malformed encrypted private key: PBKDF2: no iterations")
	case p.Iterations > iterationLimit:
		return nil, unsupported("encrypted private key: %d PBKDF2 iterations are more than the %d that are supported", p.Iterations, iterationLimit)
	case p.KeyLength != 0 && p.KeyLength != size:
		return nil, fmt.Errorf("malformed encrypted private key: PBKDF2: %d bytes of key for a cipher that takes %d", p.KeyLength, size)
	}
	if p.PRF.Algorithm == nil {
		p.PRF.Algorithm = pbkdf2PRFs[0].oid // DEFAULT algid-hmacWithSHA1
	}
	for _, prf := range pbkdf2PRFs {
		if prf.oid.Equal(p.PRF.Algorithm) {
			return pbkdf2.Key(prf.hash, string(password), p.Salt, p.Iterations, size)
		}
	}
	return nil, unsupported("a private key encrypted with PBKDF2 and function %v is not supported: use HMAC-SHA-256", p.PRF.Algorithm)
}

// encryptPKCS8 returns an EncryptedPrivateKeyInfo around a PrivateKeyInfo.
func encryptPKCS8(der, password []byte, iterations int) ([]byte, error) {
	enc, err := encryptPBES2(der, password, iterations)
	if err != nil {
		return nil, err
	}
	return asn1.Marshal(enc)
}

func encryptPBES2(data, password []byte, iterations int) (encryptedKey, error) {
	var salt, iv [16]byte
	_, _ = rand.Read(salt[:]) // never fails
	_, _ = rand.Read(iv[:])

	null := asn1.RawValue{FullBytes: []byte{asn1.TagNull, 0}}
	kdf, err := asn1.Marshal(pbkdf2Params{
		Salt:       salt[:],
		Iterations: iterations,
		PRF:        pkix.AlgorithmIdentifier{Algorithm: oidHMACWithSHA256, Parameters: null},
	})
	if err != nil {
		return encryptedKey{}, err
	}
	vector, err := asn1.Marshal(iv[:])
	if err != nil {
		return encryptedKey{}, err
	}
	params, err := asn1.Marshal(pbes2Params{
		KDF:    pkix.AlgorithmIdentifier{Algorithm: oidPBKDF2, Parameters: asn1.RawValue{FullBytes: kdf}},
		Cipher: pkix.AlgorithmIdentifier{Algorithm: oidAES256CBC, Parameters: asn1.RawValue{FullBytes: vector}},
	})
	if err != nil {
		return encryptedKey{}, err
	}

	key, err := pbkdf2.Key(sha256.New, string(password), salt[:], iterations, 32)
	if err != nil {
		return encryptedKey{}, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return encryptedKey{}, err
	}
	return encryptedKey{
		Algorithm: pkix.AlgorithmIdentifier{Algorithm: oidPBES2, Parameters: asn1.RawValue{FullBytes: params}},
		Data:      encryptCBC(block, iv[:], data),
	}, nil
}

func encryptCBC(block cipher.Block, iv, plain []byte) []byte {
	pad := block.BlockSize() - len(plain)%block.BlockSize()
	data := append(bytes.Clone(plain), bytes.Repeat([]byte{byte(pad)}, pad)...)
	cipher.NewCBCEncrypter(block, iv).CryptBlocks(data, data)
	return data
}

// unmarshal is asn1.Unmarshal for input that must hold nothing else.
func unmarshal(der []byte, v any) error {
	rest, err := asn1.Unmarshal(der, v)
	if err == nil && len(rest) > 0 {
		err = errors.New("trailing data")
	}
	return err
}
