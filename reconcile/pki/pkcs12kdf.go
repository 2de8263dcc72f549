package pki

import (
	"bytes"
	"crypto/cipher"
	"crypto/des"  //nolint:gosec // what old importers read
	"crypto/sha1" //nolint:gosec // as above
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"hash"
	"unicode/utf16"
)

var (
	oidPBE3DES   = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 12, 1, 3}
	oidPBERC2128 = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 12, 1, 5}
	oidPBERC240  = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 12, 1, 6}
)

// pbeCiphers are the password-based ciphers of PKCS#12 itself (RFC 7292,
// appendix C). PBES2 has taken their place.
var pbeCiphers = []struct {
	oid     asn1.ObjectIdentifier
	keySize int // bytes
	block   func(key []byte) (cipher.Block, error)
}{
	{oidPBE3DES, 24, des.NewTripleDESCipher},
	{oidPBERC2128, 16, newRC2},
	{oidPBERC240, 5, newRC2},
}

// pbeParams is pkcs-12PbeParams (RFC 7292, appendix C).
type pbeParams struct {
	Salt       []byte
	Iterations int
}

// The purposes of derived bytes (RFC 7292, appendix B.3).
const (
	kdfKey = 1
	kdfIV  = 2
	kdfMAC = 3
)

// pkcs12Derive derives bytes from a password (RFC 7292, appendix B.2).
func pkcs12Derive(h func() hash.Hash, purpose byte, password, salt []byte, iterations, size int) []byte {
	digest := h()
	block := digest.BlockSize()
	fill := func(b []byte) []byte {
		if len(b) == 0 {
			return nil
		}
		out := make([]byte, (len(b)+block-1)/block*block)
		for i := range out {
			out[i] = b[i%len(b)]
		}
		return out
	}
	diversifier := bytes.Repeat([]byte{purpose}, block)
	input := append(fill(salt), fill(password)...)
	var derived []byte
	for {
		digest.Reset()
		digest.Write(diversifier)
		digest.Write(input)
		a := digest.Sum(nil)
		for range iterations - 1 {
			digest.Reset()
			digest.Write(a)
			a = digest.Sum(a[:0])
		}
		if derived = append(derived, a...); len(derived) >= size {
			return derived[:size]
		}
		for at := 0; at < len(input); at += block {
			carry := 1
			for i := block - 1; i >= 0; i-- {
				carry += int(input[at+i]) + int(a[i%len(a)])
				input[at+i] = byte(carry)
				carry >>= 8
			}
		}
	}
}

// bmpString returns UTF-16 in network order. PKCS#12 and Java have no other text.
func bmpString(s string) []byte {
	var out []byte
	for _, u := range utf16.Encode([]rune(s)) {
		out = append(out, byte(u>>8), byte(u))
	}
	return out
}

// p12Password is a password as the parts of PKCS#12 want it.
type p12Password struct {
	utf8 []byte // for PBES2 and PBMAC1
	bmp  []byte // with two zero bytes at its end, for everything else
}

func newP12Password(password []byte) p12Password {
	return p12Password{password, append(bmpString(string(password)), 0, 0)}
}

// pbeBlock returns the cipher of one of pbeCiphers, keyed, and its
// initialization vector; nil if the algorithm is none of them.
func pbeBlock(algorithm pkix.AlgorithmIdentifier, password p12Password, iterationLimit int) (cipher.Block, []byte, error) {
	for _, c := range pbeCiphers {
		if !c.oid.Equal(algorithm.Algorithm) {
			continue
		}
		var p pbeParams
		if err := unmarshal(algorithm.Parameters.FullBytes, &p); err != nil {
			return nil, nil, fmt.Errorf("malformed encryption parameters: %w", err)
		}
		if err := checkIterations(p.Iterations, iterationLimit); err != nil {
			return nil, nil, err
		}
		block, err := c.block(pkcs12Derive(sha1.New, kdfKey, password.bmp, p.Salt, p.Iterations, c.keySize))
		if err != nil {
			return nil, nil, err
		}
		return block, pkcs12Derive(sha1.New, kdfIV, password.bmp, p.Salt, p.Iterations, block.BlockSize()), nil
	}
	return nil, nil, nil
}

func checkIterations(n, limit int) error {
	switch {
	case n < 1:
		return errors.New("malformed encryption parameters: no iterations")
	case n > limit:
		return unsupported("%d iterations are more than the %d that are supported", n, limit)
	}
	return nil
}

// p12Decrypt decrypts a part of a PKCS#12 file.
func p12Decrypt(enc encryptedKey, password p12Password, iterationLimit int) ([]byte, error) {
	if enc.Algorithm.Algorithm.Equal(oidPBES2) {
		return decryptPBES2(enc, password.utf8, iterationLimit)
	}
	block, iv, err := pbeBlock(enc.Algorithm, password, iterationLimit)
	if err != nil {
		return nil, err
	}
	if block == nil {
		return nil, unsupported("encryption with algorithm %v is not supported", enc.Algorithm.Algorithm)
	}
	return decryptCBC(block, iv, enc.Data)
}

// p12Encrypt encrypts a part of a PKCS#12 file.
func p12Encrypt(data []byte, algorithm asn1.ObjectIdentifier, password p12Password, salt []byte, iterations int) (encryptedKey, error) {
	if algorithm.Equal(oidPBES2) {
		return encryptPBES2(data, password.utf8, iterations)
	}
	params, err := asn1.Marshal(pbeParams{salt, iterations})
	if err != nil {
		return encryptedKey{}, err
	}
	enc := encryptedKey{Algorithm: pkix.AlgorithmIdentifier{Algorithm: algorithm, Parameters: asn1.RawValue{FullBytes: params}}}
	block, iv, err := pbeBlock(enc.Algorithm, password, iterations)
	if err != nil {
		return encryptedKey{}, err
	}
	enc.Data = encryptCBC(block, iv, data)
	return enc, nil
}
