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

// pbeParameters returns the parameters of a password-based cipher of PKCS#12 itself
// (RFC 7292, appendix C). PBES2 has taken the place of these.
func pbeParameters(algorithm pkix.AlgorithmIdentifier, iterationLimit int) (pbeParams, error) {
	var p pbeParams
	if err := unmarshal(algorithm.Parameters.FullBytes, &p); err != nil {
		return p, fmt.Errorf("malformed encryption parameters: %w", err)
	}
	return p, checkIterations(p.Iterations, iterationLimit)
}

// pbe3DES returns the keyed cipher and its initialization vector.
func pbe3DES(p pbeParams, password p12Password) (cipher.Block, []byte, error) {
	block, err := des.NewTripleDESCipher(pkcs12Derive(sha1.New, kdfKey, password.bmp, p.Salt, p.Iterations, 24)) //nolint:gosec // what old importers read
	if err != nil {
		return nil, nil, err
	}
	return block, pkcs12Derive(sha1.New, kdfIV, password.bmp, p.Salt, p.Iterations, block.BlockSize()), nil
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
	switch algorithm := enc.Algorithm.Algorithm; {
	case algorithm.Equal(oidPBES2):
		return decryptPBES2(enc, password.utf8, iterationLimit)
	case isRC2(enc.Algorithm):
		return nil, unsupported("a private key encrypted with RC2 is not supported: convert it with openssl pkcs12 -legacy")
	case !algorithm.Equal(oidPBE3DES):
		return nil, unsupported("encryption with algorithm %v is not supported", algorithm)
	}
	params, err := pbeParameters(enc.Algorithm, iterationLimit)
	if err != nil {
		return nil, err
	}
	block, iv, err := pbe3DES(params, password)
	if err != nil {
		return nil, err
	}
	return decryptCBC(block, iv, enc.Data)
}

// p12Encrypt encrypts a part of a PKCS#12 file.
func p12Encrypt(data []byte, algorithm asn1.ObjectIdentifier, password p12Password, salt []byte, iterations int) (encryptedKey, error) {
	if algorithm.Equal(oidPBES2) {
		return encryptPBES2(data, password.utf8, iterations)
	}
	if !algorithm.Equal(oidPBE3DES) {
		return encryptedKey{}, fmt.Errorf("no encryption with algorithm %v", algorithm)
	}
	p := pbeParams{salt, iterations}
	params, err := asn1.Marshal(p)
	if err != nil {
		return encryptedKey{}, err
	}
	enc := encryptedKey{Algorithm: pkix.AlgorithmIdentifier{Algorithm: algorithm, Parameters: asn1.RawValue{FullBytes: params}}}
	block, iv, err := pbe3DES(p, password)
	if err != nil {
		return encryptedKey{}, err
	}
	enc.Data = encryptCBC(block, iv, data)
	return enc, nil
}
