package handshake

import (
	"bytes"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	_ "crypto/sha256" // for crypto.SHA256
	_ "crypto/sha512" // for crypto.SHA384
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"hash"
	"slices"
	"strings"

	"golang.org/x/crypto/chacha20poly1305"
)

// secrets are what crypto/tls writes to a KeyLogWriter, by label. They are kept
// for the time of one handshake and go nowhere.
type secrets map[string][]byte

// Write takes lines of the NSS key log format: label, client random, secret.
func (s secrets) Write(p []byte) (int, error) {
	for line := range bytes.Lines(p) {
		fields := bytes.Fields(line)
		if len(fields) != 3 {
			continue
		}
		secret := make([]byte, hex.DecodedLen(len(fields[2])))
		if _, err := hex.Decode(secret, fields[2]); err == nil {
			s[string(fields[0])] = secret
		}
	}
	return len(p), nil
}

func (s secrets) wipe() {
	for _, secret := range s {
		clear(secret)
	}
	clear(s)
}

// suite is how records are protected.
type suite struct {
	hash   crypto.Hash
	key    int // bytes
	salt   int // bytes of the nonce that are fixed
	chacha bool
}

// suiteOf returns how a cipher suite protects records; false for those that are
// not decrypted here, which are the ones with CBC and RC4.
func suiteOf(id uint16) (suite, bool) {
	name := tls.CipherSuiteName(id)
	s := suite{hash: crypto.SHA256, key: 16, salt: 4}
	switch {
	case strings.HasSuffix(name, "AES_128_GCM_SHA256"):
	case strings.HasSuffix(name, "AES_256_GCM_SHA384"):
		s.hash, s.key = crypto.SHA384, 32
	case strings.HasSuffix(name, "CHACHA20_POLY1305_SHA256"):
		s.key, s.salt, s.chacha = 32, 12, true
	default:
		return suite{}, false
	}
	return s, true
}

func (s suite) aead(key []byte) (cipher.AEAD, error) {
	if s.chacha {
		return chacha20poly1305.New(key)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// expandLabel is HKDF-Expand-Label with an empty context (RFC 8446, section 7.1).
func (s suite) expandLabel(secret []byte, label string, length int) ([]byte, error) {
	label = "tls13 " + label
	info := binary.BigEndian.AppendUint16(nil, uint16(length))
	info = append(info, byte(len(label)))
	info = append(info, label...)
	info = append(info, 0)
	return hkdf.Expand(s.hash.New, secret, string(info), length)
}

// expandKeys returns both sides' keys and salts from the master secret of TLS 1.2
// (RFC 5246, section 6.3).
func (s suite) expandKeys(master, clientRandom, serverRandom []byte) (keys, salts map[Side][]byte) {
	seed := slices.Concat([]byte("key expansion"), serverRandom, clientRandom)
	block := pHash(s.hash.New, master, seed, 2*(s.key+s.salt))
	next := func(n int) []byte {
		out := block[:n]
		block = block[n:]
		return out
	}
	keys, salts = map[Side][]byte{}, map[Side][]byte{}
	keys[Client], keys[Server] = next(s.key), next(s.key)
	salts[Client], salts[Server] = next(s.salt), next(s.salt)
	return keys, salts
}

// pHash is P_hash (RFC 5246, section 5).
func pHash(h func() hash.Hash, secret, seed []byte, length int) []byte {
	sum := func(parts ...[]byte) []byte {
		mac := hmac.New(h, secret)
		for _, p := range parts {
			mac.Write(p)
		}
		return mac.Sum(nil)
	}
	var out []byte
	for a := sum(seed); len(out) < length; a = sum(a) {
		out = append(out, sum(a, seed)...)
	}
	return out[:length]
}

// opener decrypts the records of one side under one key.
type opener struct {
	aead cipher.AEAD
	iv   []byte // 12 bytes, or 4 for GCM in TLS 1.2
	seq  uint64
	v13  bool
}

var errShort = errors.New("record too short")

// open returns the content of a protected record and its type.
func (o *opener) open(typ byte, data []byte) (byte, []byte, error) {
	var nonce, aad []byte
	sealed := data
	seq := binary.BigEndian.AppendUint64(nil, o.seq)
	if len(o.iv) == 4 { // RFC 5288, section 3
		if len(data) < 8 {
			return 0, nil, errShort
		}
		nonce, sealed = slices.Concat(o.iv, data[:8]), data[8:]
	} else { // RFC 8446, section 5.3; RFC 7905, section 2
		nonce = slices.Clone(o.iv)
		for i, b := range seq {
			nonce[4+i] ^= b
		}
	}
	if len(sealed) < o.aead.Overhead() {
		return 0, nil, errShort
	}
	if o.v13 {
		aad = append(aad, typ, 3, 3)
		aad = binary.BigEndian.AppendUint16(aad, uint16(len(data)))
	} else {
		aad = append(seq, typ, 3, 3)
		aad = binary.BigEndian.AppendUint16(aad, uint16(len(sealed)-o.aead.Overhead()))
	}
	plain, err := o.aead.Open(nil, nonce, sealed, aad)
	if err != nil {
		return 0, nil, err
	}
	o.seq++
	if !o.v13 {
		return typ, plain, nil
	}
	plain = bytes.TrimRight(plain, "\x00")
	if len(plain) == 0 {
		return 0, nil, errShort
	}
	return plain[len(plain)-1], plain[:len(plain)-1], nil
}
